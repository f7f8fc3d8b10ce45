// Any bytes as a request of InferenceService: the first byte chooses which, the
// others are the message. Refused with an error that a client can read, or
// turned into a task that keeps every promise the scheduler relies on.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "engine/kernels/kernel_table.h"
#include "engine/loaded_model.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "pot/v1/inference.pb.h"
#include "server/rpc/incremental_tokenizer.h"
#include "server/rpc/request_parser.h"
#include "server/rpc/status.h"
#include "server/rpc/wire.h"
#include "test_paths.h"

namespace {

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

const std::shared_ptr<const pot::LoadedModel>& Model() {
  static const auto* const model = [] {
    pot::SilenceProtobufUtf8Errors();
    pot::LoadOptions options;
    options.kernels = pot::FindKernelTable("scalar").value();
    return new std::shared_ptr<const pot::LoadedModel>(
        pot::LoadModel(POT_SOURCE_DIR "/tests/testdata/tiny-bpe",
                       {"tiny", 1, ""}, options)
            .value());
  }();
  return *model;
}

uint64_t NoRandomness() { return 7; }

// What a client gets of an error. A model of floats, as this one is, gives no
// receipts, whatever the request: the only other code.
void CheckError(const absl::Status& status) {
  google::rpc::Status wire;
  Require(wire.ParseFromString(pot::ToGrpcStatus(status).error_details()),
          "details that are no google.rpc.Status");
  google::rpc::ErrorInfo info;
  Require(wire.details_size() > 0 && wire.details(0).UnpackTo(&info) &&
              !info.reason().empty(),
          "no reason");
  Require(status.code() == (info.reason() == "NOT_REPRODUCIBLE"
                                ? absl::StatusCode::kFailedPrecondition
                                : absl::StatusCode::kInvalidArgument),
          "a code that does not fit its reason");
  Require(!wire.message().empty() && pot::FindInvalidUtf8(wire.message()) ==
                                         wire.message().size(),
          "no message that can be shown");
}

void CheckIds(const std::vector<int32_t>& ids) {
  const int vocab_size = Model()->tokenizer->vocab_size();
  Require(std::all_of(ids.begin(), ids.end(),
                      [=](int32_t id) { return id >= 0 && id < vocab_size; }),
          "a token id outside the vocabulary");
}

void CheckRequestId(const std::string& id) {
  Require(!id.empty() && id.size() <= pot::kMaxRequestIdBytes &&
              std::all_of(id.begin(), id.end(),
                          [](char c) { return c >= ' ' && c <= '~'; }),
          "a request id that is no printable ASCII");
}

void CheckSampling(const pot::SamplingParams& params) {
  Require(params.temperature >= 0 && params.temperature <= 100, "temperature");
  Require(params.top_k >= 0, "top_k");
  Require(params.top_p > 0 && params.top_p <= 1, "top_p");
  Require(params.min_p >= 0 && params.min_p <= 1, "min_p");
  Require(params.typical_p > 0 && params.typical_p <= 1, "typical_p");
  Require(params.repetition_penalty > 0 && params.repetition_penalty <= 10,
          "repetition_penalty");
  Require(std::abs(params.presence_penalty) <= 10, "presence_penalty");
  Require(std::abs(params.frequency_penalty) <= 10, "frequency_penalty");
  Require(params.logit_bias.size() <= pot::kMaxLogitBias, "logit_bias");
  for (const auto& entry : params.logit_bias) {
    CheckIds({entry.id});
    Require(std::abs(entry.bias) <= 100, "a bias");
  }
  CheckIds(params.allowed_ids);
  CheckIds(params.banned_ids);
}

// Some token can be drawn at every step.
void CheckDrawable(const pot::GenerateTask& task) {
  const pot::Tokenizer& tokenizer = *task.model->tokenizer;
  const auto has = [](const std::vector<int32_t>& ids, int32_t id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const auto& allowed = task.sampling.allowed_ids;
    if (!allowed.empty() && !has(allowed, id)) continue;
    if (has(task.sampling.banned_ids, id)) continue;
    const bool ends = has(task.stop_token_ids, id) ||
                      (!task.ignore_eos && id == tokenizer.end_of_text_id());
    if (task.min_new_tokens == 0 || !ends) return;
  }
  Require(false, "no token to draw");
}

void CheckGenerate(const pot::v1::GenerateRequest& request, bool stream) {
  const auto parsed = pot::ParseGenerate(
      request, Model(), stream, stream ? "request." : "", NoRandomness);
  if (!parsed.ok()) return CheckError(parsed.status());
  const pot::GenerateTask& task = parsed->task;
  CheckRequestId(task.request_id);
  Require(!task.prompt.empty(), "no prompt");
  CheckIds(task.prompt);
  Require(task.max_new_tokens >= 1, "max_new_tokens");
  Require(static_cast<int64_t>(task.prompt.size()) + task.max_new_tokens <=
              task.model->config().n_positions,
          "more than the context");
  Require(task.min_new_tokens >= 0 &&
              task.min_new_tokens <= task.max_new_tokens,
          "min_new_tokens");
  Require(task.n >= 1 && task.n <= task.best_of &&
              task.best_of <= pot::kMaxSequences,
          "n and best_of");
  Require(!stream || task.n == task.best_of, "best_of in a stream");
  Require(task.stop_strings.size() <= pot::kMaxStopStrings, "stop_strings");
  for (const std::string& stop : task.stop_strings) {
    Require(!stop.empty() && stop.size() <= pot::kMaxStopStringBytes &&
                pot::FindInvalidUtf8(stop) == stop.size(),
            "a stop string");
  }
  Require(task.stop_token_ids.size() <= pot::kMaxStopTokens, "stop_token_ids");
  CheckIds(task.stop_token_ids);
  for (const auto& logprobs : {task.logprobs, task.prompt_logprobs}) {
    Require(!logprobs.has_value() ||
                (*logprobs >= 0 && *logprobs <= pot::kMaxLogprobs),
            "logprobs");
  }
  Require(parsed->truncated_tokens >= 0, "truncated_tokens");
  Require(pot::FindInvalidUtf8(parsed->echo) == parsed->echo.size(), "echo");
  CheckSampling(task.sampling);
  CheckDrawable(task);
}

void CheckScore(const pot::v1::ScoreRequest& request) {
  const auto parsed = pot::ParseScore(request, *Model(), NoRandomness);
  if (!parsed.ok()) return CheckError(parsed.status());
  CheckRequestId(parsed->request_id);
  Require(parsed->alternatives >= 0 &&
              parsed->alternatives <= pot::kMaxLogprobs,
          "alternatives");
  Require(static_cast<int>(parsed->windows.size()) ==
              std::max(1, request.continuations_size()),
          "one window per continuation");
  for (const auto& window : parsed->windows) {
    CheckIds(window.tokens);
    const auto size = static_cast<int64_t>(window.tokens.size());
    Require(size >= 2 && size <= Model()->config().n_positions + 1,
            "the size of a window");
    Require(window.first_counted >= 0 && window.first_counted < size - 1,
            "first_counted");
  }
}

void CheckPerplexity(const pot::v1::PerplexityOptions& options) {
  const auto parsed = pot::ParsePerplexity(
      options, *Model(), options.has_reference() ? Model().get() : nullptr,
      NoRandomness);
  if (!parsed.ok()) return CheckError(parsed.status());
  CheckRequestId(parsed->request_id);
  Require(parsed->protocol.window >= 1 &&
              parsed->protocol.window <= Model()->config().n_positions,
          "window");
  Require(parsed->protocol.stride >= 1 &&
              parsed->protocol.stride <= parsed->protocol.window,
          "stride");
}

// The ids of a text in pieces, whose sizes are the bytes of `cuts`.
absl::StatusOr<std::vector<int32_t>> Tokenize(absl::string_view text,
                                              absl::string_view cuts) {
  const pot::Tokenizer& tokenizer = *Model()->tokenizer;
  auto incremental = pot::IncrementalTokenizer::Create(&tokenizer, "text");
  Require(incremental.ok(), "no incremental tokenizer");
  std::vector<int32_t> ids;
  for (size_t i = 0; !text.empty(); ++i) {
    const size_t size =
        i < cuts.size() ? static_cast<uint8_t>(cuts[i]) : text.size();
    const absl::string_view piece = text.substr(0, size);
    POT_RETURN_IF_ERROR(incremental->Push(piece, &ids));
    text.remove_prefix(piece.size());
  }
  POT_RETURN_IF_ERROR(incremental->Finish(&ids));
  return ids;
}

void CheckText(const std::string& text, const std::string& cuts) {
  const auto whole = pot::ParseText(text, "text", *Model()->tokenizer);
  const auto pieces = Tokenize(text, cuts);
  Require(whole.ok() == pieces.ok(), "pieces that are not the whole");
  if (!whole.ok()) {
    CheckError(whole.status());
    return CheckError(pieces.status());
  }
  Require(*whole == *pieces, "other ids in pieces");
  CheckIds(*whole);
}

template <typename Request>
bool Parse(absl::string_view bytes, Request* request) {
  const absl::Status status = pot::ParseMessage(bytes, request);
  if (!status.ok()) CheckError(status);
  return status.ok();
}

void CheckRef(const pot::v1::ModelRef& ref) {
  const auto selector = pot::ParseModelRef(ref, "model");
  if (!selector.ok()) return CheckError(selector.status());
  Require(selector->name.find('/') == std::string::npos &&
              selector->name[0] != '.',
          "a model name that leads elsewhere");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const absl::string_view bytes(reinterpret_cast<const char*>(data) + 1,
                                size - 1);
  pot::v1::GenerateRequest generate;
  pot::v1::GenerateStreamRequest stream;
  pot::v1::ScoreRequest score;
  pot::v1::PerplexityRequest perplexity;
  pot::v1::TokenizeRequest tokenize;
  pot::v1::DetokenizeRequest detokenize;
  switch (data[0] % 6) {
    case 0:
      if (!Parse(bytes, &generate)) break;
      CheckRef(generate.model());
      CheckGenerate(generate, false);
      break;
    case 1:
      if (Parse(bytes, &stream)) CheckGenerate(stream.request(), true);
      break;
    case 2:
      if (Parse(bytes, &score)) CheckScore(score);
      break;
    case 3:
      if (Parse(bytes, &perplexity)) CheckPerplexity(perplexity.options());
      break;
    case 4:
      if (!Parse(bytes, &tokenize)) break;
      CheckText(tokenize.text(), tokenize.model().name());
      break;
    default:
      if (!Parse(bytes, &detokenize)) break;
      const auto text = pot::ParseDetokenize(detokenize, *Model()->tokenizer);
      if (!text.ok()) CheckError(text.status());
  }
  return 0;
}
