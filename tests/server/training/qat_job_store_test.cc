// What clients, gate and publisher do.
#include "server/training/qat_job_store.h"

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/training/job_files.h"
#include "server/training/qat_job_state.h"
#include "tests/server/training/job_testing.h"

namespace pot {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

// The moves of qat_job.proto's comment, written a second time.
TEST(QatJobStateTest, OnlyTheDocumentedMovesAreAllowed) {
  const std::map<std::string, std::set<std::string>> expected = {
      {"VALIDATING", {"QUEUED", "FAILED", "CANCELLED"}},
      {"QUEUED", {"RUNNING", "PAUSED", "FAILED", "CANCELLED"}},
      {"RUNNING", {"QUEUED", "PAUSED", "EVALUATING", "FAILED", "CANCELLED"}},
      {"PAUSED", {"QUEUED", "FAILED", "CANCELLED"}},
      {"EVALUATING",
       {"PUBLISHING", "SUCCEEDED", "GATE_REJECTED", "FAILED", "CANCELLED"}},
      {"PUBLISHING", {"SUCCEEDED", "FAILED", "CANCELLED"}}};
  int finals = 0;
  for (int from = 0; from < v1::QatJobState_ARRAYSIZE; ++from) {
    const auto from_state = static_cast<v1::QatJobState>(from);
    const auto row = expected.find(std::string(QatJobStateName(from_state)));
    finals += IsFinalState(from_state) ? 1 : 0;
    for (int to = 0; to < v1::QatJobState_ARRAYSIZE; ++to) {
      const auto to_state = static_cast<v1::QatJobState>(to);
      EXPECT_EQ(IsAllowedMove(from_state, to_state),
                row != expected.end() &&
                    row->second.count(std::string(QatJobStateName(to_state))))
          << QatJobStateName(from_state) << " to " << QatJobStateName(to_state);
    }
  }
  EXPECT_EQ(finals, 4);
}

TEST_F(QatJobStoreTest, SubmitsOnceForOneKey) {
  const auto first = store_->Submit(Job("key"));
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_FALSE(first->existing);
  EXPECT_EQ(first->job.state(), v1::QAT_JOB_STATE_QUEUED);
  EXPECT_EQ(first->job.spec().base().name(), "base");
  EXPECT_EQ(first->job.create_time().seconds(), absl::ToUnixSeconds(now_));

  Open();
  const auto again = store_->Submit(Job("key"));
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(again->existing);
  EXPECT_EQ(again->job.job_id(), first->job.job_id());
  const auto found = store_->FindSubmitted("alice", "key", "f");
  ASSERT_TRUE(found.ok() && found->has_value());
  EXPECT_EQ((*found)->job.job_id(), first->job.job_id());
  EXPECT_EQ((*found)->estimate.memory_bytes(), 100);

  NewQatJob other = Job("key");
  other.fingerprint = "g";
  EXPECT_EQ(Reason(store_->Submit(other).status()), "IDEMPOTENCY_MISMATCH");
  // Keys are each submitter's own, and no key is no key.
  other.submitter = "bob";
  EXPECT_FALSE(store_->Submit(other)->existing);
  EXPECT_NE(Submit(), Submit());
  EXPECT_FALSE(store_->FindSubmitted("alice", "", "f")->has_value());
}

TEST_F(QatJobStoreTest, RefusesMoreThanTheQueueHolds) {
  QatJobStoreOptions options;
  options.max_queued_jobs = 2;
  Open(options);
  Submit();
  const v1::LeaseKey lease = Lease();  // leaves the queue
  Submit();
  Submit();
  const absl::Status full = store_->Submit(Job()).status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Reason(full), "JOB_QUEUE_FULL");
  EXPECT_EQ(store_->CountByState()->at(v1::QAT_JOB_STATE_QUEUED), 2);
}

TEST_F(QatJobStoreTest, ListsNewestFirstInPages) {
  std::vector<std::string> ids;
  for (int i = 0; i < 5; ++i) ids.push_back(Submit());
  ASSERT_TRUE(store_->Cancel(ids[1], "", "").ok());
  std::vector<std::string> listed;
  std::string token;
  do {
    const auto page = store_->List({}, 2, token);
    ASSERT_TRUE(page.ok()) << page.status();
    for (const v1::QatJob& job : page->jobs) listed.push_back(job.job_id());
    token = page->next_page_token;
  } while (!token.empty());
  EXPECT_THAT(listed, ElementsAre(ids[4], ids[3], ids[2], ids[1], ids[0]));
  const v1::QatJobState states[] = {v1::QAT_JOB_STATE_CANCELLED,
                                    v1::QAT_JOB_STATE_RUNNING};
  const auto page = store_->List(states, 10, "");
  ASSERT_EQ(page->jobs.size(), 1u);
  EXPECT_EQ(page->jobs[0].job_id(), ids[1]);
  EXPECT_EQ(Reason(store_->List({}, 2, "x").status()), "INVALID_FIELD");
}

