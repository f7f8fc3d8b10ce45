#ifndef POT_ENGINE_BASE_STATUS_MACROS_H_
#define POT_ENGINE_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the enclosing function when `expr` (an absl::Status) is an
// error.
#define POT_RETURN_IF_ERROR(expr)                       \
  do {                                                  \
    absl::Status pot_status_ = (expr);                  \
    if (!pot_status_.ok()) return pot_status_;          \
  } while (false)

#define POT_STATUS_CONCAT_INNER_(a, b) a##b
#define POT_STATUS_CONCAT_(a, b) POT_STATUS_CONCAT_INNER_(a, b)
#define POT_ASSIGN_OR_RETURN_IMPL_(statusor, lhs, expr) \
  auto statusor = (expr);                               \
  if (!statusor.ok()) return std::move(statusor).status(); \
  lhs = *std::move(statusor)

// Assigns the value of `expr` (an absl::StatusOr) to `lhs`, which may declare
// a variable, or returns its error from the enclosing function.
#define POT_ASSIGN_OR_RETURN(lhs, expr) \
  POT_ASSIGN_OR_RETURN_IMPL_(           \
      POT_STATUS_CONCAT_(pot_statusor_, __LINE__), lhs, expr)

#endif  // POT_ENGINE_BASE_STATUS_MACROS_H_
