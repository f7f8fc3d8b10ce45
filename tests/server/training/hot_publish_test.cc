// Publications one after the other under constant load.
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/inference_engine.h"
#include "server/serving/generation_scheduler.h"
#include "server/training/checkpoint_publisher.h"
#include "tests/server/training/driver_testing.h"

namespace pot {
namespace {

// Sanitizers take their time for each.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kPublications = 8;
#else
constexpr int kPublications = 50;
#endif

// Waits for the end of one stream.
class WaitingSink final : public TokenSink {
 public:
  void OnPrompt(std::vector<SampledToken>) override {}
  void OnToken(TokenEvent event) override {
    ids_.insert(ids_.end(), event.ids.begin(), event.ids.end());
  }
  void OnDone(const absl::Status& status, const TaskUsage&,
              const TaskTimings&) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    status_ = status;
    done_ = true;
    wake_.notify_all();
  }
  bool ReadyForMore() const override { return true; }

  absl::StatusOr<std::vector<int32_t>> Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    wake_.wait(lock, [this] { return done_; });
    if (!status_.ok()) return status_;
    return ids_;
  }

 private:
  std::vector<int32_t> ids_;
  std::mutex mutex_;
  std::condition_variable wake_;
  absl::Status status_;
  bool done_ = false;
};

class HotPublishTest : public DriverTest {
 protected:
  // Greedy tokens of whatever is "default" now, and which format it has.
  absl::StatusOr<std::pair<std::string, std::vector<int32_t>>> Generate() {
    auto task = std::make_unique<GenerateTask>();
    POT_ASSIGN_OR_RETURN(task->model, repository_->Acquire({.name = "tiny"}));
    const std::string format = task->model->weights->format;
    task->prompt = {40, 50, 60};
    task->max_new_tokens = 12;
    task->ignore_eos = true;
    task->sampling.temperature = 0;
    const auto sink = std::make_shared<WaitingSink>();
    task->sink = sink;
    POT_RETURN_IF_ERROR(scheduler_.Submit(std::move(task)));
    POT_ASSIGN_OR_RETURN(std::vector<int32_t> ids, sink->Wait());
    return std::make_pair(format, std::move(ids));
  }

  InferenceEngine engine_{1, int64_t{16} << 20};
  GenerationScheduler scheduler_{&engine_, SchedulerOptions()};
};

TEST_F(HotPublishTest, PublicationsFailAndMixNoStream) {
  scheduler_.Start();
  const std::vector<std::string> formats = {"pot4", "pot3"};
  std::vector<std::string> directories;
  CheckpointPublisher publisher(repository_.get());
  PublishOrder order;
  order.model = "tiny";
  order.alias = "default";
  std::map<std::string, std::vector<int32_t>> expected;
  for (size_t i = 0; i < formats.size(); ++i) {
    directories.push_back(MakeCheckpoint(formats[i]));
    order.job_id = "reference-" + formats[i];
    order.checkpoint_directory = directories[i];
    ASSERT_TRUE(publisher.Publish(order).ok());
    const auto generated = Generate();
    ASSERT_TRUE(generated.ok()) << generated.status();
    ASSERT_EQ(generated->first, formats[i]);
    expected[formats[i]] = generated->second;
  }
  ASSERT_NE(expected["pot4"], expected["pot3"]);

  std::atomic<bool> stop = false;
  std::atomic<int> streams = 0, failed = 0, mixed = 0;
  std::vector<std::thread> load;
  for (int t = 0; t < 2; ++t) {
    load.emplace_back([&] {
      while (!stop) {
        const auto generated = Generate();
        if (!generated.ok()) {
          ++failed;
        } else if (generated->second != expected.at(generated->first)) {
          ++mixed;
        }
        ++streams;
      }
    });
  }
  for (int i = 0; i < kPublications; ++i) {
    // The same weights at another time are another version.
    const std::string& directory = directories[i % directories.size()];
    std::filesystem::remove(directory + "/" + kManifestFile);
    ASSERT_TRUE(WriteManifest(directory, 1700000001 + i, "test").ok());
    order.job_id = absl::StrCat("qat-", i);
    order.checkpoint_directory = directory;
    const auto published = publisher.Publish(order);
    ASSERT_TRUE(published.ok()) << published.status();
    EXPECT_EQ(Default(), published->identity.version);
  }
  stop = true;
  for (std::thread& thread : load) thread.join();
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(mixed, 0);
  EXPECT_GE(streams, kPublications);
  RecordProperty("streams", streams);
  EXPECT_EQ(History().size(), kPublications + 3);
}

}  // namespace
}  // namespace pot
