#include "engine/sampling/stop_matcher.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace pot {

// Aho and Corasick, "Efficient string matching", CACM 18(6), 1975. A state is
// the longest end of the text that begins a stop string. Children are linked
// lists: a state has at most as many as there are stop strings, and a node
// costs 28 bytes instead of the kilobyte of a full transition table.
class StopMatcher::Automaton {
 public:
  explicit Automaton(std::vector<std::string> stops)
      : stops_(std::move(stops)) {
    size_t max_nodes = 1;
    for (const std::string& stop : stops_) max_nodes += stop.size();
    nodes_.reserve(max_nodes);
    nodes_.emplace_back();
    for (size_t i = 0; i < stops_.size(); ++i) Insert(static_cast<int>(i));
    nodes_.shrink_to_fit();
    LinkFailures();
  }

  int Next(int state, uint8_t byte) const {
    for (;;) {
      const int child = Child(state, byte);
      if (child != 0) return child;
      if (state == 0) return 0;
      state = nodes_[state].fail;
    }
  }

  // The longest end of the state's text that begins a longer stop string.
  int Extendable(int state) const {
    while (state != 0 && nodes_[state].first_child == 0) {
      state = nodes_[state].fail;
    }
    return state;
  }

  // The longest stop string that the state ends with, or -1.
  int stop_index(int state) const { return nodes_[state].stop_index; }
  size_t stop_length(int index) const { return stops_[index].size(); }

  // The bytes that the state stands for.
  absl::string_view Text(int state) const {
    const Node& node = nodes_[state];
    if (node.owner < 0) return {};
    return absl::string_view(stops_[node.owner]).substr(0, node.depth);
  }

 private:
  struct Node {
    int fail = 0;
    int first_child = 0;  // 0: none, as the root is nobody's child
    int next_sibling = 0;
    int stop_index = -1;
    int owner = -1;  // a stop string that begins with this node's text
    int depth = 0;
    uint8_t byte = 0;
  };

  int Child(int state, uint8_t byte) const {
    int child = nodes_[state].first_child;
    while (child != 0 && nodes_[child].byte != byte) {
      child = nodes_[child].next_sibling;
    }
    return child;
  }

  void Insert(int index) {
    if (stops_[index].empty()) return;
    int state = 0;
    for (const char c : stops_[index]) {
      const uint8_t byte = static_cast<uint8_t>(c);
      int child = Child(state, byte);
      if (child == 0) {
        child = static_cast<int>(nodes_.size());
        Node node;
        node.next_sibling = nodes_[state].first_child;
        node.owner = index;
        node.depth = nodes_[state].depth + 1;
        node.byte = byte;
        nodes_.push_back(node);
        nodes_[state].first_child = child;
      }
      state = child;
    }
    if (nodes_[state].stop_index < 0) nodes_[state].stop_index = index;
  }

  // Breadth first, so that a node's failure is linked before the node is.
  void LinkFailures() {
    std::vector<int> queue = {0};
    queue.reserve(nodes_.size());
    for (size_t head = 0; head < queue.size(); ++head) {
      const int parent = queue[head];
      for (int child = nodes_[parent].first_child; child != 0;
           child = nodes_[child].next_sibling) {
        Node& node = nodes_[child];
        node.fail = parent == 0 ? 0 : Next(nodes_[parent].fail, node.byte);
        if (node.stop_index < 0) {
          node.stop_index = nodes_[node.fail].stop_index;
        }
        queue.push_back(child);
      }
    }
  }

  std::vector<std::string> stops_;
  std::vector<Node> nodes_;
};

StopMatcher::StopMatcher(std::vector<std::string> stops)
    : automaton_(std::make_shared<const Automaton>(std::move(stops))) {}

StopMatcher::Result StopMatcher::Push(absl::string_view piece, bool may_stop) {
  const absl::string_view held = automaton_->Text(state_);
  Result result;
  int state = state_;
  size_t used = 0;
  while (used < piece.size() && result.stop_index < 0) {
    state = automaton_->Next(state, static_cast<uint8_t>(piece[used++]));
    if (may_stop) result.stop_index = automaton_->stop_index(state);
  }
  // A stop that was passed over is held only as far as it begins another.
  if (result.stop_index < 0) state = automaton_->Extendable(state);
  // Both the state's text and the stop string are an end of held + piece.
  size_t kept = automaton_->Text(state).size();
  if (result.stop_index >= 0) {
    kept = automaton_->stop_length(result.stop_index);
    state = 0;
  }
  const size_t emitted = held.size() + used - kept;
  const size_t from_held = std::min(emitted, held.size());
  result.text.reserve(emitted);
  result.text.append(held.data(), from_held);
  result.text.append(piece.data(), emitted - from_held);
  state_ = state;
  return result;
}

std::string StopMatcher::Finish() {
  std::string held(automaton_->Text(state_));
  state_ = 0;
  return held;
}

}  // namespace pot
