// Requests to tasks. The only place that checks their limits: what comes out
// of here fits the model and the server.
//
// Errors are INVALID_ARGUMENT with ErrorDetails: reason, path of the field,
// limit and given value.
#ifndef POT_SERVER_RPC_REQUEST_PARSER_H_
#define POT_SERVER_RPC_REQUEST_PARSER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/gpt2/evaluation.h"
#include "engine/loaded_model.h"
#include "pot/v1/inference.pb.h"
#include "server/serving/generate_task.h"
#include "server/serving/model_version.h"

namespace pot {

inline constexpr size_t kMaxTextBytes = size_t{1} << 20;
inline constexpr int kMaxTokenIds = 1 << 18;
inline constexpr size_t kMaxDetokenizedBytes = size_t{16} << 20;
inline constexpr int kMaxSequences = 16;
inline constexpr int kMaxStopStrings = 16;
inline constexpr size_t kMaxStopStringBytes = 256;
inline constexpr int kMaxStopTokens = 64;
inline constexpr int kMaxLogprobs = 20;
inline constexpr int kMaxLogitBias = 1024;
inline constexpr int kMaxContinuations = 256;
inline constexpr size_t kMaxRequestIdBytes = 128;
inline constexpr size_t kMaxModelNameBytes = 64;

// Where a fresh seed or request identifier comes from; std::random_device.
using RandomSource = std::function<uint64_t()>;
uint64_t RandomFromSystem();

// `field` is the path of `ref` in its request, "model" or "reference".
absl::StatusOr<ModelSelector> ParseModelRef(const v1::ModelRef& ref,
                                            absl::string_view field);

// The client's, or 16 hexadecimal digits of `random`.
absl::StatusOr<std::string> ParseRequestId(absl::string_view request_id,
                                           absl::string_view field,
                                           const RandomSource& random);

struct ParsedGenerate {
  // All but deadline, cancelled and sink.
  GenerateTask task;
  uint64_t seed = 0;
  int64_t truncated_tokens = 0;
  bool return_token_ids = false;
  bool receipt = false;
  std::string echo;  // empty unless asked for
};
// `prefix` comes before the paths of fields: "" or, in a GenerateStreamRequest,
// "request.". A stream cannot discard sequences: best_of must be n. Besides:
// FAILED_PRECONDITION (NOT_REPRODUCIBLE).
absl::StatusOr<ParsedGenerate> ParseGenerate(
    const v1::GenerateRequest& request,
    std::shared_ptr<const LoadedModel> model, bool stream,
    absl::string_view prefix, const RandomSource& random);

struct ParsedScore {
  std::string request_id;
  int alternatives = 0;
  int64_t prompt_tokens = 0;  // of the longest prompt kept
  int64_t truncated_tokens = 0;
  // One per continuation, or one for the prompt. Predictions from
  // `first_counted` on are scored.
  std::vector<WindowCutter::Window> windows;
  // The prompt itself is scored: its first token, which nothing predicts, is
  // part of the answer.
  bool scores_prompt = false;
};
absl::StatusOr<ParsedScore> ParseScore(const v1::ScoreRequest& request,
                                       const LoadedModel& model,
                                       const RandomSource& random);

struct ParsedPerplexity {
  std::string request_id;
  EvaluationProtocol protocol;
};
// `reference` may be null. Besides: TOKENIZER_MISMATCH.
absl::StatusOr<ParsedPerplexity> ParsePerplexity(
    const v1::PerplexityOptions& options, const LoadedModel& model,
    const LoadedModel* reference, const RandomSource& random);

// Text, which may be empty, to ids: PROMPT_TOO_LONG, INVALID_UTF8,
// UNKNOWN_TOKEN.
absl::StatusOr<std::vector<int32_t>> ParseText(absl::string_view text,
                                               absl::string_view field,
                                               const Tokenizer& tokenizer);
// Ids that the tokenizer knows: PROMPT_TOO_LONG, UNKNOWN_TOKEN.
absl::StatusOr<std::vector<int32_t>> ParseTokenIds(
    absl::Span<const int32_t> ids, absl::string_view field,
    const Tokenizer& tokenizer);
// The exact bytes of the ids of a DetokenizeRequest.
absl::StatusOr<std::string> ParseDetokenize(
    const v1::DetokenizeRequest& request, const Tokenizer& tokenizer);

}  // namespace pot

#endif  // POT_SERVER_RPC_REQUEST_PARSER_H_
