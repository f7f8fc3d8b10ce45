// Versions come and go under load: no request ever fails, nothing is kept.
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "server/serving/model_repository.h"
#include "tests/server/serving/repository_testing.h"

namespace pot {
namespace {

using State = ModelVersionState;

absl::Time Later() { return absl::Now() + absl::Seconds(60); }

TEST(HotSwapTest, NoRequestFailsWhileVersionsAreSwapped) {
  RepositoryForTest files;
  files.AddPot("tiny", "pot4");
  files.AddPot("tiny", "pot3");
  const auto repository = files.Open();
  const auto point = [&](int64_t version) {
    AliasChange change;
    change.model = "tiny";
    change.alias = "default";
    change.to_version = version;
    change.time = absl::UnixEpoch();
    return repository->SetAlias(change, std::nullopt).status();
  };
  ASSERT_TRUE(repository->Load({.name = "tiny", .version = 1}, Later()).ok());
  ASSERT_TRUE(point(1).ok());

  std::atomic<bool> stop{false};
  std::atomic<int64_t> requests{0};
  std::atomic<int64_t> failures{0};
  std::atomic<int64_t> mixed{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      while (!stop) {
        const auto model = repository->Acquire({.name = "tiny"});
        if (!model.ok()) {
          ++failures;
          continue;
        }
        // The pin stays whole while it is held.
        const char* format = (*model)->identity.version == 1 ? "pot4" : "pot3";
        if ((*model)->weights->format != format) ++mixed;
        ++requests;
        std::this_thread::yield();
      }
    });
  }
  constexpr int kSwaps = 20;
  int64_t old_version = 1;
  for (int i = 0; i < kSwaps; ++i) {
    const int64_t new_version = 3 - old_version;
    const std::weak_ptr<const LoadedModel> old =
        *repository->Acquire({.name = "tiny", .version = old_version});
    ASSERT_TRUE(
        repository->Load({.name = "tiny", .version = new_version}, Later())
            .ok());
    ASSERT_TRUE(point(new_version).ok());
    const auto unloaded =
        repository->Unload({.name = "tiny", .version = old_version}, Later());
    ASSERT_TRUE(unloaded.ok()) << unloaded.status();
    EXPECT_EQ(unloaded->state, State::kUnloaded);
    EXPECT_TRUE(old.expired());
    old_version = new_version;
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(mixed, 0);
  EXPECT_GT(requests, kSwaps);
}

TEST(HotSwapTest, ConcurrentLoadsOfOneVersionAreOneLoad) {
  RepositoryForTest files;
  files.AddPot("tiny", "pot4");
  const auto repository = files.Open();
  std::atomic<int> loads{0};
  const auto watch = repository->Watch("", [&](const ModelEvent& event) {
    loads += event.version.state == State::kLoading;
  });
  std::atomic<int> available{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&] {
      const auto info = repository->Load({.name = "tiny"}, Later());
      available += info.ok() && info->state == State::kAvailable;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(available, 6);
  EXPECT_EQ(loads, 1);
}

TEST(HotSwapTest, WatchersComeAndGoDuringChanges) {
  RepositoryForTest files;
  files.AddPot("tiny", "pot4");
  const auto repository = files.Open();
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::thread watcher([&] {
    while (!stop) {
      State last = State::kRegistered;
      bool first = true;
      const auto watch = repository->Watch("tiny", [&](const ModelEvent& e) {
        if (e.kind == ModelEvent::Kind::kSnapshotDone) return;
        const State now = e.version.state;
        if (!first && !TransitionAllowed(last, now)) ++wrong;
        first = false;
        last = now;
      });
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  });
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(repository->Load({.name = "tiny"}, Later()).ok());
    ASSERT_TRUE(
        repository->Unload({.name = "tiny", .version = 1}, Later()).ok());
  }
  stop = true;
  watcher.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace pot
