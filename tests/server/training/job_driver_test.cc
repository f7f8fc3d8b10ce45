// Jobs from the end of their training on, with a driver that a test steps and
// restarts.
#include "server/training/job_driver.h"

#include <chrono>
#include <thread>

#include "gmock/gmock.h"
#include "server/training/qat_job_state.h"
#include "tests/server/training/driver_testing.h"

namespace pot {
namespace {

using ::testing::HasSubstr;

class JobDriverTest : public DriverTest {
 protected:
  void SetUp() override {
    DriverTest::SetUp();
    UploadStoreOptions options;
    options.jobs_directory = JobsDirectory(jobs_root_);
    uploads_ = std::make_unique<UploadStore>(options);
    publisher_ = std::make_unique<CheckpointPublisher>(repository_.get(),
                                                       [this] { return now_; });
    Restart();
  }
  void TearDown() override { driver_.reset(); }

  // Without its thread.
  void Restart() {
    driver_.reset();
    JobDriverOptions options;
    options.store = store_.get();
    options.repository = repository_.get();
    options.publisher = publisher_.get();
    options.uploads = uploads_.get();
    options.root = jobs_root_;
    options.load.kernels = BestKernels();
    options.engine = "engine";
    options.now = [this] { return now_; };
    driver_ = std::make_unique<JobDriver>(std::move(options));
  }

  // A job whose worker has uploaded a checkpoint and gone.
  std::string Trained(const NewQatJob& job) {
    const auto submitted = store_->Submit(job);
    EXPECT_TRUE(submitted.ok()) << submitted.status();
    v1::WorkerInfo worker;
    worker.set_name("w");
    worker.set_version("1");
    const auto lease = store_->AcquireLease(worker);
    EXPECT_TRUE(lease.ok() && lease->has_value());
    const v1::LeaseKey key = (*lease)->key;
    const std::string directory = key.job_id() + "/checkpoints/last";
    const std::string path = JobDirectory(jobs_root_, directory);
    std::filesystem::create_directories(
        std::filesystem::path(path).parent_path());
    std::filesystem::rename(MakeCheckpoint("pot4"), path);
    v1::JobCheckpoint checkpoint;
    checkpoint.set_checkpoint_id("last");
    checkpoint.set_digest(ReadManifest(path)->digest);
    checkpoint.mutable_evaluation()->set_perplexity(5);
    EXPECT_TRUE(store_->AddCheckpoint(key, checkpoint, directory).ok());
    v1::CompleteRequest request;
    *request.mutable_lease() = key;
    request.mutable_trained()->set_checkpoint_id("last");
    EXPECT_EQ(*store_->Complete(request), v1::QAT_JOB_STATE_EVALUATING);
    return key.job_id();
  }

