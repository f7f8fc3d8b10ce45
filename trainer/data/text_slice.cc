#include "trainer/data/text_slice.h"

#include <cstddef>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/file.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"

namespace pot {

absl::StatusOr<TextSlice> ParseTextSlice(absl::string_view spec) {
  const std::vector<absl::string_view> ends = absl::StrSplit(spec, ':');
  TextSlice slice;
  if (ends.size() != 2 || !absl::SimpleAtod(ends[0], &slice.begin) ||
      !absl::SimpleAtod(ends[1], &slice.end) || !(slice.begin >= 0) ||
      !(slice.begin < slice.end) || !(slice.end <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a slice is BEGIN:END with 0 <= BEGIN < END <= 1, not ", Quote(spec)));
  }
  return slice;
}

absl::string_view CutText(absl::string_view text, TextSlice slice) {
  const auto offset = [&](double share) {
    auto at = static_cast<size_t>(share * static_cast<double>(text.size()));
    while (at > 0 && at < text.size() && (text[at] & 0xc0) == 0x80) --at;
    return at;
  };
  const size_t begin = offset(slice.begin);
  return text.substr(begin, offset(slice.end) - begin);
}

absl::StatusOr<std::string> ReadTexts(absl::Span<const std::string> paths,
                                      std::vector<int64_t>* ends) {
  if (paths.empty()) return absl::InvalidArgumentError("no text file is given");
  if (ends != nullptr) ends->clear();
  std::string joined;
  for (const std::string& path : paths) {
    POT_ASSIGN_OR_RETURN(
        std::string text,
        ReadFile(path, static_cast<size_t>(kMaxTrainingTextBytes)));
    const size_t invalid = FindInvalidUtf8(text);
    if (invalid != text.size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, " is not UTF-8: byte ", invalid, " begins no valid sequence"));
    }
    if (joined.size() + text.size() >
        static_cast<size_t>(kMaxTrainingTextBytes)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the text files up to ", path, " have ", joined.size() + text.size(),
          " bytes, more than the limit of ", kMaxTrainingTextBytes));
    }
    if (joined.empty()) {
      joined = std::move(text);
    } else {
      joined += text;
    }
    if (ends != nullptr) ends->push_back(static_cast<int64_t>(joined.size()));
  }
  return joined;
}

}  // namespace pot