TEST_F(QatJobStoreTest, UnknownJobsAreNotFound) {
  Submit();
  for (const char* id : {"", "qat-2", "qat-01", "1", "qat-1 ", "qat--1",
                         "qat-99999999999999999999"}) {
    EXPECT_EQ(Reason(store_->Get(id).status()), "JOB_NOT_FOUND") << id;
    EXPECT_EQ(Reason(store_->Delete(id)), "JOB_NOT_FOUND") << id;
  }
}

// What each operation does in each state that a client can see.
TEST_F(QatJobStoreTest, SteeringFollowsTheStates) {
  const auto put_in = [&](v1::QatJobState state) {
    const std::string id = Submit();
    if (state == v1::QAT_JOB_STATE_QUEUED) return id;
    if (state == v1::QAT_JOB_STATE_PAUSED) {
      EXPECT_TRUE(store_->Pause(id, "").ok());
    } else if (state == v1::QAT_JOB_STATE_CANCELLED) {
      EXPECT_TRUE(store_->Cancel(id, "", "").ok());
    } else {
      const v1::LeaseKey lease = Lease(id);
      if (state == v1::QAT_JOB_STATE_RUNNING) return id;
      EXPECT_TRUE(AddCheckpoint(lease, "c", 2).ok());
      EXPECT_TRUE(store_->Complete(Trained(lease, "c")).ok());
      if (state == v1::QAT_JOB_STATE_EVALUATING) return id;
      EXPECT_TRUE(store_->Advance(id, state, "").ok());
    }
    return id;
  };
  struct Row {
    v1::QatJobState state;
    // State after the operation; UNSPECIFIED: WRONG_JOB_STATE.
    v1::QatJobState cancel, pause, resume, stop;
    bool deletes;
  };
  constexpr auto kRefused = v1::QAT_JOB_STATE_UNSPECIFIED;
  constexpr auto kQueued = v1::QAT_JOB_STATE_QUEUED;
  constexpr auto kRunning = v1::QAT_JOB_STATE_RUNNING;
  constexpr auto kPaused = v1::QAT_JOB_STATE_PAUSED;
  constexpr auto kCancelled = v1::QAT_JOB_STATE_CANCELLED;
  const Row rows[] = {
      {kQueued, kCancelled, kPaused, kQueued, kRefused, false},
      {kRunning, kRunning, kRunning, kRunning, kRunning, false},
      {kPaused, kCancelled, kPaused, kQueued, kQueued, false},
      {v1::QAT_JOB_STATE_EVALUATING, kCancelled, kRefused, kRefused, kRefused,
       false},
      {v1::QAT_JOB_STATE_PUBLISHING, kCancelled, kRefused, kRefused, kRefused,
       false},
      {kCancelled, kCancelled, kRefused, kRefused, kRefused, true},
      {v1::QAT_JOB_STATE_GATE_REJECTED, v1::QAT_JOB_STATE_GATE_REJECTED,
       kRefused, kRefused, kRefused, true},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(QatJobStateName(row.state));
    const auto check = [&](absl::StatusOr<v1::QatJob> job,
                           v1::QatJobState expected) {
      if (expected == kRefused) {
        EXPECT_EQ(Reason(job.status()), "WRONG_JOB_STATE");
      } else {
        ASSERT_TRUE(job.ok()) << job.status();
        EXPECT_EQ(job->state(), expected);
      }
    };
    check(store_->Cancel(put_in(row.state), "bob", "why"), row.cancel);
    check(store_->Pause(put_in(row.state), "bob"), row.pause);
    check(store_->Resume(put_in(row.state), "bob"), row.resume);
    check(store_->StopEarly(put_in(row.state), "bob"), row.stop);
    const absl::Status deleted = store_->Delete(put_in(row.state));
    EXPECT_EQ(Reason(deleted), row.deletes ? "" : "WRONG_JOB_STATE");
    // The queue must be empty for the next row's leases.
    while (true) {
      const auto page = store_->List({&kQueued, 1}, 100, "");
      if (page->jobs.empty()) break;
      for (const v1::QatJob& job : page->jobs) {
        ASSERT_TRUE(store_->Cancel(job.job_id(), "", "").ok());
      }
    }
  }
  const auto all = store_->List({}, 1000, "");
  for (const v1::QatJob& job : all->jobs) {
    ExpectNoHoles(job.job_id());
  }
}

