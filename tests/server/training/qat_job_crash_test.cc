// A server that is killed at any moment loses nothing that it acknowledged.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "gtest/gtest.h"
#include "server/training/qat_job_store.h"
#include "tests/server/training/job_testing.h"

namespace pot {
namespace {

// What was acknowledged, told to the test through a pipe.
struct Acknowledged {
  int64_t job = 0;
  int64_t sequence = 0;
};

// Submits jobs and adds events to each until it is killed.
[[noreturn]] void Work(const std::string& path, int pipe) {
  QatJobStoreOptions options;
  options.path = path;
  auto store = QatJobStore::Open(options);
  if (!store.ok()) _exit(1);
  v1::WorkerInfo worker;
  worker.set_name("w");
  worker.set_memory_bytes(1 << 20);
  while (true) {
    NewQatJob job;
    job.submitter = "alice";
    if (!(*store)->Submit(job).ok()) _exit(2);
    const auto lease = (*store)->AcquireLease(worker);
    if (!lease.ok() || !lease->has_value()) _exit(3);
    const v1::LeaseKey key = (*lease)->key;
    for (int i = 1; i <= 5; ++i) {
      v1::WorkerEvent event;
      event.set_worker_sequence(i);
      event.mutable_log()->set_text("line");
      if (!(*store)->AppendWorkerEvents(key, {&event, 1}).ok()) _exit(4);
      const auto now = (*store)->Get(key.job_id());
      Acknowledged acknowledged = {std::stoll(key.job_id().substr(4)),
                                   now->last_sequence()};
      if (write(pipe, &acknowledged, sizeof(acknowledged)) < 0) _exit(5);
    }
    v1::CompleteRequest request;
    *request.mutable_lease() = key;
    request.mutable_failed()->set_message("over");
    if (!(*store)->Complete(request).ok()) _exit(6);
  }
}

TEST_F(QatJobStoreTest, KilledAtAnyMomentItLosesNothing) {
  store_.reset();
  const std::string path = directory_.path() + "/crash.sqlite";
  int64_t jobs = 0;
  for (int round = 0; round < 30; ++round) {
    int pipes[2];
    ASSERT_EQ(pipe(pipes), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      close(pipes[0]);
      Work(path, pipes[1]);
    }
    close(pipes[1]);
    // Some acknowledgements, another number in each round, then any moment.
    Acknowledged last;
    for (int i = 0; i <= round % 7; ++i) {
      ASSERT_EQ(read(pipes[0], &last, sizeof(last)),
                static_cast<ssize_t>(sizeof(last)));
    }
    usleep(static_cast<useconds_t>(round * 97 % 1000));
    ASSERT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
    Acknowledged next;
    while (read(pipes[0], &next, sizeof(next)) == sizeof(next)) last = next;
    close(pipes[0]);

    QatJobStoreOptions options;
    options.path = path;
    auto store = QatJobStore::Open(options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    const std::string id = absl::StrCat("qat-", last.job);
    const auto job = store_->Get(id);
    ASSERT_TRUE(job.ok()) << job.status();
    EXPECT_GE(job->last_sequence(), last.sequence);
    const auto page = store_->List({}, 1000, "");
    ASSERT_TRUE(page.ok());
    EXPECT_GE(page->jobs.size(), static_cast<size_t>(last.job));
    EXPECT_GE(static_cast<int64_t>(page->jobs.size()), jobs);
    jobs = static_cast<int64_t>(page->jobs.size());
    for (const v1::QatJob& each : page->jobs) {
      ExpectNoHoles(each.job_id());
      // The event of each job's state is its newest change of state.
      v1::QatJobState told = v1::QAT_JOB_STATE_UNSPECIFIED;
      for (const v1::JobEvent& event : Events(each.job_id())) {
        if (event.has_state_change()) told = event.state_change().to();
      }
      EXPECT_EQ(told, each.state()) << each.job_id();
      if (each.job_id() != id && each.state() == v1::QAT_JOB_STATE_QUEUED) {
        // Or the queue would grow with every round.
        ASSERT_TRUE(store_->Cancel(each.job_id(), "", "").ok());
      }
    }
    store_.reset();
  }
}

}  // namespace
}  // namespace pot
