#ifndef POT_ENGINE_QUANT_GRANULARITY_H_
#define POT_ENGINE_QUANT_GRANULARITY_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pot {

// How many weights share one scale: the whole tensor, one output row, or a
// group of 32, 64 or 128 consecutive inputs of one output. The last group of a
// row is shorter when the group size does not divide the row.
//
// With power_of_two the scale of a group is a float of its row times a power of
// two of either sign, or 0: one of the 16 levels of pot4. A row's products then
// stay integers to its end.
struct Granularity {
  enum class Kind { kTensor, kRow, kGroup };
  Kind kind = Kind::kRow;
  int group_size = 0;         // 32, 64 or 128 with kGroup, else 0
  bool power_of_two = false;  // with kGroup alone

  // Scales per row for rows of `cols` weights; 1 for kTensor and kRow.
  int64_t GroupsPerRow(int64_t cols) const;
  // Weights of a row that share a scale; `cols` for kTensor and kRow.
  int64_t GroupSize(int64_t cols) const;

  // "tensor", "row", "g32", "g64", "g128", "g32p2", "g64p2", "g128p2".
  std::string ToString() const;
  static absl::StatusOr<Granularity> Parse(absl::string_view text);

  bool operator==(const Granularity&) const = default;
};

}  // namespace pot

#endif  // POT_ENGINE_QUANT_GRANULARITY_H_
