#include "engine/gpt2/evaluation.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/gpt2/forward.h"
#include "engine/gpt2/kv_cache.h"
#include "engine/kernels/float_math.h"

namespace pot {
namespace {

// What a step of Evaluate() computes at once: as many rows as keep the matrix
// kernels busy, but no more logits than 16 MiB.
constexpr int64_t kStepRows = 512;
constexpr int64_t kStepLogits = int64_t{1} << 22;

int64_t ArgMax(absl::Span<const float> values) {
  return std::max_element(values.begin(), values.end()) - values.begin();
}

// Standard error of the mean of n values: sqrt((sum x^2 / n - mean^2) / n).
double StandardError(double sum, double sum_of_squares, int64_t n) {
  if (n == 0) return 0;
  const double mean = sum / n;
  return std::sqrt(std::max(sum_of_squares / n - mean * mean, 0.0) / n);
}

// Runs windows on one model, each on a cache of its own.
class WindowRunner {
 public:
  static absl::StatusOr<std::unique_ptr<WindowRunner>> Create(
      const ModelWeights& weights, int64_t window, int64_t windows,
      ThreadPool* pool) {
    const KvType type = weights.quantized ? KvType::kF16 : KvType::kF32;
    auto runner =
        std::unique_ptr<WindowRunner>(new WindowRunner(weights, pool));
    const auto budget = std::make_shared<KvBudget>(
        windows * KvCache::BytesFor(weights.config, type, window));
    for (int64_t i = 0; i < windows; ++i) {
      POT_ASSIGN_OR_RETURN(
          std::unique_ptr<KvCache> cache,
          KvCache::Create(weights.config, type, window, budget));
      runner->caches_.push_back(std::move(cache));
    }
    return runner;
  }

  // Inputs [begin, end) of every window that reaches so far; logits of those
  // that are counted, window by window.
  absl::Status Step(absl::Span<const WindowCutter::Window> windows,
                    int64_t begin, int64_t end) {
    std::vector<ForwardSpan> spans;
    for (size_t i = 0; i < windows.size(); ++i) {
      if (begin == 0) caches_[i]->Truncate(0);
      const int64_t inputs = windows[i].tokens.size() - 1;
      if (begin >= inputs) continue;
      spans.push_back({caches_[i].get(),
                       absl::MakeConstSpan(windows[i].tokens)
                           .subspan(begin, std::min(end, inputs) - begin),
                       end > windows[i].first_counted
                           ? ForwardSpan::Logits::kAll
                           : ForwardSpan::Logits::kNone});
    }
    return Forward(weights_, spans, pool_, &scratch_, &logits_);
  }

  const std::vector<float>& logits() const { return logits_; }

 private:
  WindowRunner(const ModelWeights& weights, ThreadPool* pool)
      : weights_(weights), pool_(pool) {}

