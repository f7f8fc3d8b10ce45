// Training texts: files joined to one text, and the part of it that is meant.
#ifndef POT_TRAINER_DATA_TEXT_SLICE_H_
#define POT_TRAINER_DATA_TEXT_SLICE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace pot {

// Of all the files of one text.
inline constexpr int64_t kMaxTrainingTextBytes = int64_t{4} << 30;

// The part [begin n, end n) of a text of n bytes, 0 <= begin < end <= 1. Both
// ends are rounded down and moved back to the beginning of a character, so that
// 0:0.8 and 0.8:0.9 neither overlap nor leave a gap.
struct TextSlice {
  double begin = 0;
  double end = 1;
};

// "0.8:0.9". INVALID_ARGUMENT, quoting it, for anything else.
absl::StatusOr<TextSlice> ParseTextSlice(absl::string_view spec);

// `text` is UTF-8. Possibly empty.
absl::string_view CutText(absl::string_view text, TextSlice slice);

// The files' contents, joined in this order with nothing between them; `ends`,
// which may be null, becomes the length of the text after each file.
// INVALID_ARGUMENT naming file, limit and given value when there is no file,
// when they exceed kMaxTrainingTextBytes, and naming file and byte when one is
// not UTF-8 by itself.
absl::StatusOr<std::string> ReadTexts(absl::Span<const std::string> paths,
                                      std::vector<int64_t>* ends = nullptr);

}  // namespace pot

#endif  // POT_TRAINER_DATA_TEXT_SLICE_H_
