#include "engine/sampling/sampling_params.h"

#include <charconv>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/status_macros.h"
#include "engine/sampling/candidate_set.h"

namespace pot {
namespace {

constexpr size_t kMaxLogitBias = 1024;

// Shortest text that reads back as the same float, so that a value just past
// a limit does not print as the limit.
std::string ToText(float value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value).ptr;
  return std::string(buffer, end);
}

absl::Status CheckFloat(absl::string_view field, float value, bool in_range,
                        absl::string_view limit) {
  // A NaN is never in range, as every comparison with it fails.
  if (in_range) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      field, " must be in ", limit, "; the given value is ", ToText(value)));
}

absl::Status CheckCount(absl::string_view field, size_t count, size_t limit) {
  if (count <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      field, " must have at most ", limit, " entries; it has ", count));
}

absl::Status CheckId(absl::string_view field, int32_t id, int vocab_size) {
  if (id >= 0 && id < vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " must be a token id in [0, ", vocab_size,
                   "); the given value is ", id));
}

absl::Status CheckIds(absl::string_view field, const std::vector<int32_t>& ids,
                      int vocab_size) {
  // More entries than the vocabulary has can only repeat themselves.
  POT_RETURN_IF_ERROR(
      CheckCount(field, ids.size(), static_cast<size_t>(vocab_size)));
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocab_size) continue;
    return CheckId(absl::StrCat(field, "[", i, "]"), ids[i], vocab_size);
  }
  return absl::OkStatus();
}

absl::Status CheckBias(const std::vector<SamplingParams::Bias>& biases,
                       int vocab_size) {
  POT_RETURN_IF_ERROR(CheckCount("logit_bias", biases.size(), kMaxLogitBias));
  for (size_t i = 0; i < biases.size(); ++i) {
    const std::string entry = absl::StrCat("logit_bias[", i, "]");
    POT_RETURN_IF_ERROR(
        CheckId(absl::StrCat(entry, ".id"), biases[i].id, vocab_size));
    POT_RETURN_IF_ERROR(CheckFloat(
        absl::StrCat(entry, ".bias"), biases[i].bias,
        biases[i].bias >= -100.0f && biases[i].bias <= 100.0f, "[-100, 100]"));
  }
  return absl::OkStatus();
}

// All ids are known to be in the vocabulary.
absl::Status CheckSomethingLeft(const SamplingParams& params, int vocab_size) {
  std::vector<bool> banned(vocab_size);
  int num_left = vocab_size;
  for (const int32_t id : params.banned_ids) {
    num_left -= !banned[id];
    banned[id] = true;
  }
  if (num_left == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("banned_ids must leave a token to draw; the given ones "
                     "are all ",
                     vocab_size, " of the vocabulary"));
  }
  if (params.allowed_ids.empty()) return absl::OkStatus();
  for (const int32_t id : params.allowed_ids) {
    if (!banned[id]) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "allowed_ids must name a token that banned_ids does not; all of the ",
      params.allowed_ids.size(), " given are banned"));
}

}  // namespace

absl::Status ValidateSamplingParams(const SamplingParams& params,
                                    int vocab_size) {
  if (vocab_size < 1 || vocab_size > CandidateSet::kMaxVocabSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("vocab_size must be in [1, ", CandidateSet::kMaxVocabSize,
                     "]; the given value is ", vocab_size));
  }
  POT_RETURN_IF_ERROR(CheckBias(params.logit_bias, vocab_size));
  POT_RETURN_IF_ERROR(CheckIds("allowed_ids", params.allowed_ids, vocab_size));
  POT_RETURN_IF_ERROR(CheckIds("banned_ids", params.banned_ids, vocab_size));
  POT_RETURN_IF_ERROR(CheckSomethingLeft(params, vocab_size));

  const SamplingParams& p = params;
  POT_RETURN_IF_ERROR(CheckFloat(
      "repetition_penalty", p.repetition_penalty,
      p.repetition_penalty > 0.0f && p.repetition_penalty <= 10.0f, "(0, 10]"));
  POT_RETURN_IF_ERROR(
      CheckFloat("presence_penalty", p.presence_penalty,
                 p.presence_penalty >= -10.0f && p.presence_penalty <= 10.0f,
                 "[-10, 10]"));
  POT_RETURN_IF_ERROR(
      CheckFloat("frequency_penalty", p.frequency_penalty,
                 p.frequency_penalty >= -10.0f && p.frequency_penalty <= 10.0f,
                 "[-10, 10]"));
  POT_RETURN_IF_ERROR(
      CheckFloat("temperature", p.temperature,
                 p.temperature >= 0.0f && p.temperature <= 100.0f, "[0, 100]"));
  if (p.top_k < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("top_k must be 0 or more; the given value is ", p.top_k));
  }
  POT_RETURN_IF_ERROR(CheckFloat("typical_p", p.typical_p,
                                 p.typical_p > 0.0f && p.typical_p <= 1.0f,
                                 "(0, 1]"));
  POT_RETURN_IF_ERROR(CheckFloat("top_p", p.top_p,
                                 p.top_p > 0.0f && p.top_p <= 1.0f, "(0, 1]"));
  POT_RETURN_IF_ERROR(CheckFloat("min_p", p.min_p,
                                 p.min_p >= 0.0f && p.min_p <= 1.0f, "[0, 1]"));
  return absl::OkStatus();
}

}  // namespace pot