TEST_F(QatJobStoreTest, EventsTellOfEveryStateAndByWhom) {
  const std::string id = Submit();
  now_ += absl::Seconds(5);
  ASSERT_TRUE(store_->Cancel(id, "bob", "a typo").ok());
  const auto events = store_->EventsAfter(id, 1, 10);
  ASSERT_TRUE(events.ok());
  ASSERT_EQ(events->events.size(), 1u);
  const v1::JobEvent& event = events->events[0];
  EXPECT_EQ(event.sequence(), 2);
  EXPECT_EQ(event.time().seconds(), absl::ToUnixSeconds(now_));
  EXPECT_EQ(event.state_change().from(), v1::QAT_JOB_STATE_QUEUED);
  EXPECT_EQ(event.state_change().to(), v1::QAT_JOB_STATE_CANCELLED);
  EXPECT_EQ(event.state_change().actor(), "bob");
  EXPECT_EQ(event.state_change().message(), "a typo");
  EXPECT_EQ(events->job.state_message(), "a typo");
  EXPECT_EQ(events->job.end_time().seconds(), absl::ToUnixSeconds(now_));
  EXPECT_EQ(store_->EventsAfter(id, 0, 1)->events.size(), 1u);
  EXPECT_EQ(store_->EventsAfter(id, 2, 10)->events.size(), 0u);
}

TEST_F(QatJobStoreTest, KeepsTheBestCheckpointsAndTheNewest) {
  const v1::LeaseKey lease = Running();  // keeps 2
  for (const auto& [id, perplexity] :
       std::map<std::string, double>{{"a", 3.0}, {"b", 2.0}, {"c", 2.5}}) {
    ASSERT_TRUE(AddCheckpoint(lease, id, perplexity).ok());
  }
  ASSERT_TRUE(AddCheckpoint(lease, "d", 9.0).ok());
  std::vector<std::string> ids;
  const auto checkpoints = store_->ListCheckpoints(lease.job_id());
  for (const StoredCheckpoint& stored : *checkpoints) {
    ids.push_back(stored.checkpoint.checkpoint_id());
    EXPECT_EQ(stored.checkpoint.best(), ids.back() == "b");
  }
  EXPECT_THAT(ids, ElementsAre("b", "c", "d"));
  EXPECT_THAT(*store_->Garbage(),
              ElementsAre(lease.job_id() + "/checkpoints/a"));
  EXPECT_EQ(store_->GetCheckpoint(lease.job_id(), "")->directory,
            lease.job_id() + "/checkpoints/b");
  EXPECT_EQ(Reason(store_->GetCheckpoint(lease.job_id(), "a").status()),
            "CHECKPOINT_NOT_FOUND");
  // Repeated after a broken connection, and in earnest.
  EXPECT_EQ(AddCheckpoint(lease, "d", 9.0)->checkpoint_id(), "d");
  v1::JobCheckpoint other = Checkpoint("d", 1);
  other.set_digest("other");
  EXPECT_EQ(store_->AddCheckpoint(lease, other, "x").status().code(),
            absl::StatusCode::kAlreadyExists);
}

TEST_F(QatJobStoreTest, GateAndPublicationAreTold) {
  const v1::LeaseKey lease = Running();
  const std::string id = lease.job_id();
  EXPECT_EQ(Reason(store_->Candidate(id).status()), "CHECKPOINT_NOT_FOUND");
  EXPECT_EQ(Reason(store_->Complete(Trained(lease, "c")).status()),
            "CHECKPOINT_NOT_FOUND");
  ASSERT_TRUE(AddCheckpoint(lease, "c", 2).ok());
  // Only the server's own moves, and only where they belong.
  EXPECT_EQ(
      Reason(store_->Advance(id, v1::QAT_JOB_STATE_EVALUATING, "").status()),
      "WRONG_JOB_STATE");
  ASSERT_TRUE(store_->Complete(Trained(lease, "c")).ok());
  EXPECT_EQ(store_->Candidate(id)->checkpoint.checkpoint_id(), "c");
  v1::GateReport gate;
  gate.set_passed(true);
  ASSERT_TRUE(store_->SetGateReport(id, "c", gate).ok());
  ASSERT_TRUE(store_->Advance(id, v1::QAT_JOB_STATE_PUBLISHING, "").ok());
  v1::ModelIdentity published;
  published.set_name("m");
  published.set_version(3);
  ASSERT_TRUE(store_->MarkPublished(id, "c", published).ok());
  ASSERT_TRUE(store_->MarkPublished(id, "c", published).ok());
  ASSERT_TRUE(store_->Advance(id, v1::QAT_JOB_STATE_SUCCEEDED, "done").ok());
  EXPECT_EQ(Reason(store_->Advance(id, v1::QAT_JOB_STATE_FAILED, "").status()),
            "WRONG_JOB_STATE");
  Open();
  const auto job = store_->Get(id);
  EXPECT_TRUE(job->gate().passed());
  EXPECT_EQ(job->published().version(), 3);
  EXPECT_EQ(job->state(), v1::QAT_JOB_STATE_SUCCEEDED);
  EXPECT_TRUE(store_->GetCheckpoint(id, "c")->checkpoint.gate().passed());
  std::vector<int> kinds;
  for (const v1::JobEvent& event : Events(id)) {
    kinds.push_back(event.detail_case());
  }
  EXPECT_THAT(kinds,
              ElementsAre(v1::JobEvent::kStateChange,  // QUEUED
                          v1::JobEvent::kStateChange,  // RUNNING
                          v1::JobEvent::kCheckpoint,
                          v1::JobEvent::kStateChange,  // EVALUATING
                          v1::JobEvent::kGate,
                          v1::JobEvent::kStateChange,  // PUBLISHING
                          v1::JobEvent::kPublished,
                          v1::JobEvent::kStateChange));  // SUCCEEDED
}