  const ModelWeights& weights_;
  ThreadPool* const pool_;
  std::vector<std::unique_ptr<KvCache>> caches_;
  ForwardScratch scratch_;
  std::vector<float> logits_;
};

// Adds what WindowRunner::Step() gave logits for, and is counted.
void AddStep(absl::Span<const WindowCutter::Window> windows, int64_t begin,
             int64_t end, absl::Span<const float> logits,
             absl::Span<const float> reference_logits, int64_t V,
             const std::function<int64_t(int32_t)>& token_bytes,
             EvaluationSums* sums) {
  int64_t row = 0;
  for (const WindowCutter::Window& window : windows) {
    if (end <= window.first_counted) continue;  // ran without logits
    const int64_t inputs = window.tokens.size() - 1;
    for (int64_t i = begin; i < std::min(end, inputs); ++i, ++row) {
      if (i < window.first_counted) continue;
      const int32_t target = window.tokens[i + 1];
      AddPrediction(target, logits.subspan(row * V, V),
                    reference_logits.empty()
                        ? reference_logits
                        : reference_logits.subspan(row * V, V),
                    token_bytes(target), sums);
    }
  }
}

}  // namespace

double EvaluationSums::mean_nats() const {
  return tokens == 0 ? 0 : nats / tokens;
}

double EvaluationSums::perplexity() const { return Exp(mean_nats()); }

double EvaluationSums::bits_per_byte() const {
  constexpr double kLn2 = 0.69314718055994530942;
  return bytes == 0 ? 0 : nats / kLn2 / bytes;
}

double EvaluationSums::standard_error() const {
  return StandardError(nats, nats_squared, tokens);
}

double EvaluationSums::difference_standard_error() const {
  return StandardError(nats - reference_nats, difference_squared, tokens);
}

absl::Status ValidateProtocol(const EvaluationProtocol& protocol,
                              int64_t n_positions) {
  if (protocol.window < 1 || protocol.window > n_positions) {
    return absl::InvalidArgumentError(
        absl::StrCat("window must be 1 to the model's context of ", n_positions,
                     ", not ", protocol.window));
  }
  if (protocol.stride < 1 || protocol.stride > protocol.window) {
    return absl::InvalidArgumentError(
        absl::StrCat("stride must be 1 to the window of ", protocol.window,
                     ", not ", protocol.stride));
  }
  return absl::OkStatus();
}

WindowCutter::WindowCutter(EvaluationProtocol protocol) : protocol_(protocol) {}

std::vector<WindowCutter::Window> WindowCutter::Push(
    absl::Span<const int32_t> tokens) {
  pending_.insert(pending_.end(), tokens.begin(), tokens.end());
  std::vector<Window> windows;
  size_t begin = 0;  // of the next window, in pending_
  while (pending_.size() - begin > protocol_.window) {
    const auto first = pending_.begin() + begin;
    windows.push_back(
        {std::vector<int32_t>(first, first + protocol_.window + 1),
         counted_until_});
    begin += protocol_.stride;
    counted_until_ = protocol_.window - protocol_.stride;
  }
  pending_.erase(pending_.begin(), pending_.begin() + begin);
  return windows;
}

std::vector<WindowCutter::Window> WindowCutter::Finish() {
  std::vector<Window> windows;
  const int64_t predictions = static_cast<int64_t>(pending_.size()) - 1;
  if (predictions > counted_until_) {
    windows.push_back({std::move(pending_), counted_until_});
  }
  pending_.clear();
  counted_until_ = 0;
  return windows;
}

void AddPrediction(int32_t target, absl::Span<const float> logits,
                   absl::Span<const float> reference_logits,
                   int64_t target_bytes, EvaluationSums* sums) {
  const double log_sum = LogSumExp(logits.data(), logits.size());
  const double nats = log_sum - logits[target];
  sums->tokens += 1;
  sums->bytes += target_bytes;
  sums->nats += nats;
  sums->nats_squared += nats * nats;
  if (reference_logits.empty()) return;

  const double reference_log_sum =
      LogSumExp(reference_logits.data(), reference_logits.size());
  const double reference_nats = reference_log_sum - reference_logits[target];
  double kl = 0;
  for (size_t v = 0; v < logits.size(); ++v) {
    const double log_p = reference_logits[v] - reference_log_sum;
    const double p = Exp(log_p);
    if (p > 0) kl += p * (log_p - (logits[v] - log_sum));
  }
  sums->kl += kl;
  sums->top1_agreements += ArgMax(logits) == ArgMax(reference_logits);
  sums->reference_nats += reference_nats;
  sums->difference_squared += (nats - reference_nats) * (nats - reference_nats);
}

absl::StatusOr<EvaluationSums> Evaluate(
    const ModelWeights& weights, const ModelWeights* reference,
    absl::Span<const int32_t> tokens, EvaluationProtocol protocol,
    const std::function<int64_t(int32_t)>& token_bytes, ThreadPool* pool,
    const std::function<bool(int64_t, int64_t)>& progress) {
  const int64_t V = weights.config.vocab_size;
  POT_RETURN_IF_ERROR(ValidateProtocol(protocol, weights.config.n_positions));
  if (reference != nullptr) {
    POT_RETURN_IF_ERROR(
        ValidateProtocol(protocol, reference->config.n_positions));
    if (reference->config.vocab_size != V) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the reference's vocabulary of ", reference->config.vocab_size,
          " differs from the model's of ", V));
    }
  }

  // Several short windows run together, a long one chunk by chunk.
  const int64_t step_rows = std::clamp<int64_t>(kStepLogits / V, 1, kStepRows);
  const int64_t batch = std::max<int64_t>(1, step_rows / protocol.window);
  const int64_t chunk = std::min(protocol.window, step_rows);
  POT_ASSIGN_OR_RETURN(
      const std::unique_ptr<WindowRunner> runner,
      WindowRunner::Create(weights, protocol.window, batch, pool));
  std::unique_ptr<WindowRunner> reference_runner;
  if (reference != nullptr) {
    POT_ASSIGN_OR_RETURN(
        reference_runner,
        WindowRunner::Create(*reference, protocol.window, batch, pool));
  }

  EvaluationSums sums;
  const int64_t total = std::max<int64_t>(0, tokens.size() - 1);
  const auto run = [&](absl::Span<const WindowCutter::Window> windows) {
    for (int64_t begin = 0; begin < protocol.window; begin += chunk) {
      const int64_t end = std::min(begin + chunk, protocol.window);
      POT_RETURN_IF_ERROR(runner->Step(windows, begin, end));
      if (reference_runner != nullptr) {
        POT_RETURN_IF_ERROR(reference_runner->Step(windows, begin, end));
      }
      AddStep(windows, begin, end, runner->logits(),
              reference_runner == nullptr ? absl::Span<const float>()
                                          : reference_runner->logits(),
              V, token_bytes, &sums);
      // One logit that is infinite or not a number makes its sum so.
      if (!std::isfinite(sums.nats) || !std::isfinite(sums.reference_nats)) {
        return absl::DataLossError(absl::StrCat(
            "the model's logits are not finite near token ", sums.tokens));
      }
    }
    if (progress != nullptr && !progress(sums.tokens, total)) {
      return absl::CancelledError("evaluation was cancelled");
    }
    return absl::OkStatus();
  };

  WindowCutter cutter(protocol);
  std::vector<WindowCutter::Window> waiting;  // never more than `batch`
  const auto add = [&](std::vector<WindowCutter::Window> windows) {
    for (WindowCutter::Window& window : windows) {
      waiting.push_back(std::move(window));
      if (static_cast<int64_t>(waiting.size()) < batch) continue;
      POT_RETURN_IF_ERROR(run(waiting));
      waiting.clear();
    }
    return absl::OkStatus();
  };
  for (size_t at = 0; at < tokens.size(); at += kStepRows) {
    POT_RETURN_IF_ERROR(add(cutter.Push(tokens.subspan(at, kStepRows))));
  }
  POT_RETURN_IF_ERROR(add(cutter.Finish()));
  if (!waiting.empty()) POT_RETURN_IF_ERROR(run(waiting));
  return sums;
}

}  // namespace pot
