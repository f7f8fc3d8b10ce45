#ifndef POT_SERVER_SECURITY_SCOPE_H_
#define POT_SERVER_SECURITY_SCOPE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace pot {

// What a key may do. None implies another.
enum class Scope : uint8_t {
  kInfer = 1,   // generate, score, tokenize; look at models
  kAdmin = 2,   // load, register, import, delete, move aliases
  kTrain = 4,   // QAT jobs and their texts
  kWorker = 8,  // be a trainer
};

// A set of scopes: the union of their values.
using ScopeSet = uint8_t;

constexpr ScopeSet ScopesOf(Scope scope) {
  return static_cast<ScopeSet>(scope);
}
template <typename... Rest>
constexpr ScopeSet ScopesOf(Scope first, Rest... rest) {
  return static_cast<ScopeSet>(ScopesOf(first) | ScopesOf(rest...));
}

// "infer,train". INVALID_ARGUMENT, listing the names, for an empty list, an
// unknown or a repeated name.
absl::StatusOr<ScopeSet> ParseScopes(absl::string_view text);

// "infer,train", in the order of the enum, with `separator`.
std::string ScopeNames(ScopeSet scopes, absl::string_view separator = ",");

// One method of the API, and the scopes of which each alone suffices.
struct MethodScope {
  const char* service;  // "pot.v1.InferenceService"
  const char* method;   // "Generate"; unique over all services
  ScopeSet scopes;
};

// Every method of the package pot.v1.
absl::Span<const MethodScope> MethodScopes();

// Of a method by its name alone; empty, which no key satisfies, for one that is
// not in the table.
ScopeSet ScopesForMethod(absl::string_view method);

}  // namespace pot

#endif  // POT_SERVER_SECURITY_SCOPE_H_
