#include "server/rpc/event_buffer.h"

#include <string>

#include "gtest/gtest.h"

namespace pot {
namespace {

using Kind = ModelEvent::Kind;
using State = ModelVersionState;

ModelEvent Event(Kind kind, int64_t version, State state = State::kRegistered) {
  ModelEvent event;
  event.kind = kind;
  if (kind != Kind::kSnapshotDone) {
    event.version.name = "m";
    event.version.version = version;
    event.version.state = state;
  }
  return event;
}

// "SNAPSHOT 1 REGISTERED".
std::string PopText(EventBuffer* buffer) {
  const auto event = buffer->Pop();
  if (!event.has_value()) return "nothing";
  const char* kinds[] = {"SNAPSHOT", "DONE", "CHANGED", "DELETED"};
  return std::string(kinds[static_cast<int>(event->kind)]) + " " +
         std::to_string(event->version.version) + " " +
         std::string(ModelVersionStateName(event->version.state));
}

TEST(EventBufferTest, KeepsTheOrderOfDifferentVersions) {
  EventBuffer buffer;
  EXPECT_EQ(PopText(&buffer), "nothing");
  buffer.Push(Event(Kind::kSnapshot, 2));
  buffer.Push(Event(Kind::kSnapshot, 1));
  buffer.Push(Event(Kind::kSnapshotDone, 0));
  EXPECT_EQ(PopText(&buffer), "SNAPSHOT 2 REGISTERED");
  EXPECT_EQ(PopText(&buffer), "SNAPSHOT 1 REGISTERED");
  EXPECT_EQ(PopText(&buffer), "DONE 0 REGISTERED");
  EXPECT_EQ(PopText(&buffer), "nothing");
}

TEST(EventBufferTest, KeepsTheLatestOfAVersion) {
  EventBuffer buffer;
  buffer.Push(Event(Kind::kSnapshot, 1));
  buffer.Push(Event(Kind::kSnapshotDone, 0));
  // As it was not sent, the newer state is the snapshot.
  buffer.Push(Event(Kind::kChanged, 1, State::kVerifying));
  EXPECT_EQ(PopText(&buffer), "SNAPSHOT 1 VERIFYING");
  for (int i = 0; i < 1000; ++i) {
    buffer.Push(Event(Kind::kChanged, 1, State::kLoading));
    buffer.Push(Event(Kind::kChanged, 2, State::kLoading));
  }
  buffer.Push(Event(Kind::kChanged, 1, State::kAvailable));
  EXPECT_EQ(buffer.size(), 3);
  EXPECT_EQ(PopText(&buffer), "DONE 0 REGISTERED");
  EXPECT_EQ(PopText(&buffer), "CHANGED 1 AVAILABLE");
  EXPECT_EQ(PopText(&buffer), "CHANGED 2 LOADING");
}

TEST(EventBufferTest, DeletionWins) {
  EventBuffer buffer;
  buffer.Push(Event(Kind::kSnapshot, 1));
  buffer.Push(Event(Kind::kSnapshotDone, 0));
  buffer.Push(Event(Kind::kDeleted, 1));
  EXPECT_EQ(PopText(&buffer), "DONE 0 REGISTERED");
  buffer.Push(Event(Kind::kChanged, 2));
  buffer.Push(Event(Kind::kDeleted, 2));
  EXPECT_EQ(PopText(&buffer), "DELETED 2 REGISTERED");
  EXPECT_EQ(PopText(&buffer), "nothing");
}

}  // namespace
}  // namespace pot
