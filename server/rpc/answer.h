// Results of tasks as messages.
#ifndef POT_SERVER_RPC_ANSWER_H_
#define POT_SERVER_RPC_ANSWER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/loaded_model.h"
#include "engine/sampling/sampler.h"
#include "pot/v1/common.pb.h"
#include "pot/v1/inference.pb.h"
#include "server/rpc/receipt_builder.h"
#include "server/rpc/request_parser.h"
#include "server/serving/generate_task.h"

namespace pot {

// `engine` is ServiceContext::engine.
void FillIdentity(const LoadedModel& model, absl::string_view engine,
                  v1::ModelIdentity* identity);
void FillTimings(const TaskTimings& timings, absl::Duration total,
                 v1::Timings* proto);
void FillLogprob(const SampledToken& token, const Tokenizer& tokenizer,
                 v1::TokenLogprob* proto);

// Turns the events of one GenerateTask into the parts of its answer.
class GenerateAnswer {
 public:
  GenerateAnswer(const ParsedGenerate& parsed, absl::string_view engine);

  bool wants_prompt() const { return return_token_ids_ || prompt_logprobs_; }
  // The prompt can be sent before the scheduler reports its log-probabilities.
  bool prompt_is_complete() const { return !prompt_logprobs_; }
  // Entry i of `logprobs` belongs to prompt token i + 1.
  void FillPrompt(const std::vector<SampledToken>& logprobs,
                  v1::GeneratePrompt* prompt) const;

  // Adds `event` to what `sequence` holds: everything so far for a
  // GeneratedSequence, one event for a GenerateChunk. The echo comes with a
  // sequence's first event.
  template <typename Sequence>
  void AddEvent(const TokenEvent& event, Sequence* sequence);

  void FillSummary(const TaskUsage& usage, const TaskTimings& timings,
                   absl::Duration total, v1::GenerateSummary* summary) const;

  int num_sequences() const { return static_cast<int>(echoed_.size()); }

 private:
  const std::shared_ptr<const LoadedModel> model_;
  const std::string engine_;
  const std::string request_id_;
  const std::string echo_;
  const std::vector<int32_t> prompt_;
  const std::vector<std::string> stop_strings_;
  const bool return_token_ids_;
  const bool prompt_logprobs_;
  std::optional<ReceiptBuilder> receipt_;
  const uint64_t seed_;
  const int64_t truncated_tokens_;
  std::vector<bool> echoed_;  // by sequence
};

}  // namespace pot

#endif  // POT_SERVER_RPC_ANSWER_H_
