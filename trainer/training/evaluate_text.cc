#include "trainer/training/evaluate_text.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/base/status_macros.h"

namespace pot {
namespace {

// Rows of one forward pass.
constexpr int64_t kRows = 1024;

}  // namespace

absl::StatusOr<LossSums> EvaluateText(const TokenCorpus& tokens,
                                      EvaluationProtocol protocol,
                                      int64_t max_tokens,
                                      const std::function<bool()>& stop,
                                      Objective<float>* objective,
                                      const LossOptions& loss) {
  const int64_t size =
      max_tokens < 0 ? tokens.size() : std::min(max_tokens, tokens.size());
  LossSums sums;
  std::vector<int32_t> inputs, targets, window(protocol.window + 1);
  // Windows of one length, together.
  const auto flush = [&](int64_t context) -> absl::Status {
    if (inputs.empty()) return absl::OkStatus();
    POT_ASSIGN_OR_RETURN(
        const LossSums part,
        objective->Evaluate(
            {{.sequences = static_cast<int64_t>(inputs.size()) / context,
              .context = context,
              .tokens = inputs.data()},
             targets.data()},
            loss));
    sums.Add(part);
    inputs.clear();
    targets.clear();
    return absl::OkStatus();
  };
  int64_t counted = 1;  // tokens that were predicted, and the first one
  for (int64_t begin = 0; counted < size; begin += protocol.stride) {
    const int64_t context = std::min(protocol.window, size - 1 - begin);
    if (context < protocol.window) {
      POT_RETURN_IF_ERROR(flush(protocol.window));
    }
    const absl::Span<int32_t> text =
        absl::MakeSpan(window).subspan(0, context + 1);
    tokens.Copy(begin, text);
    inputs.insert(inputs.end(), text.begin(), text.end() - 1);
    for (int64_t i = 1; i <= context; ++i) {
      targets.push_back(begin + i < counted ? kNoTarget : text[i]);
    }
    counted = begin + context + 1;
    if (static_cast<int64_t>(inputs.size()) >= kRows ||
        context < protocol.window) {
      if (stop != nullptr && stop()) {
        return absl::CancelledError("the evaluation was stopped");
      }
      POT_RETURN_IF_ERROR(flush(context));
    }
  }
  POT_RETURN_IF_ERROR(flush(protocol.window));
  return sums;
}

double StandardError(const LossSums& sums) {
  if (sums.predictions < 2) return 0;
  const auto n = static_cast<double>(sums.predictions);
  const double mean = sums.nats / n;
  return std::sqrt(std::max(0.0, sums.nats_squared / n - mean * mean) / n);
}

}  // namespace pot
