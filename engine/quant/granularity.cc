#include "engine/quant/granularity.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/quote.h"

namespace pot {

int64_t Granularity::GroupSize(int64_t cols) const {
  return kind == Kind::kGroup ? group_size : cols;
}

int64_t Granularity::GroupsPerRow(int64_t cols) const {
  if (kind != Kind::kGroup) return 1;
  return cols / group_size + (cols % group_size != 0 ? 1 : 0);
}

std::string Granularity::ToString() const {
  switch (kind) {
    case Kind::kTensor:
      return "tensor";
    case Kind::kRow:
      return "row";
    case Kind::kGroup:
      break;
  }
  return absl::StrCat("g", group_size, power_of_two ? "p2" : "");
}

absl::StatusOr<Granularity> Granularity::Parse(absl::string_view text) {
  if (text == "tensor") return Granularity{Kind::kTensor, 0};
  if (text == "row") return Granularity{Kind::kRow, 0};
  for (const int size : {32, 64, 128}) {
    for (const bool power_of_two : {false, true}) {
      const Granularity group{Kind::kGroup, size, power_of_two};
      if (text == group.ToString()) return group;
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown granularity ", Quote(text),
                   "; known are tensor, row, g32, g64, g128, g32p2, "
                   "g64p2, g128p2"));
}

}  // namespace pot
