#include "server/rpc/event_buffer.h"

namespace pot {

void EventBuffer::Push(const ModelEvent& event) {
  const Key key(event.version.name, event.version.version);
  const auto waiting = waiting_.find(key);
  if (waiting == waiting_.end()) {
    waiting_.emplace(key, event);
    order_.push_back(key);
    return;
  }
  const ModelEvent::Kind kind = waiting->second.kind;
  if (kind == ModelEvent::Kind::kSnapshot &&
      event.kind == ModelEvent::Kind::kDeleted) {
    waiting_.erase(waiting);
    return;
  }
  waiting->second = event;
  // Still before SNAPSHOT_DONE.
  if (kind == ModelEvent::Kind::kSnapshot) waiting->second.kind = kind;
}

std::optional<ModelEvent> EventBuffer::Pop() {
  while (!order_.empty()) {
    const Key key = std::move(order_.front());
    order_.pop_front();
    const auto waiting = waiting_.find(key);
    if (waiting == waiting_.end()) continue;
    ModelEvent event = std::move(waiting->second);
    waiting_.erase(waiting);
    return event;
  }
  return std::nullopt;
}

}  // namespace pot
