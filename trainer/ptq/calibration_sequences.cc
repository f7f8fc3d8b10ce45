#include "trainer/ptq/calibration_sequences.h"

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

namespace pot {

absl::StatusOr<CalibrationSequences> CalibrationSequences::Create(
    const TokenCorpus& text, const Gpt2Config& config, int64_t context) {
  if (context < 1 || context > config.n_positions) {
    return absl::InvalidArgumentError(
        absl::StrCat("calibration sequences must have 1 to ",
                     config.n_positions, " tokens, not ", context));
  }
  CalibrationSequences result;
  result.context_ = context;
  result.count_ = text.size() / context;
  if (result.count_ == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("the calibration text has ", text.size(),
                     " tokens; one sequence of ", context, " is the least"));
  }
  result.tokens_.resize(result.count_ * context);
  text.Copy(0, absl::MakeSpan(result.tokens_));
  return result;
}

std::vector<int32_t> CalibrationSequences::Sample(int64_t tokens,
                                                  int64_t context) const {
  context = std::min(context, context_);
  const int64_t count =
      std::min(count_, std::max<int64_t>(1, tokens / context));
  std::vector<int32_t> sample;
  for (int64_t i = 0; i < count; ++i) {
    const auto first = tokens_.begin() + i * count_ / count * context_;
    sample.insert(sample.end(), first, first + context);
  }
  return sample;
}

}  // namespace pot
