#include "server/rpc/request_parser.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/characters.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "server/rpc/sampling_parser.h"
#include "server/serving/alias_store.h"
#include "server/serving/error_details.h"
#include "server/serving/field_errors.h"

namespace pot {
namespace {

absl::Status CheckModelName(absl::string_view name, const std::string& field) {
  if (name.empty()) {
    return FieldError("MISSING_FIELD", field, "is missing", "", "");
  }
  if (IsName(name, kMaxModelNameBytes)) return absl::OkStatus();
  return FieldError(
      "INVALID_FIELD", field,
      absl::StrCat("must be 1 to ", kMaxModelNameBytes,
                   " characters of [A-Za-z0-9._-], the first one a letter or "
                   "digit; it has ",
                   name.size(), " bytes: ", Quoted(name)),
      absl::StrCat(kMaxModelNameBytes), Quoted(name));
}

absl::StatusOr<std::optional<int>> ParseLogprobs(bool given, int32_t value,
                                                 absl::string_view field) {
  if (!given) return std::optional<int>();
  POT_RETURN_IF_ERROR(CheckRange(field, value, 0, kMaxLogprobs));
  return std::optional<int>(value);
}

absl::StatusOr<bool> ParseOverflow(v1::ContextOverflow overflow,
                                   absl::string_view prefix) {
  switch (overflow) {
    case v1::CONTEXT_OVERFLOW_UNSPECIFIED:
    case v1::CONTEXT_OVERFLOW_REJECT:
      return false;
    case v1::CONTEXT_OVERFLOW_TRUNCATE_LEFT:
      return true;
    default:
      return RangeError(absl::StrCat(prefix, "overflow"), "[0, 2]",
                        absl::StrCat(static_cast<int>(overflow)));
  }
}

// `Request` has the oneof {text, token_ids}; `field` is the oneof's path.
template <typename Request>
absl::StatusOr<std::vector<int32_t>> ParsePrompt(const Request& request,
                                                 absl::string_view prefix,
                                                 absl::string_view oneof,
                                                 const Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  std::string field;
  if (request.has_text()) {
    field = absl::StrCat(prefix, "text");
    POT_ASSIGN_OR_RETURN(ids, ParseText(request.text(), field, tokenizer));
  } else if (request.has_token_ids()) {
    field = absl::StrCat(prefix, "token_ids");
    POT_ASSIGN_OR_RETURN(ids,
                         ParseTokenIds(request.token_ids().ids(),
                                       absl::StrCat(field, ".ids"), tokenizer));
  } else {
    return FieldError("MISSING_FIELD", absl::StrCat(prefix, oneof),
                      "is missing: neither text nor token_ids is given", "",
                      "");
  }
  if (ids.empty()) {
    return FieldError("EMPTY_PROMPT", field, "must have at least one token",
                      "1", "0");
  }
  return ids;
}

absl::Status ContextError(const std::string& field, absl::string_view complaint,
                          int64_t limit, int64_t value) {
  return FieldError("CONTEXT_OVERFLOW", field, complaint, absl::StrCat(limit),
                    absl::StrCat(value));
}

// Settles max_new_tokens, min_new_tokens and truncation.
absl::Status FitContext(const v1::Stopping& stopping, bool truncate,
                        absl::string_view prefix, ParsedGenerate* parsed) {
  GenerateTask& task = parsed->task;
  const int64_t context = task.model->config().n_positions;
  const int64_t prompt = static_cast<int64_t>(task.prompt.size());
  const std::string max_field = absl::StrCat(prefix, "stopping.max_new_tokens");
  if (stopping.has_max_new_tokens()) {
    task.max_new_tokens = stopping.max_new_tokens();
    if (task.max_new_tokens < 1) {
      return RangeError(max_field, absl::StrCat("[1, ", context, ")"),
                        absl::StrCat(task.max_new_tokens));
    }
    if (task.max_new_tokens >= context) {
      return ContextError(
          max_field,
          absl::StrCat("is ", task.max_new_tokens,
                       ", which leaves no place for a prompt in the context "
                       "of ",
                       context, " tokens"),
          context - 1, task.max_new_tokens);
    }
  } else {
    task.max_new_tokens = context - prompt;
    if (task.max_new_tokens < 1) {
      return ContextError(
          absl::StrCat(prefix, "prompt"),
          absl::StrCat("has ", prompt,
                       " tokens, which leaves none to generate in the context "
                       "of ",
                       context,
                       truncate ? "; set stopping.max_new_tokens to say how "
                                  "many to keep free"
                                : ""),
          context - 1, prompt);
    }
  }
  const int64_t excess = prompt + task.max_new_tokens - context;
  if (excess > 0) {
    if (!truncate) {
      return ContextError(
          absl::StrCat(prefix, "prompt"),
          absl::StrCat("has ", prompt, " tokens; with ", task.max_new_tokens,
                       " new ones that is more than the context of ", context),
          context, prompt + task.max_new_tokens);
    }
    task.prompt.erase(task.prompt.begin(), task.prompt.begin() + excess);
    parsed->truncated_tokens = excess;
  }
  if (stopping.has_min_new_tokens()) {
    task.min_new_tokens = stopping.min_new_tokens();
  }
  return CheckRange(absl::StrCat(prefix, "stopping.min_new_tokens"),
                    task.min_new_tokens, 0, task.max_new_tokens);
}

absl::Status CheckReproducible(const LoadedModel& model,
                               absl::string_view prefix) {
  if (model.weights->quantized) return absl::OkStatus();
  return WithDetails(
      absl::FailedPreconditionError(absl::StrCat(
          "no receipt for version ", model.identity.version, " of ",
          Quoted(model.identity.name), ": its format is ",
          model.weights->format,
          ", and only quantized models give the same bits in any batch")),
      {.reason = "NOT_REPRODUCIBLE",
       .metadata = {{"value", model.weights->format}},
       .field = absl::StrCat(prefix, "output.receipt")});
}

}  // namespace

uint64_t RandomFromSystem() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

absl::StatusOr<ModelSelector> ParseModelRef(const v1::ModelRef& ref,
                                            absl::string_view field) {
  POT_RETURN_IF_ERROR(CheckModelName(ref.name(), absl::StrCat(field, ".name")));
  ModelSelector selector;
  selector.name = ref.name();
  switch (ref.selector_case()) {
    case v1::ModelRef::kVersion:
      if (ref.version() < 1) {
        return RangeError(absl::StrCat(field, ".version"),
                          "[1, 9223372036854775807]",
                          absl::StrCat(ref.version()));
      }
      selector.version = ref.version();
      break;
    case v1::ModelRef::kAlias: {
      const absl::Status status = ValidateAlias(ref.alias());
      if (!status.ok()) {
        return FieldError("INVALID_FIELD", absl::StrCat(field, ".alias"),
                          absl::StrCat("is no alias: ", status.message()), "",
                          Quoted(ref.alias()));
      }
      selector.alias = ref.alias();
      break;
    }
    case v1::ModelRef::kDigest:
      POT_RETURN_IF_ERROR(
          CheckSha256(absl::StrCat(field, ".digest"), ref.digest()));
      selector.digest = ref.digest();
      break;
    case v1::ModelRef::SELECTOR_NOT_SET:
      break;
  }
  return selector;
}

absl::StatusOr<std::string> ParseRequestId(absl::string_view request_id,
                                           absl::string_view field,
                                           const RandomSource& random) {
  if (request_id.empty()) return absl::StrFormat("%016x", random());
  if (request_id.size() > kMaxRequestIdBytes) {
    return FieldError("INVALID_FIELD", field,
                      absl::StrCat("must have at most ", kMaxRequestIdBytes,
                                   " characters; it has ", request_id.size()),
                      absl::StrCat(kMaxRequestIdBytes),
                      absl::StrCat(request_id.size()));
  }
  if (!std::all_of(request_id.begin(), request_id.end(),
                   [](char c) { return c >= ' ' && c <= '~'; })) {
    return FieldError(
        "INVALID_FIELD", field,
        absl::StrCat("must be printable ASCII; it is ", Quoted(request_id)), "",
        Quoted(request_id));
  }
  return std::string(request_id);
}

absl::StatusOr<std::vector<int32_t>> ParseText(absl::string_view text,
                                               absl::string_view field,
                                               const Tokenizer& tokenizer) {
  if (text.size() > kMaxTextBytes) {
    return FieldError(
        "PROMPT_TOO_LONG", field,
        absl::StrCat("has ", text.size(), " bytes, more than the limit of ",
                     kMaxTextBytes),
        absl::StrCat(kMaxTextBytes), absl::StrCat(text.size()));
  }
  const size_t invalid = FindInvalidUtf8(text);
  if (invalid != text.size()) {
    return FieldError("INVALID_UTF8", field,
                      absl::StrCat("is not UTF-8: byte ", invalid,
                                   " begins no valid sequence"),
                      "", absl::StrCat(invalid));
  }
  std::vector<int32_t> ids;
  const absl::Status status = tokenizer.Encode(text, &ids);
  if (!status.ok()) {
    return FieldError("UNKNOWN_TOKEN", field,
                      absl::StrCat("cannot be tokenized: ", status.message()),
                      "", "");
  }
  return ids;
}

absl::StatusOr<std::vector<int32_t>> ParseTokenIds(
    absl::Span<const int32_t> ids, absl::string_view field,
    const Tokenizer& tokenizer) {
  if (ids.size() > kMaxTokenIds) {
    return FieldError(
        "PROMPT_TOO_LONG", field,
        absl::StrCat("has ", ids.size(), " tokens, more than the limit of ",
                     kMaxTokenIds),
        absl::StrCat(kMaxTokenIds), absl::StrCat(ids.size()));
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < tokenizer.vocab_size()) continue;
    return CheckTokenId(absl::StrCat(field, "[", i, "]"), ids[i],
                        tokenizer.vocab_size());
  }
  return std::vector<int32_t>(ids.begin(), ids.end());
}

