#include "engine/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/philox.h"
#include "engine/base/status_macros.h"
#include "engine/kernels/float_math.h"
#include "engine/sampling/candidate_set.h"

namespace pot {
namespace {

std::vector<int32_t> SortedUnique(std::vector<int32_t> ids) {
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

// Ids of the `count` greatest logits, best first, ties by id. One pass with a
// heap of `count`, whose worst id is in front.
std::vector<int32_t> BestIds(absl::Span<const float> logits, size_t count) {
  const auto better = [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  std::vector<int32_t> best(std::min(count, logits.size()));
  for (size_t i = 0; i < best.size(); ++i) best[i] = static_cast<int32_t>(i);
  if (best.empty()) return best;
  std::make_heap(best.begin(), best.end(), better);
  for (size_t i = best.size(); i < logits.size(); ++i) {
    if (logits[i] <= logits[best.front()]) continue;
    std::pop_heap(best.begin(), best.end(), better);
    best.back() = static_cast<int32_t>(i);
    std::push_heap(best.begin(), best.end(), better);
  }
  std::sort_heap(best.begin(), best.end(), better);
  return best;
}

absl::Status NonFiniteError(absl::Span<const float> logits) {
  const auto fault =
      std::find_if(logits.begin(), logits.end(),
                   [](float logit) { return !std::isfinite(logit); });
  return absl::DataLossError(
      absl::StrCat("logits must be finite; that of token ",
                   fault - logits.begin(), " is ", *fault));
}

// One per thread rather than per sequence: about 32 bytes per token of the
// vocabulary, which many sequences would push out of the cache.
CandidateSet& ThreadCandidates() {
  thread_local CandidateSet candidates;
  return candidates;
}

}  // namespace

Sampler::Sampler(SamplingParams params, int vocab_size, uint32_t sequence)
    : params_(std::move(params)),
      vocab_size_(vocab_size),
      sequence_(sequence),
      banned_(SortedUnique(params_.banned_ids)) {
  const std::vector<int32_t> allowed = SortedUnique(params_.allowed_ids);
  std::set_difference(allowed.begin(), allowed.end(), banned_.begin(),
                      banned_.end(), std::back_inserter(allowed_));
}

void Sampler::AddPrompt(absl::Span<const int32_t> tokens) {
  if (params_.repetition_penalty == 1.0f) return;
  for (const int32_t id : tokens) {
    if (id >= 0 && id < vocab_size_) seen_.insert(id);
  }
}

absl::StatusOr<SampledToken> Sampler::Sample(
    absl::Span<const float> logits, int64_t position, int num_top,
    absl::Span<const int32_t> suppressed) {
  if (vocab_size_ < 1 || vocab_size_ > CandidateSet::kMaxVocabSize ||
      logits.size() != static_cast<size_t>(vocab_size_)) {
    return absl::InvalidArgumentError(
        absl::StrCat("logits must be as many as the vocabulary has tokens, ",
                     vocab_size_, ", at most ", CandidateSet::kMaxVocabSize,
                     "; the given number is ", logits.size()));
  }
  if (position < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "position must be 0 or more; the given value is ", position));
  }
  const int64_t greatest =
      ArgMax(logits.data(), static_cast<int64_t>(logits.size()));
  if (greatest < 0) return NonFiniteError(logits);

  POT_ASSIGN_OR_RETURN(
      const int32_t id,
      Choose(logits, static_cast<int32_t>(greatest), position, suppressed));
  if (params_.repetition_penalty != 1.0f) seen_.insert(id);
  if (params_.presence_penalty != 0.0f || params_.frequency_penalty != 0.0f) {
    ++generated_counts_[id];
  }
  return LogprobOf(logits, id, num_top);
}

bool Sampler::EditsLogits() const {
  return !params_.logit_bias.empty() || !seen_.empty() ||
         !generated_counts_.empty();
}

// In double: no bias or penalty in range can overflow it, or hide a
// difference between two floats.
void Sampler::EditLogits(CandidateSet* candidates) const {
  for (const SamplingParams::Bias& bias : params_.logit_bias) {
    candidates->logit(bias.id) += bias.bias;
  }
  const double repetition = params_.repetition_penalty;
  for (const int32_t id : seen_) {
    double& logit = candidates->logit(id);
    logit = logit > 0.0 ? logit / repetition : logit * repetition;
  }
  const double presence = params_.presence_penalty;
  const double frequency = params_.frequency_penalty;
  for (const auto& [id, count] : generated_counts_) {
    candidates->logit(id) -= presence + frequency * count;
  }
}

absl::StatusOr<int32_t> Sampler::Choose(
    absl::Span<const float> logits, int32_t greatest, int64_t position,
    absl::Span<const int32_t> suppressed) const {
  const bool greedy = params_.temperature == 0.0f;
  if (greedy && !EditsLogits() && params_.allowed_ids.empty() &&
      banned_.empty() && suppressed.empty()) {
    return greatest;
  }

  CandidateSet& candidates = ThreadCandidates();
  candidates.Reset(logits);
  EditLogits(&candidates);
  if (!params_.allowed_ids.empty()) {
    candidates.KeepOnly(allowed_);
  } else {
    candidates.Remove(banned_);
  }
  if (!suppressed.empty()) {
    candidates.Remove(SortedUnique({suppressed.begin(), suppressed.end()}));
  }
  if (candidates.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "no token is left to draw: banned_ids has ", params_.banned_ids.size(),
        " entries, allowed_ids ", params_.allowed_ids.size(), ", and ",
        suppressed.size(), " are suppressed at position ", position));
  }
  if (greedy) return candidates.Best();

  if (params_.top_k > 0) candidates.KeepTopK(params_.top_k);
  candidates.ApplyTemperature(params_.temperature);
  if (params_.typical_p < 1.0f) candidates.KeepTypical(params_.typical_p);
  if (params_.top_p < 1.0f) candidates.KeepTopP(params_.top_p);
  if (params_.min_p > 0.0f) candidates.KeepMinP(params_.min_p);
  return candidates.Draw(
      PhiloxUniform(params_.seed, sequence_, static_cast<uint64_t>(position)));
}

SampledToken LogprobOf(absl::Span<const float> logits, int32_t id,
                       int num_top) {
  const double log_sum =
      LogSumExp(logits.data(), static_cast<int64_t>(logits.size()));
  const auto logprob = [&](int32_t token) {
    return static_cast<float>(static_cast<double>(logits[token]) - log_sum);
  };
  SampledToken result;
  result.id = id;
  result.logprob = logprob(id);
  if (num_top <= 0) return result;
  for (const int32_t best : BestIds(logits, num_top)) {
    result.top.push_back({best, logprob(best)});
  }
  return result;
}

}  // namespace pot
