// What workers do.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/training/qat_job_store.h"
#include "tests/server/training/job_testing.h"

namespace pot {
namespace {

using ::testing::HasSubstr;

v1::JobProgress Progress(int64_t step) {
  v1::JobProgress progress;
  progress.set_step(step);
  progress.set_total_steps(100);
  progress.set_tokens_per_second(10);
  return progress;
}

TEST_F(QatJobStoreTest, LeasesTheOldestJobThatFits) {
  NewQatJob big = Job();
  big.estimate.set_memory_bytes(1001);
  const std::string too_big = store_->Submit(big)->job.job_id();
  const std::string first = Submit();
  const std::string second = Submit();
  const v1::LeaseKey lease = Lease("w1");
  EXPECT_EQ(lease.job_id(), first);
  EXPECT_EQ(lease.epoch(), 1);
  EXPECT_EQ(Lease("w2").job_id(), second);
  EXPECT_FALSE(store_->AcquireLease(Worker("w3"))->has_value());
  EXPECT_EQ(store_->Get(too_big)->state_message(),
            "waits for a worker with 1001 bytes of memory");
  const auto job = store_->Get(first);
  EXPECT_EQ(job->state(), v1::QAT_JOB_STATE_RUNNING);
  EXPECT_EQ(job->worker(), "w1");
  EXPECT_EQ(job->attempts(), 1);
  EXPECT_TRUE(job->has_start_time());
}

TEST_F(QatJobStoreTest, EveryCallOfAStaleLeaseIsRefused) {
  const v1::LeaseKey stale = Running();
  now_ += store_->lease_ttl();
  ASSERT_EQ(*store_->ExpireLeases(), 1);
  const v1::LeaseKey lease = Lease("other");
  EXPECT_EQ(lease.epoch(), 2);
  v1::LeaseKey unknown;
  unknown.set_job_id("qat-77");
  unknown.set_epoch(1);
  for (const v1::LeaseKey& key : {stale, unknown}) {
    std::vector<absl::Status> refused = {
        store_->CheckLease(key).status(),
        store_->LeaseSnapshot(key).status(),
        store_->AppendWorkerEvents(key, {}).status(),
        AddCheckpoint(key, "c", 1).status(),
        store_->SetSnapshot(key, {}, "d"),
        store_->Complete(Released(key)).status()};
    for (const absl::Status& status : refused) {
      EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
      EXPECT_EQ(Reason(status), "STALE_LEASE");
    }
    EXPECT_EQ(*store_->Heartbeat(key, {}), v1::WORKER_DIRECTIVE_LEASE_LOST);
  }
  EXPECT_EQ(*store_->Heartbeat(lease, {}), v1::WORKER_DIRECTIVE_CONTINUE);
}

TEST_F(QatJobStoreTest, HeartbeatsKeepALeaseAndTellWishes) {
  const v1::LeaseKey lease = Running();
  for (int i = 0; i < 3; ++i) {
    now_ += store_->lease_ttl() - absl::Nanoseconds(1);
    EXPECT_EQ(*store_->ExpireLeases(), 0);
    EXPECT_EQ(*store_->Heartbeat(lease, Progress(i)),
              v1::WORKER_DIRECTIVE_CONTINUE);
    EXPECT_EQ(*store_->NextLeaseExpiry(), now_ + store_->lease_ttl());
  }
  EXPECT_EQ(store_->Get(lease.job_id())->progress().step(), 2);
  const auto directive = [&] { return *store_->Heartbeat(lease, {}); };
  ASSERT_TRUE(store_->StopEarly(lease.job_id(), "").ok());
  EXPECT_EQ(directive(), v1::WORKER_DIRECTIVE_STOP_EARLY);
  ASSERT_TRUE(store_->Pause(lease.job_id(), "").ok());
  EXPECT_EQ(directive(), v1::WORKER_DIRECTIVE_PAUSE);
  ASSERT_TRUE(store_->Resume(lease.job_id(), "").ok());
  EXPECT_EQ(directive(), v1::WORKER_DIRECTIVE_STOP_EARLY);
  ASSERT_TRUE(store_->Cancel(lease.job_id(), "", "").ok());
  EXPECT_EQ(directive(), v1::WORKER_DIRECTIVE_CANCEL);
}

TEST_F(QatJobStoreTest, ALostWorkerCostsAnAttemptUntilTheyAreUsedUp) {
  const std::string id = Submit();
  for (int attempt = 1; attempt <= 5; ++attempt) {
    EXPECT_EQ(State(id), v1::QAT_JOB_STATE_QUEUED);
    EXPECT_EQ(Lease().epoch(), attempt);
    now_ += store_->lease_ttl();
    EXPECT_EQ(*store_->ExpireLeases(), 1);
  }
  const auto job = store_->Get(id);
  EXPECT_EQ(job->state(), v1::QAT_JOB_STATE_FAILED);
  EXPECT_THAT(job->state_message(),
              HasSubstr("worker w was not heard of for 30s; given up after 5 "
                        "attempts"));
  EXPECT_EQ(job->attempts(), 5);
  EXPECT_EQ(*store_->NextLeaseExpiry(), absl::InfiniteFuture());
  ExpectNoHoles(id);
}

TEST_F(QatJobStoreTest, AttemptsThatBringTheJobForwardAreNotCounted) {
  const std::string id = Submit();
  for (int i = 1; i <= 8; ++i) {
    const v1::LeaseKey lease = Lease();
    v1::Snapshot snapshot;
    snapshot.set_step(i);
    ASSERT_TRUE(
        store_->SetSnapshot(lease, snapshot, absl::StrCat(id, "/", i)).ok());
    now_ += store_->lease_ttl();
    ASSERT_EQ(*store_->ExpireLeases(), 1);
  }
  EXPECT_EQ(State(id), v1::QAT_JOB_STATE_QUEUED);
  // The next worker gets the newest snapshot; the others are garbage.
  EXPECT_EQ(store_->Garbage()->size(), 7u);
  v1::WorkerInfo newer = Worker();
  newer.set_version("2.0");
  EXPECT_FALSE(store_->AcquireLease(newer)->has_value());
  const auto lease = store_->AcquireLease(Worker());
  ASSERT_TRUE(lease.ok() && lease->has_value());
  ASSERT_TRUE((*lease)->snapshot.has_value());
  EXPECT_EQ((*lease)->snapshot->snapshot.step(), 8);
  EXPECT_EQ((*lease)->snapshot->directory, id + "/8");
}

TEST_F(QatJobStoreTest, AServerThatWasDownTakesNoLeaseAway) {
  const v1::LeaseKey lease = Running();
  now_ += absl::Hours(1);
  Open();
  EXPECT_EQ(*store_->ExpireLeases(), 0);
  EXPECT_EQ(*store_->Heartbeat(lease, {}), v1::WORKER_DIRECTIVE_CONTINUE);
}

TEST_F(QatJobStoreTest, AWorkerThatWasStartedAnewLosesItsLease) {
  const v1::LeaseKey lease = Running();
  const v1::LeaseKey again = Lease();
  EXPECT_EQ(again.job_id(), lease.job_id());
  EXPECT_EQ(again.epoch(), 2);
  EXPECT_EQ(*store_->Heartbeat(lease, {}), v1::WORKER_DIRECTIVE_LEASE_LOST);
}

TEST_F(QatJobStoreTest, OutcomesLeadWhereTheyShould) {
  const auto complete = [&](const v1::CompleteRequest& request) {
    const auto state = store_->Complete(request);
    EXPECT_TRUE(state.ok()) << state.status();
    return state.ok() ? *state : v1::QAT_JOB_STATE_UNSPECIFIED;
  };
  v1::LeaseKey lease = Running();
  EXPECT_EQ(complete(Released(lease)), v1::QAT_JOB_STATE_QUEUED);
  // Again: no effect. Something else: too late.
  EXPECT_EQ(complete(Released(lease)), v1::QAT_JOB_STATE_QUEUED);
  v1::CompleteRequest failed = Outcome(lease);
  failed.mutable_failed()->set_message("no memory");
  EXPECT_EQ(Reason(store_->Complete(failed).status()), "STALE_LEASE");

  lease = Lease();
  v1::CompleteRequest cancelled = Outcome(lease);
  cancelled.mutable_cancelled();
  EXPECT_EQ(Reason(store_->Complete(cancelled).status()), "WRONG_JOB_STATE");
  EXPECT_EQ(Reason(store_->Complete(Outcome(lease)).status()), "MISSING_FIELD");
  ASSERT_TRUE(store_->Pause(lease.job_id(), "bob").ok());
  EXPECT_EQ(complete(Released(lease)), v1::QAT_JOB_STATE_PAUSED);
  EXPECT_EQ(Events(lease.job_id()).back().state_change().actor(), "bob");
  ASSERT_TRUE(store_->StopEarly(lease.job_id(), "bob").ok());
  lease = Lease();
  EXPECT_EQ(*store_->Heartbeat(lease, {}), v1::WORKER_DIRECTIVE_STOP_EARLY);
  *failed.mutable_lease() = lease;
  failed.mutable_failed()->set_retryable(true);
  EXPECT_EQ(complete(failed), v1::QAT_JOB_STATE_QUEUED);
  lease = Lease();
  *failed.mutable_lease() = lease;
  failed.mutable_failed()->set_retryable(false);
  EXPECT_EQ(complete(failed), v1::QAT_JOB_STATE_FAILED);
  EXPECT_EQ(store_->Get(lease.job_id())->state_message(), "no memory");

  lease = Running();
  ASSERT_TRUE(AddCheckpoint(lease, "c", 1).ok());
  ASSERT_TRUE(store_->Cancel(lease.job_id(), "bob", "why").ok());
  EXPECT_EQ(complete(Trained(lease, "c")), v1::QAT_JOB_STATE_CANCELLED);
  EXPECT_EQ(store_->Get(lease.job_id())->state_message(), "why");
  // Its checkpoints stay.
  EXPECT_TRUE(store_->GetCheckpoint(lease.job_id(), "c").ok());

  lease = Running();
  ASSERT_TRUE(store_->Cancel(lease.job_id(), "bob", "why").ok());
  now_ += store_->lease_ttl();
  ASSERT_EQ(*store_->ExpireLeases(), 1);
  EXPECT_EQ(State(lease.job_id()), v1::QAT_JOB_STATE_CANCELLED);
}

TEST_F(QatJobStoreTest, WorkerEventsAreStoredOnce) {
  const v1::LeaseKey lease = Running();
  const auto line = [](int64_t sequence, const std::string& text) {
    v1::WorkerEvent event;
    event.set_worker_sequence(sequence);
    event.set_age_seconds(2);
    event.mutable_log()->set_text(text);
    return event;
  };
  EXPECT_EQ(*store_->AppendWorkerEvents(lease, {line(1, "a"), line(2, "b")}),
            2);
  EXPECT_EQ(*store_->AppendWorkerEvents(
                lease, {line(1, "a"), line(2, "b"), line(3, "c")}),
            3);
  EXPECT_EQ(*store_->AppendWorkerEvents(lease, {line(2, "b")}), 3);
  std::string texts;
  for (const v1::JobEvent& event : Events(lease.job_id())) {
    if (!event.has_log()) continue;
    texts += event.log().text();
    EXPECT_EQ(event.time().seconds(), absl::ToUnixSeconds(now_) - 2);
  }
  EXPECT_EQ(texts, "abc");
  ExpectNoHoles(lease.job_id());
  // The next lease counts from 1 again.
  ASSERT_TRUE(store_->Complete(Released(lease)).ok());
  const v1::LeaseKey next = Lease();
  EXPECT_EQ(*store_->AppendWorkerEvents(next, {line(1, "d")}), 1);
}

TEST_F(QatJobStoreTest, ProgressBecomesAnEventOnceASecond) {
  const v1::LeaseKey lease = Running();
  for (int step = 1; step <= 50; ++step) {
    v1::WorkerEvent event;
    event.set_worker_sequence(step);
    *event.mutable_progress() = Progress(step);
    ASSERT_TRUE(store_->AppendWorkerEvents(lease, {&event, 1}).ok());
    ASSERT_TRUE(store_->Heartbeat(lease, Progress(step)).ok());
    now_ += absl::Milliseconds(100);
  }
  int events = 0;
  for (const v1::JobEvent& event : Events(lease.job_id())) {
    events += event.has_progress() ? 1 : 0;
  }
  EXPECT_EQ(events, 5);
  EXPECT_EQ(store_->Get(lease.job_id())->progress().step(), 50);
  const auto samples = store_->Throughput(10);
  ASSERT_EQ(samples->size(), 1u);
  EXPECT_EQ(samples->front().num_parameters, 1000);
  EXPECT_EQ(samples->front().tokens_per_second, 10);
}

}  // namespace
}  // namespace pot