absl::StatusOr<std::string> ParseDetokenize(
    const v1::DetokenizeRequest& request, const Tokenizer& tokenizer) {
  POT_ASSIGN_OR_RETURN(
      const std::vector<int32_t> ids,
      ParseTokenIds(request.token_ids(), "token_ids", tokenizer));
  size_t bytes = 0;
  for (const int32_t id : ids) bytes += tokenizer.TokenBytes(id).size();
  if (bytes > kMaxDetokenizedBytes) {
    return FieldError(
        "PROMPT_TOO_LONG", "token_ids",
        absl::StrCat("stand for ", bytes, " bytes, more than the limit of ",
                     kMaxDetokenizedBytes),
        absl::StrCat(kMaxDetokenizedBytes), absl::StrCat(bytes));
  }
  return tokenizer.Decode(ids);
}

absl::StatusOr<ParsedGenerate> ParseGenerate(
    const v1::GenerateRequest& request,
    std::shared_ptr<const LoadedModel> model, bool stream,
    absl::string_view prefix, const RandomSource& random) {
  ParsedGenerate parsed;
  GenerateTask& task = parsed.task;
  task.model = std::move(model);
  const Tokenizer& tokenizer = *task.model->tokenizer;
  POT_ASSIGN_OR_RETURN(
      task.request_id,
      ParseRequestId(request.request_id(), absl::StrCat(prefix, "request_id"),
                     random));
  POT_RETURN_IF_ERROR(
      ParseSampling(request.sampling(), stream, prefix, tokenizer, &task));
  POT_RETURN_IF_ERROR(
      ParseStopping(request.stopping(), prefix, tokenizer, &task));
  const v1::Output& output = request.output();
  POT_ASSIGN_OR_RETURN(task.logprobs,
                       ParseLogprobs(output.has_logprobs(), output.logprobs(),
                                     absl::StrCat(prefix, "output.logprobs")));
  POT_ASSIGN_OR_RETURN(
      task.prompt_logprobs,
      ParseLogprobs(output.has_prompt_logprobs(), output.prompt_logprobs(),
                    absl::StrCat(prefix, "output.prompt_logprobs")));
  parsed.return_token_ids = output.return_token_ids();
  parsed.receipt = output.receipt();
  task.logits_checksums = parsed.receipt;
  if (parsed.receipt) {
    POT_RETURN_IF_ERROR(CheckReproducible(*task.model, prefix));
  }
  POT_ASSIGN_OR_RETURN(const bool truncate,
                       ParseOverflow(request.overflow(), prefix));
  POT_ASSIGN_OR_RETURN(task.prompt,
                       ParsePrompt(request, prefix, "prompt", tokenizer));
  POT_RETURN_IF_ERROR(
      FitContext(request.stopping(), truncate, prefix, &parsed));
  POT_RETURN_IF_ERROR(CheckSomethingToDraw(task, prefix, tokenizer));

  parsed.seed =
      request.sampling().has_seed() ? request.sampling().seed() : random();
  task.sampling.seed = parsed.seed;
  if (output.echo()) {
    POT_ASSIGN_OR_RETURN(const std::string bytes,
                         tokenizer.Decode(task.prompt));
    parsed.echo = ReplaceInvalidUtf8(bytes);
  }
  return parsed;
}