  v1::QatJob Until(const std::string& job_id, v1::QatJobState state) {
    for (int i = 0; i < 6000; ++i) {
      driver_->RunOnce();
      const v1::QatJob job = *store_->Get(job_id);
      if (job.state() == state || IsFinalState(job.state())) return job;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return *store_->Get(job_id);
  }
  v1::QatJob UntilFinal(const std::string& job_id) {
    return Until(job_id, v1::QAT_JOB_STATE_SUCCEEDED);
  }

  absl::Time now_ = absl::FromUnixSeconds(1800000000);
  std::unique_ptr<UploadStore> uploads_;
  std::unique_ptr<CheckpointPublisher> publisher_;
  std::unique_ptr<JobDriver> driver_;
};

TEST_F(JobDriverTest, PublishesWhatPassesTheGateAndTakesItBackWhenItFails) {
  NewQatJob job = Job();
  job.spec.mutable_gate()->set_max_perplexity_ratio(1.5);
  job.spec.mutable_publish()->mutable_auto_rollback()->set_window_seconds(60);
  const std::string job_id = Trained(job);
  const v1::QatJob done = UntilFinal(job_id);
  ASSERT_EQ(done.state(), v1::QAT_JOB_STATE_SUCCEEDED) << done.state_message();
  EXPECT_TRUE(done.gate().passed());
  EXPECT_GT(done.gate().base().perplexity(), 1);
  EXPECT_EQ(done.published().version(), 2);
  EXPECT_EQ(done.published().engine(), "engine");
  EXPECT_TRUE(
      store_->GetCheckpoint(job_id, "last")->checkpoint.has_published());
  EXPECT_EQ(Default(), 2);
  EXPECT_EQ(History().front().actor, "alice");
  EXPECT_EQ(History().front().comment, "qat job " + job_id);

  // The probation goes on with the next server.
  now_ += absl::Seconds(50);
  Restart();
  driver_->Start();
  driver_->OnCallEnd("tiny", 2,
                     WithDetails(absl::DataLossError("a NaN"),
                                 {.reason = "NON_FINITE_LOGITS"}));
  for (int i = 0; i < 6000 && Default() == 2; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(Default(), 1);
  EXPECT_EQ(History().front().cause, AliasChangeCause::kAutoRollback);
  // Gone before the store is looked at: its line is there, too.
  driver_.reset();
  const auto events = store_->EventsAfter(job_id, 0, 1000);
  EXPECT_THAT(events->events.back().log().text(),
              HasSubstr("went back to version 1"));
  // And is not begun again by the one after that.
  MoveAlias(2);
  Restart();
  driver_->Start();
  driver_->OnCallEnd("tiny", 2,
                     WithDetails(absl::DataLossError("a NaN"),
                                 {.reason = "NON_FINITE_LOGITS"}));
  // Long enough for the thread that the breach would wake.
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  driver_.reset();
  EXPECT_EQ(Default(), 2);
}

TEST_F(JobDriverTest, RejectsWhatMissesTheGateAndKeepsItsFigures) {
  NewQatJob job = Job();
  job.spec.mutable_gate()->set_max_perplexity(1.01);
  const std::string job_id = Trained(job);
  const v1::QatJob done = UntilFinal(job_id);
  EXPECT_EQ(done.state(), v1::QAT_JOB_STATE_GATE_REJECTED);
  EXPECT_THAT(done.state_message(), HasSubstr("max_perplexity is 1.01"));
  EXPECT_FALSE(
      store_->GetCheckpoint(job_id, "last")->checkpoint.gate().passed());
  EXPECT_GT(store_->GetCheckpoint(job_id, "last")
                ->checkpoint.gate()
                .checkpoint()
                .mean_kl_nats(),
            0);
  EXPECT_EQ(Default(), 1);
  EXPECT_EQ(repository_->List("tiny")->size(), 1);
}

TEST_F(JobDriverTest, GoesOnAfterACrashAnywhere) {
  v1::GateReport report;
  report.set_passed(true);
  report.mutable_base()->set_perplexity(1234);
  // With the gate's report stored, but the job still EVALUATING.
  NewQatJob manual = Job();
  manual.spec.mutable_publish()->set_manual(true);
  const std::string judged = Trained(manual);
  ASSERT_TRUE(store_->SetGateReport(judged, "last", report).ok());
  EXPECT_EQ(UntilFinal(judged).gate().base().perplexity(), 1234);
  // With the version there and the alias moved, but the job still PUBLISHING.
  const std::string job_id = Trained(Job());
  ASSERT_TRUE(store_->SetGateReport(job_id, "last", report).ok());
  ASSERT_TRUE(store_->Advance(job_id, v1::QAT_JOB_STATE_PUBLISHING, "").ok());
  PublishOrder order;
  order.job_id = job_id;
  order.checkpoint_directory =
      JobDirectory(jobs_root_, job_id + "/checkpoints/last");
  order.model = "tiny";
  order.alias = "default";
  ASSERT_TRUE(publisher_->Publish(order).ok());
  driver_.reset();
  OpenStore();
  Restart();
  const v1::QatJob done = UntilFinal(job_id);
  EXPECT_EQ(done.state(), v1::QAT_JOB_STATE_SUCCEEDED);
  EXPECT_EQ(done.published().version(), 2);
  EXPECT_EQ(repository_->List("tiny")->size(), 2);
}

TEST_F(JobDriverTest, PublishesNothingByItselfWhenAskedNotTo) {
  NewQatJob job = Job();
  job.spec.mutable_publish()->set_manual(true);
  const v1::QatJob done = UntilFinal(Trained(job));
  EXPECT_EQ(done.state(), v1::QAT_JOB_STATE_SUCCEEDED);
  EXPECT_FALSE(done.has_published());
  EXPECT_EQ(repository_->List("tiny")->size(), 1);
}

TEST_F(JobDriverTest, ACancelledJobLeavesTheGate) {
  const std::string job_id = Trained(Job());
  driver_->RunOnce();
  ASSERT_TRUE(store_->Cancel(job_id, "alice", "").ok());
  const std::string next = Trained(Job());
  EXPECT_EQ(UntilFinal(next).state(), v1::QAT_JOB_STATE_SUCCEEDED);
  EXPECT_EQ(store_->Get(job_id)->state(), v1::QAT_JOB_STATE_CANCELLED);
  EXPECT_FALSE(store_->Get(job_id)->has_published());
}

TEST_F(JobDriverTest, AJobWhoseBaseIsGoneFails) {
  NewQatJob job = Job();
  job.spec.mutable_base()->set_digest(std::string(64, '0'));
  const v1::QatJob done = UntilFinal(Trained(job));
  EXPECT_EQ(done.state(), v1::QAT_JOB_STATE_FAILED);
  EXPECT_THAT(done.state_message(), HasSubstr("tiny"));
}

TEST_F(JobDriverTest, RemovesWhatNobodyRefersTo) {
  const std::string job_id = Trained(Job());
  const std::string job = JobsDirectory(jobs_root_) + "/" + job_id;
  std::filesystem::create_directories(job + "/checkpoints/orphan");
  std::filesystem::create_directories(job + "/uploads/torn");
  std::filesystem::create_directories(JobsDirectory(jobs_root_) + "/qat-99/x");
  driver_->RemoveOrphans();
  EXPECT_TRUE(std::filesystem::exists(job + "/checkpoints/last"));
  EXPECT_FALSE(std::filesystem::exists(job + "/checkpoints/orphan"));
  EXPECT_FALSE(std::filesystem::exists(job + "/uploads/torn"));
  EXPECT_FALSE(std::filesystem::exists(JobsDirectory(jobs_root_) + "/qat-99"));
}

}  // namespace
}  // namespace pot
