#include "server/serving/task_checks.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/status_macros.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

absl::Status Invalid(absl::string_view reason, absl::string_view field,
                     absl::string_view message, int64_t limit, int64_t value) {
  return WithDetails(
      absl::InvalidArgumentError(absl::StrCat(message, "; the limit is ", limit,
                                              ", the given value is ", value)),
      {.reason = std::string(reason),
       .metadata = {{"limit", absl::StrCat(limit)},
                    {"value", absl::StrCat(value)}},
       .field = std::string(field)});
}

absl::Status CheckTokens(absl::Span<const int32_t> tokens, int64_t vocab_size) {
  for (const int32_t id : tokens) {
    if (id < 0 || id >= vocab_size) {
      return Invalid("UNKNOWN_TOKEN", "prompt",
                     "a token id is outside the vocabulary", vocab_size - 1,
                     id);
    }
  }
  return absl::OkStatus();
}

// Whether `tokens` positions fit into the context of `model`.
absl::Status CheckContext(const LoadedModel& model, int64_t tokens) {
  const int64_t limit = model.config().n_positions;
  if (tokens <= limit) return absl::OkStatus();
  return Invalid("CONTEXT_OVERFLOW", "prompt",
                 "the tokens do not fit into the context", limit, tokens);
}

}  // namespace

absl::Status ValidateTask(const GenerateTask& task) {
  if (task.model == nullptr || task.sink == nullptr) {
    return absl::InvalidArgumentError("a task needs a model and a sink");
  }
  if (task.prompt.empty()) {
    return Invalid("EMPTY_PROMPT", "prompt", "the prompt has no tokens", 1, 0);
  }
  POT_RETURN_IF_ERROR(
      CheckTokens(task.prompt, task.model->config().vocab_size));
  POT_RETURN_IF_ERROR(
      CheckContext(*task.model, static_cast<int64_t>(task.prompt.size()) + 1));
  if (task.n < 1) {
    return Invalid("INVALID_FIELD", "sampling.n", "n is too small", 1, task.n);
  }
  if (task.best_of < task.n) {
    return Invalid("INVALID_FIELD", "sampling.best_of",
                   "best_of is less than n", task.n, task.best_of);
  }
  if (task.max_new_tokens < 1) {
    return Invalid("INVALID_FIELD", "stopping.max_new_tokens",
                   "max_new_tokens is too small", 1, task.max_new_tokens);
  }
  for (const std::string& stop : task.stop_strings) {
    if (stop.empty()) {
      return Invalid("INVALID_FIELD", "stopping.stop_strings",
                     "a stop string is too short", 1, 0);
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateTask(const ScoreTask& task) {
  if (task.model == nullptr || task.done == nullptr) {
    return absl::InvalidArgumentError("a task needs a model and a callback");
  }
  const int64_t tokens = static_cast<int64_t>(task.window.tokens.size());
  if (tokens < 2) {
    return Invalid("EMPTY_PROMPT", "prompt",
                   "there are too few tokens to score", 2, tokens);
  }
  const int64_t vocab_size = task.model->config().vocab_size;
  POT_RETURN_IF_ERROR(CheckTokens(task.window.tokens, vocab_size));
  POT_RETURN_IF_ERROR(CheckContext(*task.model, tokens - 1));
  if (task.window.first_counted < 0 || task.window.first_counted >= tokens) {
    return Invalid("INVALID_FIELD", "window", "first_counted is no prediction",
                   tokens - 1, task.window.first_counted);
  }
  if (task.reference == nullptr) return absl::OkStatus();
  POT_RETURN_IF_ERROR(CheckContext(*task.reference, tokens - 1));
  if (task.reference->config().vocab_size != vocab_size) {
    return Invalid("TOKENIZER_MISMATCH", "options.reference",
                   "the reference has a vocabulary of another size", vocab_size,
                   task.reference->config().vocab_size);
  }
  return absl::OkStatus();
}

absl::Status CheckFinite(absl::Span<const float> logits) {
  for (const float logit : logits) {
    if (!std::isfinite(logit)) {
      return WithDetails(
          absl::DataLossError("the model computed a logit that is not finite"),
          {.reason = "NON_FINITE_LOGITS"});
    }
  }
  return absl::OkStatus();
}

}  // namespace pot