TEST_F(QatJobStoreTest, DeletedJobsLeaveNothingBehind) {
  ASSERT_TRUE(MakeJobDirectories(directory_.path()).ok());
  const v1::LeaseKey lease = Running();
  const std::string files = JobDirectory(directory_.path(), lease.job_id());
  std::filesystem::create_directories(files + "/checkpoints/c");
  ASSERT_TRUE(AddCheckpoint(lease, "c", 2).ok());
  ASSERT_TRUE(store_->Cancel(lease.job_id(), "", "").ok());
  ASSERT_TRUE(store_->Complete(Released(lease)).ok());
  ASSERT_TRUE(store_->Delete(lease.job_id()).ok());
  EXPECT_EQ(Reason(store_->Get(lease.job_id()).status()), "JOB_NOT_FOUND");
  // A server that dies before it removes the files does so later.
  Open();
  EXPECT_TRUE(std::filesystem::exists(files));
  ASSERT_TRUE(SweepJobGarbage(store_.get(), directory_.path()).ok());
  EXPECT_FALSE(std::filesystem::exists(files));
  EXPECT_THAT(*store_->Garbage(), ElementsAre());
  // Identifiers are never used again.
  EXPECT_NE(Submit(), lease.job_id());
}

TEST_F(QatJobStoreTest, DatasetsLiveAsLongAsTheirJobs) {
  ASSERT_TRUE(store_->AddDataset("aa", "corpus", 7).ok());
  now_ += absl::Hours(1);
  const auto again = store_->AddDataset("aa", "another name", 7);
  EXPECT_EQ(again->name(), "corpus");
  EXPECT_EQ(again->create_time().seconds(), absl::ToUnixSeconds(now_) - 3600);
  NewQatJob job = Job();
  job.spec.mutable_data()->mutable_datasets()->add_sha256("aa");
  job.spec.mutable_data()->mutable_datasets()->add_sha256("aa");
  const std::string id = store_->Submit(job)->job.job_id();
  job.spec.mutable_data()->set_validation_sha256("bb");
  EXPECT_EQ(Reason(store_->Submit(job).status()), "DATASET_NOT_FOUND");

  now_ += absl::Hours(5);
  EXPECT_THAT(*store_->RemoveUnusedDatasets(absl::Hours(1)), ElementsAre());
  ASSERT_TRUE(store_->Cancel(id, "", "").ok());
  ASSERT_TRUE(store_->Delete(id).ok());
  EXPECT_THAT(*store_->RemoveUnusedDatasets(absl::Hours(1)), ElementsAre());
  now_ += absl::Hours(1);
  EXPECT_THAT(*store_->RemoveUnusedDatasets(absl::Hours(1)),
              UnorderedElementsAre("aa"));
  EXPECT_EQ(Reason(store_->GetDataset("aa").status()), "DATASET_NOT_FOUND");
}

TEST_F(QatJobStoreTest, WatchersHearOfChangesAndMayReadTheStore) {
  const std::string first = Submit();
  std::vector<int64_t> seen;
  std::vector<std::string> all;
  auto one = store_->Watch(first, [&](const std::string& id) {
    seen.push_back(store_->Get(id)->last_sequence());
  });
  auto every =
      store_->Watch("", [&](const std::string& id) { all.push_back(id); });
  const std::string second = Submit();
  ASSERT_TRUE(store_->Cancel(first, "", "").ok());
  // What was refused is no change.
  EXPECT_FALSE(store_->Pause(first, "").ok());
  one.reset();
  ASSERT_TRUE(store_->Delete(first).ok());
  EXPECT_THAT(seen, ElementsAre(2));
  EXPECT_THAT(all, ElementsAre(second, first, first));
}

}  // namespace
}  // namespace pot
