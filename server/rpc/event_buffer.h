#ifndef POT_SERVER_RPC_EVENT_BUFFER_H_
#define POT_SERVER_RPC_EVENT_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "server/serving/model_event.h"

namespace pot {

// Events that wait to be sent: the latest of each version, in the order in
// which the versions first had to wait. A version that is deleted before its
// snapshot was sent was never there. Not thread-safe.
class EventBuffer {
 public:
  void Push(const ModelEvent& event);
  // Nothing when empty.
  std::optional<ModelEvent> Pop();
  size_t size() const { return waiting_.size(); }

 private:
  using Key = std::pair<std::string, int64_t>;  // model and version

  // Keys of events that were taken back stay in it until they are popped.
  std::deque<Key> order_;
  std::map<Key, ModelEvent> waiting_;
};

}  // namespace pot

#endif  // POT_SERVER_RPC_EVENT_BUFFER_H_