absl::StatusOr<ParsedScore> ParseScore(const v1::ScoreRequest& request,
                                       const LoadedModel& model,
                                       const RandomSource& random) {
  const Tokenizer& tokenizer = *model.tokenizer;
  // The last token is only predicted, not read.
  const int64_t capacity = model.config().n_positions + 1;
  ParsedScore parsed;
  POT_ASSIGN_OR_RETURN(parsed.request_id, ParseRequestId(request.request_id(),
                                                         "request_id", random));
  POT_RETURN_IF_ERROR(
      CheckRange("alternatives", request.alternatives(), 0, kMaxLogprobs));
  parsed.alternatives = request.alternatives();
  POT_ASSIGN_OR_RETURN(const bool truncate,
                       ParseOverflow(request.overflow(), ""));
  POT_RETURN_IF_ERROR(CheckEntries(
      "continuations", request.continuations_size(), kMaxContinuations));
  POT_ASSIGN_OR_RETURN(const std::vector<int32_t> prompt,
                       ParsePrompt(request, "", "prompt", tokenizer));

  // Adds prompt + continuation, the prompt cut to what fits; at least
  // `least` tokens of it stay.
  const auto add = [&](std::vector<int32_t> continuation, int64_t least,
                       const std::string& field) -> absl::Status {
    const int64_t room = capacity - static_cast<int64_t>(continuation.size());
    const int64_t size = static_cast<int64_t>(prompt.size());
    if (room < least || (size > room && !truncate)) {
      const int64_t total = size + static_cast<int64_t>(continuation.size());
      return ContextError(
          field,
          absl::StrCat("needs ", total,
                       " tokens, prompt included, but at most ", capacity,
                       " can be scored in this model's context"),
          capacity, total);
    }
    const int64_t kept = std::min(size, room);
    WindowCutter::Window window;
    window.tokens.assign(prompt.end() - kept, prompt.end());
    window.tokens.insert(window.tokens.end(), continuation.begin(),
                         continuation.end());
    window.first_counted = continuation.empty() ? 0 : kept - 1;
    parsed.prompt_tokens = std::max(parsed.prompt_tokens, kept);
    parsed.truncated_tokens = std::max(parsed.truncated_tokens, size - kept);
    parsed.windows.push_back(std::move(window));
    return absl::OkStatus();
  };

  if (request.continuations_size() == 0) {
    if (prompt.size() < 2) {
      return FieldError("EMPTY_PROMPT", "prompt",
                        "must have at least two tokens to be scored; it has 1",
                        "2", "1");
    }
    parsed.scores_prompt = true;
    POT_RETURN_IF_ERROR(add({}, 2, "prompt"));
    return parsed;
  }
  for (int i = 0; i < request.continuations_size(); ++i) {
    const std::string field = absl::StrCat("continuations[", i, "]");
    POT_ASSIGN_OR_RETURN(
        std::vector<int32_t> ids,
        ParsePrompt(request.continuations(i), absl::StrCat(field, "."),
                    "content", tokenizer));
    POT_RETURN_IF_ERROR(add(std::move(ids), 1, field));
  }
  return parsed;
}

