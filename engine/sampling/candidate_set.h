// The tokens that may still be drawn at one position, and the filters that
// narrow them.
//
// Probabilities are held as whole numbers, weight = round(e^-deficit *
// 2^kSamplingWeightBits): their sums are exact in any order, so filters may
// select instead of sort, and a result depends on no order of summation.
#ifndef POT_ENGINE_SAMPLING_CANDIDATE_SET_H_
#define POT_ENGINE_SAMPLING_CANDIDATE_SET_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace pot {

// Candidates stay in the order of their ids. Call order: Reset, logit edits,
// Remove or KeepOnly, then (not empty) Best, or KeepTopK, ApplyTemperature,
// the other filters, Draw. No filter ever removes all.
class CandidateSet {
 public:
  // A token less likely than the best by more than half a unit has weight 0 and
  // is never drawn; the weights of 2^23 sum to 2^63 at most.
  static constexpr int kMaxVocabSize = 1 << 23;

  // All of the vocabulary. `logits`: finite, 1 to kMaxVocabSize.
  void Reset(absl::Span<const float> logits);
  // Before any removal.
  double& logit(int32_t id) { return values_[id]; }
  // `ids` ascending; repetitions and ids outside the vocabulary do nothing.
  void Remove(absl::Span<const int32_t> ids);
  void KeepOnly(absl::Span<const int32_t> ids);

  bool empty() const { return ids_.empty(); }
  size_t size() const { return ids_.size(); }
  absl::Span<const int32_t> ids() const { return ids_; }

  // The greatest logit's id, the lowest on a tie.
  int32_t Best() const;
  // The k greatest logits, lower ids first on a tie.
  void KeepTopK(int32_t k);
  // From here on the set is a distribution. `temperature` > 0.
  void ApplyTemperature(float temperature);
  // Nearest to the entropy first, until their share is `p`
  // (arXiv 2202.00666, section 5).
  void KeepTypical(float p);
  // Most probable first, until their share is `p` (arXiv 1904.09751).
  void KeepTopP(float p);
  // Those at least `p` times as probable as the most probable left.
  void KeepMinP(float p);
  // Inverse of the cumulative distribution, in the order of ids, at `u` in
  // [0, 1).
  int32_t Draw(double u) const;

 private:
  uint64_t TotalWeight() const;
  // Keeps the candidates that come first by (keys_, id) until their mass
  // reaches `target`; mass is the weight or, when `unit_mass`, 1. Keys are
  // not negative; those past `key_limit` carry no mass before the target.
  void KeepPrefix(bool unit_mass, uint64_t target, double key_limit);
  // Keeps candidate i where keep(i).
  template <typename Predicate>
  void Compact(const Predicate& keep);

  std::vector<int32_t> ids_;
  // Logits, then deficits: (greatest logit - logit) / temperature.
  std::vector<double> values_;
  std::vector<uint64_t> weights_;  // empty before ApplyTemperature
  std::vector<double> keys_;
  std::vector<uint32_t> boundary_;
};

}  // namespace pot

#endif  // POT_ENGINE_SAMPLING_CANDIDATE_SET_H_
