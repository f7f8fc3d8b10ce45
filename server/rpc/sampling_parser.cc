#include "server/rpc/sampling_parser.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/sampling/sampling_params.h"
#include "server/rpc/request_parser.h"
#include "server/serving/field_errors.h"

namespace pot {
namespace {

absl::Status ParseIds(const google::protobuf::RepeatedField<int32_t>& ids,
                      const std::string& field, int64_t max_entries,
                      int vocab_size, std::vector<int32_t>* parsed) {
  POT_RETURN_IF_ERROR(CheckEntries(field, ids.size(), max_entries));
  for (int i = 0; i < ids.size(); ++i) {
    POT_RETURN_IF_ERROR(
        CheckTokenId(absl::StrCat(field, "[", i, "]"), ids[i], vocab_size));
  }
  parsed->assign(ids.begin(), ids.end());
  return absl::OkStatus();
}

absl::Status ParseFloats(const v1::Sampling& sampling,
                         const std::string& prefix, SamplingParams* params) {
  const auto check = [&prefix](const char* name, float value, bool in_range,
                               absl::string_view limit) {
    return CheckFloatRange(absl::StrCat(prefix, name), value, in_range, limit);
  };
  SamplingParams& p = *params;
  if (sampling.has_temperature()) p.temperature = sampling.temperature();
  POT_RETURN_IF_ERROR(check("temperature", p.temperature,
                            p.temperature >= 0 && p.temperature <= 100,
                            "[0, 100]"));
  if (sampling.has_top_p()) p.top_p = sampling.top_p();
  POT_RETURN_IF_ERROR(
      check("top_p", p.top_p, p.top_p > 0 && p.top_p <= 1, "(0, 1]"));
  if (sampling.has_min_p()) p.min_p = sampling.min_p();
  POT_RETURN_IF_ERROR(
      check("min_p", p.min_p, p.min_p >= 0 && p.min_p <= 1, "[0, 1]"));
  if (sampling.has_typical_p()) p.typical_p = sampling.typical_p();
  POT_RETURN_IF_ERROR(check("typical_p", p.typical_p,
                            p.typical_p > 0 && p.typical_p <= 1, "(0, 1]"));
  if (sampling.has_repetition_penalty()) {
    p.repetition_penalty = sampling.repetition_penalty();
  }
  POT_RETURN_IF_ERROR(
      check("repetition_penalty", p.repetition_penalty,
            p.repetition_penalty > 0 && p.repetition_penalty <= 10, "(0, 10]"));
  if (sampling.has_presence_penalty()) {
    p.presence_penalty = sampling.presence_penalty();
  }
  POT_RETURN_IF_ERROR(check(
      "presence_penalty", p.presence_penalty,
      p.presence_penalty >= -10 && p.presence_penalty <= 10, "[-10, 10]"));
  if (sampling.has_frequency_penalty()) {
    p.frequency_penalty = sampling.frequency_penalty();
  }
  return check("frequency_penalty", p.frequency_penalty,
               p.frequency_penalty >= -10 && p.frequency_penalty <= 10,
               "[-10, 10]");
}

absl::Status ParseBias(const v1::Sampling& sampling, const std::string& prefix,
                       int vocab_size, SamplingParams* params) {
  const std::string field = absl::StrCat(prefix, "logit_bias");
  POT_RETURN_IF_ERROR(
      CheckEntries(field, sampling.logit_bias_size(), kMaxLogitBias));
  for (const auto& [id, bias] : sampling.logit_bias()) {
    const std::string entry = absl::StrCat(field, "[", id, "]");
    POT_RETURN_IF_ERROR(CheckTokenId(entry, id, vocab_size));
    POT_RETURN_IF_ERROR(CheckFloatRange(
        entry, bias, bias >= -100 && bias <= 100, "[-100, 100]"));
    params->logit_bias.push_back({id, bias});
  }
  // A map has no order of its own.
  std::sort(params->logit_bias.begin(), params->logit_bias.end(),
            [](const auto& a, const auto& b) { return a.id < b.id; });
  return absl::OkStatus();
}

}  // namespace

absl::Status ParseSampling(const v1::Sampling& sampling, bool stream,
                           absl::string_view prefix, const Tokenizer& tokenizer,
                           GenerateTask* task) {
  const std::string path = absl::StrCat(prefix, "sampling.");
  const int vocab_size = tokenizer.vocab_size();
  SamplingParams* params = &task->sampling;
  POT_RETURN_IF_ERROR(ParseFloats(sampling, path, params));
  if (sampling.has_top_k()) params->top_k = sampling.top_k();
  if (params->top_k < 0) {
    return RangeError(absl::StrCat(path, "top_k"), "[0, 2147483647]",
                      absl::StrCat(params->top_k));
  }
  POT_RETURN_IF_ERROR(ParseBias(sampling, path, vocab_size, params));
  POT_RETURN_IF_ERROR(ParseIds(sampling.allowed_token_ids(),
                               absl::StrCat(path, "allowed_token_ids"),
                               vocab_size, vocab_size, &params->allowed_ids));
  POT_RETURN_IF_ERROR(ParseIds(sampling.banned_token_ids(),
                               absl::StrCat(path, "banned_token_ids"),
                               vocab_size, vocab_size, &params->banned_ids));

  if (sampling.has_n()) task->n = sampling.n();
  POT_RETURN_IF_ERROR(
      CheckRange(absl::StrCat(path, "n"), task->n, 1, kMaxSequences));
  task->best_of = sampling.has_best_of() ? sampling.best_of() : task->n;
  const std::string best_of = absl::StrCat(path, "best_of");
  POT_RETURN_IF_ERROR(
      CheckRange(best_of, task->best_of, task->n, kMaxSequences));
  if (stream && task->best_of != task->n) {
    return FieldError(
        "INVALID_FIELD", best_of,
        absl::StrCat("must be n, ", task->n,
                     ", in a stream; the given value is ", task->best_of),
        absl::StrCat(task->n), absl::StrCat(task->best_of));
  }
  return absl::OkStatus();
}

absl::Status ParseStopping(const v1::Stopping& stopping,
                           absl::string_view prefix, const Tokenizer& tokenizer,
                           GenerateTask* task) {
  const std::string path = absl::StrCat(prefix, "stopping.");
  const std::string strings = absl::StrCat(path, "stop_strings");
  POT_RETURN_IF_ERROR(
      CheckEntries(strings, stopping.stop_strings_size(), kMaxStopStrings));
  for (int i = 0; i < stopping.stop_strings_size(); ++i) {
    POT_RETURN_IF_ERROR(CheckBytes(absl::StrCat(strings, "[", i, "]"),
                                   stopping.stop_strings(i), 1,
                                   kMaxStopStringBytes));
    task->stop_strings.push_back(stopping.stop_strings(i));
  }
  task->ignore_eos = stopping.ignore_eos();
  return ParseIds(stopping.stop_token_ids(),
                  absl::StrCat(path, "stop_token_ids"), kMaxStopTokens,
                  tokenizer.vocab_size(), &task->stop_token_ids);
}

absl::Status CheckSomethingToDraw(const GenerateTask& task,
                                  absl::string_view prefix,
                                  const Tokenizer& tokenizer) {
  const int vocab_size = tokenizer.vocab_size();
  std::vector<bool> drawable(vocab_size, task.sampling.allowed_ids.empty());
  for (const int32_t id : task.sampling.allowed_ids) drawable[id] = true;
  for (const int32_t id : task.sampling.banned_ids) drawable[id] = false;
  if (std::find(drawable.begin(), drawable.end(), true) == drawable.end()) {
    return FieldError("INVALID_FIELD",
                      absl::StrCat(prefix, "sampling.banned_token_ids"),
                      absl::StrCat("leaves none of the ", vocab_size,
                                   " tokens of the vocabulary to draw"),
                      "", absl::StrCat(task.sampling.banned_ids.size()));
  }
  if (task.min_new_tokens == 0) return absl::OkStatus();
  for (const int32_t id : task.stop_token_ids) drawable[id] = false;
  const int32_t end_of_text = tokenizer.end_of_text_id();
  if (end_of_text >= 0 && !task.ignore_eos) drawable[end_of_text] = false;
  if (std::find(drawable.begin(), drawable.end(), true) == drawable.end()) {
    return FieldError("INVALID_FIELD",
                      absl::StrCat(prefix, "stopping.min_new_tokens"),
                      absl::StrCat("is ", task.min_new_tokens,
                                   ", but every token that may be drawn ends "
                                   "the sequence"),
                      "0", absl::StrCat(task.min_new_tokens));
  }
  return absl::OkStatus();
}

}  // namespace pot
