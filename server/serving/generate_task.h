// A request on its way through the scheduler, and the channel of its results.
#ifndef POT_SERVER_SERVING_GENERATE_TASK_H_
#define POT_SERVER_SERVING_GENERATE_TASK_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/gpt2/evaluation.h"
#include "engine/loaded_model.h"
#include "engine/sampling/sampler.h"
#include "engine/sampling/sampling_params.h"

namespace pot {

enum class FinishReason { kNone, kLength, kStopString, kStopToken, kEndOfText };

// News of one sequence: text and tokens since the event before.
struct TokenEvent {
  int index = 0;     // 0 .. n-1
  std::string text;  // whole UTF-8, nothing that may yet be a stop string
  std::vector<int32_t> ids;
  std::vector<SampledToken> logprobs;  // one per id when asked for
  // Xxh64() of the logits that each id was drawn from, when asked for.
  std::vector<uint64_t> logits_checksums;
  // Set in the sequence's last event and only there, with what follows.
  FinishReason finish = FinishReason::kNone;
  int stop_string = -1;  // index into GenerateTask::stop_strings
  std::optional<int32_t> stop_token_id;
  double cumulative_logprob = 0;
};

struct TaskUsage {
  int64_t prompt_tokens = 0;
  int64_t cached_prompt_tokens = 0;  // of prompt_tokens, not computed
  int64_t generated_tokens = 0;
};

// Durations; see proto's Timings for their borders.
struct TaskTimings {
  absl::Duration queue, prefill, decode, first_token;
};

// Receives one task's results. Called on the scheduler's thread, one call at a
// time; must not block.
class TokenSink {
 public:
  virtual ~TokenSink() = default;

  // At most once, first, when the task asked for prompt log-probabilities:
  // entry i belongs to prompt token i + 1.
  virtual void OnPrompt(std::vector<SampledToken> logprobs) = 0;
  virtual void OnToken(TokenEvent event) = 0;
  // Exactly once, last. An error means that sequences did not all end.
  virtual void OnDone(const absl::Status& status, const TaskUsage& usage,
                      const TaskTimings& timings) = 0;
  // False parks the task's sequences, and only them, until it is true again and
  // GenerationScheduler::Wake() was called. Any thread.
  virtual bool ReadyForMore() const = 0;
};

// One Generate call: `best_of` sequences of one prompt. Limits were checked
// (server/rpc/request_parser.h); the model is pinned until the task is gone.
struct GenerateTask {
  std::string request_id;
  std::shared_ptr<const LoadedModel> model;
  std::vector<int32_t> prompt;  // at least one token, fits with max_new_tokens
  SamplingParams sampling;
  // Sequences generated, and how many of them the sink hears of. When they
  // differ, events come only at the end, best mean log-probability first and
  // with indices 0 .. n-1.
  int n = 1;
  int best_of = 1;
  int64_t max_new_tokens = 0;  // >= 1
  int64_t min_new_tokens = 0;
  std::vector<std::string> stop_strings;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  std::optional<int> logprobs;         // alternatives per generated token
  std::optional<int> prompt_logprobs;  // the same per prompt token
  bool logits_checksums = false;       // TokenEvent::logits_checksums
  absl::Time deadline = absl::InfiniteFuture();
  // Set by any thread when the client is gone.
  std::shared_ptr<std::atomic<bool>> cancelled;
  std::shared_ptr<TokenSink> sink;
};

// Log-probabilities of a given window: inputs tokens[0..w-1], targets
// tokens[1..w].
struct ScoreTask {
  std::string request_id;
  std::shared_ptr<const LoadedModel> model;
  std::shared_ptr<const LoadedModel> reference;  // or null
  WindowCutter::Window window;
  bool want_tokens = false;  // ScoreResult::tokens, not only sums
  int alternatives = 0;
  absl::Time deadline = absl::InfiniteFuture();
  std::shared_ptr<std::atomic<bool>> cancelled;
  struct Result {
    EvaluationSums sums;               // of counted predictions
    std::vector<SampledToken> tokens;  // of counted predictions
    TaskTimings timings;
  };
  // Exactly once, on the scheduler's thread; must not block.
  std::function<void(absl::StatusOr<Result>)> done;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_GENERATE_TASK_H_
