#include "server/rpc/worker_pool.h"

#include <atomic>
#include <future>

#include "gtest/gtest.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

TEST(WorkerPoolTest, RunsEverythingThatItTook) {
  std::atomic<int> done{0};
  std::promise<void> all;
  WorkerPool pool(3, 100);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(pool.Submit([&] {
                      if (++done == 100) all.set_value();
                    })
                    .ok());
  }
  all.get_future().wait();
  EXPECT_EQ(done, 100);
}

TEST(WorkerPoolTest, RefusesBeyondTheBound) {
  std::promise<void> started;
  std::promise<void> release;
  std::atomic<int> dropped{0};
  {
    WorkerPool pool(1, 2);
    ASSERT_TRUE(pool.Submit([&] {
                      started.set_value();
                      release.get_future().wait();
                    })
                    .ok());
    started.get_future().wait();
    EXPECT_TRUE(pool.Submit([&] { ++dropped; }).ok());
    EXPECT_TRUE(pool.Submit([&] { ++dropped; }).ok());
    const absl::Status full = pool.Submit([] {});
    EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
    const auto details = GetDetails(full);
    ASSERT_TRUE(details.has_value());
    EXPECT_EQ(details->reason, "QUEUE_FULL");
    EXPECT_EQ(details->metadata.at("limit"), "2");
    EXPECT_TRUE(details->retry_after.has_value());
    // Released only once the pool is being destroyed, or just before.
    release.set_value();
  }
  EXPECT_LE(dropped, 2);
}

}  // namespace
}  // namespace pot