absl::StatusOr<ParsedPerplexity> ParsePerplexity(
    const v1::PerplexityOptions& options, const LoadedModel& model,
    const LoadedModel* reference, const RandomSource& random) {
  ParsedPerplexity parsed;
  POT_ASSIGN_OR_RETURN(
      parsed.request_id,
      ParseRequestId(options.request_id(), "options.request_id", random));
  int64_t context = model.config().n_positions;
  if (reference != nullptr) {
    context = std::min(context, reference->config().n_positions);
    const Tokenizer& left = *model.tokenizer;
    const Tokenizer& right = *reference->tokenizer;
    bool same = left.vocab_size() == right.vocab_size() &&
                model.config().vocab_size == reference->config().vocab_size;
    for (int32_t id = 0; same && id < left.vocab_size(); ++id) {
      same = left.TokenBytes(id) == right.TokenBytes(id);
    }
    if (!same) {
      return FieldError(
          "TOKENIZER_MISMATCH", "options.reference",
          absl::StrCat(
              "has another vocabulary than the model: ", right.vocab_size(),
              " and ", left.vocab_size(), " tokens"),
          absl::StrCat(left.vocab_size()), absl::StrCat(right.vocab_size()));
    }
  }
  parsed.protocol.window = options.has_window() ? options.window() : context;
  POT_RETURN_IF_ERROR(
      CheckRange("options.window", parsed.protocol.window, 1, context));
  parsed.protocol.stride =
      options.has_stride() ? options.stride() : parsed.protocol.window;
  POT_RETURN_IF_ERROR(CheckRange("options.stride", parsed.protocol.stride, 1,
                                 parsed.protocol.window));
  return parsed;
}

}  // namespace pot
