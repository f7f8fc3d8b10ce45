#include "engine/text/bpe.h"

#include <algorithm>
#include <functional>

namespace pot {

bool BpeMerges::Add(int32_t left, int32_t right, int32_t result) {
  const uint32_t rank = static_cast<uint32_t>(rules_.size());
  if (!rank_of_pair_.emplace(PairKey(left, right), rank).second) return false;
  rules_.push_back({left, right, result});
  return true;
}

void BpeMerges::Push(int32_t position, Workspace* workspace) const {
  const Workspace::Symbol& left = workspace->symbols[position];
  if (left.next < 0) return;
  const auto rank = rank_of_pair_.find(
      PairKey(left.token, workspace->symbols[left.next].token));
  if (rank == rank_of_pair_.end()) return;
  // Ordered by rank, then by position.
  workspace->heap.push_back(uint64_t{rank->second} << 32 |
                            static_cast<uint32_t>(position));
}

void BpeMerges::Apply(std::vector<int32_t>* tokens,
                      Workspace* workspace) const {
  const int32_t size = static_cast<int32_t>(tokens->size());
  if (size < 2 || rules_.empty()) return;
  std::vector<Workspace::Symbol>& symbols = workspace->symbols;
  std::vector<uint64_t>& heap = workspace->heap;
  symbols.clear();
  heap.clear();
  for (int32_t i = 0; i < size; ++i) {
    symbols.push_back({(*tokens)[i], i - 1, i + 1 < size ? i + 1 : -1});
  }
  for (int32_t i = 0; i < size; ++i) Push(i, workspace);
  std::make_heap(heap.begin(), heap.end(), std::greater<>());

  const auto push = [&](int32_t position) {
    const size_t before = heap.size();
    Push(position, workspace);
    if (heap.size() > before) {
      std::push_heap(heap.begin(), heap.end(), std::greater<>());
    }
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const uint64_t entry = heap.back();
    heap.pop_back();
    const Rule& rule = rules_[entry >> 32];
    const int32_t position = static_cast<int32_t>(entry & 0xFFFFFFFF);
    Workspace::Symbol& left = symbols[position];
    // An earlier merge may have taken either half of the queued pair.
    if (left.token != rule.left || left.next < 0) continue;
    Workspace::Symbol& right = symbols[left.next];
    if (right.token != rule.right) continue;
    left.token = rule.result;
    left.next = right.next;
    right.token = -1;
    if (left.next >= 0) symbols[left.next].previous = position;
    push(position);
    if (left.previous >= 0) push(left.previous);
  }

  tokens->clear();
  for (int32_t i = 0; i >= 0; i = symbols[i].next) {
    tokens->push_back(symbols[i].token);
  }
}

}  // namespace pot
