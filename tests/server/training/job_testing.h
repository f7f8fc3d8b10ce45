#ifndef POT_TESTS_SERVER_TRAINING_JOB_TESTING_H_
#define POT_TESTS_SERVER_TRAINING_JOB_TESTING_H_

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "server/serving/error_details.h"
#include "server/training/qat_job_store.h"

namespace pot {

// In memory where that can be had: every change of a store is synced.
class TempDirectory {
 public:
  TempDirectory() {
    std::string path =
        access("/dev/shm", W_OK) == 0 ? "/dev/shm" : ::testing::TempDir();
    path += "/pot-training-XXXXXX";
    EXPECT_NE(mkdtemp(path.data()), nullptr);
    path_ = path;
  }
  ~TempDirectory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline void WriteText(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline std::string Reason(const absl::Status& status) {
  const auto details = GetDetails(status);
  return details.has_value() ? details->reason : "";
}

// A store with a clock that a test moves.
class QatJobStoreTest : public ::testing::Test {
 protected:
  void Open(QatJobStoreOptions options = {}) {
    store_.reset();
    options.path = directory_.path() + "/jobs.sqlite";
    options.clock = [this] { return now_; };
    auto store = QatJobStore::Open(std::move(options));
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  void SetUp() override { Open(); }

  static NewQatJob Job(const std::string& key = "") {
    NewQatJob job;
    job.spec.mutable_base()->set_name("base");
    job.spec.mutable_snapshots()->set_keep_checkpoints(2);
    job.submitter = "alice";
    job.idempotency_key = key;
    job.fingerprint = "f";
    job.estimate.set_memory_bytes(100);
    job.num_parameters = 1000;
    return job;
  }
  std::string Submit() {
    const auto submitted = store_->Submit(Job());
    EXPECT_TRUE(submitted.ok()) << submitted.status();
    return submitted->job.job_id();
  }

  static v1::WorkerInfo Worker(const std::string& name = "w") {
    v1::WorkerInfo worker;
    worker.set_name(name);
    worker.set_version("1.2.3");
    worker.set_memory_bytes(1000);
    return worker;
  }
  v1::LeaseKey Lease(const std::string& worker = "w") {
    const auto lease = store_->AcquireLease(Worker(worker));
    EXPECT_TRUE(lease.ok()) << lease.status();
    EXPECT_TRUE(lease->has_value());
    return lease->has_value() ? (*lease)->key : v1::LeaseKey();
  }
  // Submitted and leased.
  v1::LeaseKey Running() {
    Submit();
    return Lease();
  }

  static v1::CompleteRequest Outcome(const v1::LeaseKey& lease) {
    v1::CompleteRequest request;
    *request.mutable_lease() = lease;
    return request;
  }
  static v1::CompleteRequest Released(const v1::LeaseKey& lease) {
    v1::CompleteRequest request = Outcome(lease);
    request.mutable_released();
    return request;
  }
  static v1::CompleteRequest Trained(const v1::LeaseKey& lease,
                                     const std::string& checkpoint_id) {
    v1::CompleteRequest request = Outcome(lease);
    request.mutable_trained()->set_checkpoint_id(checkpoint_id);
    return request;
  }

  static v1::JobCheckpoint Checkpoint(const std::string& id,
                                      double perplexity) {
    v1::JobCheckpoint checkpoint;
    checkpoint.set_checkpoint_id(id);
    checkpoint.set_digest("digest-" + id);
    checkpoint.mutable_evaluation()->set_perplexity(perplexity);
    return checkpoint;
  }
  absl::StatusOr<v1::JobCheckpoint> AddCheckpoint(const v1::LeaseKey& lease,
                                                  const std::string& id,
                                                  double perplexity) {
    return store_->AddCheckpoint(
        lease, Checkpoint(id, perplexity),
        absl::StrCat(lease.job_id(), "/checkpoints/", id));
  }

  v1::QatJobState State(const std::string& job_id) {
    const auto job = store_->Get(job_id);
    EXPECT_TRUE(job.ok()) << job.status();
    return job.ok() ? job->state() : v1::QAT_JOB_STATE_UNSPECIFIED;
  }
  std::vector<v1::JobEvent> Events(const std::string& job_id) {
    const auto events = store_->EventsAfter(job_id, 0, 1000000);
    EXPECT_TRUE(events.ok()) << events.status();
    return events->events;
  }
  // One after the other from 1 to the job's last_sequence.
  void ExpectNoHoles(const std::string& job_id) {
    const auto events = store_->EventsAfter(job_id, 0, 1000000);
    ASSERT_TRUE(events.ok()) << events.status();
    int64_t expected = 0;
    for (const v1::JobEvent& event : events->events) {
      ASSERT_EQ(event.sequence(), ++expected);
    }
    EXPECT_EQ(events->job.last_sequence(), expected);
  }

  TempDirectory directory_;
  absl::Time now_ = absl::FromUnixSeconds(1800000000);
  std::unique_ptr<QatJobStore> store_;
};

}  // namespace pot

#endif  // POT_TESTS_SERVER_TRAINING_JOB_TESTING_H_
