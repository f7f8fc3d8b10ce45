// Byte-pair encoding: Sennrich et al., "Neural Machine Translation of Rare
// Words with Subword Units", ACL 2016.
#ifndef POT_ENGINE_TEXT_BPE_H_
#define POT_ENGINE_TEXT_BPE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace pot {

// The ranked merge rules. Immutable once filled, and then safe to share.
class BpeMerges {
 public:
  // Appends the rule of the next rank: adjacent tokens `left` and `right`
  // become `result`. False, changing nothing, when the pair has a rule.
  bool Add(int32_t left, int32_t right, int32_t result);

  size_t size() const { return rules_.size(); }

  // Buffers of Apply, so that many calls allocate once.
  struct Workspace {
    struct Symbol {
      int32_t token;           // -1 once merged into its left neighbour
      int32_t previous, next;  // positions; -1 at the ends
    };
    std::vector<Symbol> symbols;
    std::vector<uint64_t> heap;
  };

  // Merges the pair of lowest rank, the leftmost of equals, until none is left;
  // O(n log n). `tokens`: fewer than 2^31, replaced by the result.
  void Apply(std::vector<int32_t>* tokens, Workspace* workspace) const;

 private:
  struct Rule {
    int32_t left, right, result;
  };
  static uint64_t PairKey(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 |
           static_cast<uint32_t>(right);
  }
  // Queues the pair that begins at `position`, if a rule merges it.
  void Push(int32_t position, Workspace* workspace) const;

  std::vector<Rule> rules_;  // by rank
  absl::flat_hash_map<uint64_t, uint32_t> rank_of_pair_;
};

}  // namespace pot

#endif  // POT_ENGINE_TEXT_BPE_H_
