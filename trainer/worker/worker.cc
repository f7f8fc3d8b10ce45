#include "trainer/worker/worker.h"

#include <chrono>
#include <utility>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/base/xxh64.h"
#include "engine/gpt2/engine_version.h"
#include "trainer/worker/cpu_features.h"
#include "trainer/worker/job_runner.h"
#include "trainer/worker/worker_log.h"

namespace pot {
namespace {

uint64_t SeedOf(const std::string& name) {
  return Xxh64(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(name.data()), name.size()));
}

// Waiting will not help.
bool IsRefusal(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsUnauthenticated(status) ||
         absl::IsPermissionDenied(status) || absl::IsUnimplemented(status) ||
         absl::IsNotFound(status);
}

v1::WorkerInfo InfoOf(const WorkerOptions& options) {
  v1::WorkerInfo info;
  info.set_name(options.name);
  info.set_version(kEngineVersion);
  for (std::string& feature : CpuFeatures()) {
    info.add_cpu_features(std::move(feature));
  }
  info.set_threads(options.threads);
  info.set_memory_bytes(options.memory_bytes);
  return info;
}

std::string DescribeEnd(JobEnd end) {
  switch (end) {
    case JobEnd::kTrained:
      return "trained";
    case JobEnd::kCancelled:
      return "cancelled";
    case JobEnd::kReleased:
      return "released; it can go on here or elsewhere";
    case JobEnd::kFailed:
      return "failed";
    case JobEnd::kFailedHere:
      return "failed on this worker";
    case JobEnd::kLost:
      return "dropped";
    case JobEnd::kUnreported:
      break;
  }
  return "ended, but the server does not know";
}

// For metrics.
absl::string_view OutcomeOf(JobEnd end) {
  switch (end) {
    case JobEnd::kTrained:
      return "trained";
    case JobEnd::kCancelled:
      return "cancelled";
    case JobEnd::kReleased:
      return "released";
    case JobEnd::kFailed:
    case JobEnd::kFailedHere:
      return "failed";
    case JobEnd::kLost:
    case JobEnd::kUnreported:
      break;
  }
  return "lost";
}

}  // namespace

Worker::Worker(WorkerService* service, WorkDirectory* work,
               WorkerOptions options)
    : service_(service),
      work_(work),
      options_(std::move(options)),
      failures_(options_.failures, SeedOf(options_.name)) {}

void Worker::Stop() {
  service_->StopAcquiring();
  MutexLock lock(&mutex_);
  stop_ = true;
  if (keeper_ != nullptr) keeper_->RequestStop();
  changed_.NotifyAll();
}

bool Worker::stopped() {
  MutexLock lock(&mutex_);
  return stop_;
}

void Worker::Sleep(absl::Duration duration) {
  const auto end =
      std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(duration);
  MutexLock lock(&mutex_);
  while (!stop_ && changed_.WaitUntil(&mutex_, end)) {
  }
}

absl::StatusOr<v1::AcquireLeaseResponse> Worker::Acquire() {
  v1::AcquireLeaseRequest request;
  *request.mutable_worker() = InfoOf(options_);
  request.set_wait_seconds(options_.wait_seconds);
  return service_->AcquireLease(request);
}

absl::Status Worker::RunLease(const v1::Lease& lease) {
  const std::string& job = lease.key().job_id();
  LogWorker(absl::StrCat(job, ": leased, epoch ", lease.key().epoch()));
  JobEnd end = JobEnd::kLost;
  {
    LeaseKeeper keeper(service_, lease, options_.keeper);
    {
      MutexLock lock(&mutex_);
      keeper_ = &keeper;
      if (stop_) keeper.RequestStop();
    }
    if (options_.metrics != nullptr) options_.metrics->JobStarted(job);
    end = RunJob({work_, service_, &keeper, options_.threads, options_.metrics},
                 lease);
    if (options_.metrics != nullptr) options_.metrics->JobEnded(OutcomeOf(end));
    MutexLock lock(&mutex_);
    keeper_ = nullptr;
  }
  LogWorker(absl::StrCat(job, ": ", DescribeEnd(end)));
  if (end == JobEnd::kFailedHere) {
    // The server may give it to this worker again; another one comes first.
    if (!options_.once) Sleep(failures_.Next());
  } else {
    failures_.Reset();
  }
  if (end == JobEnd::kTrained || end == JobEnd::kCancelled ||
      end == JobEnd::kReleased) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat(job, " ", DescribeEnd(end)));
}

absl::Status Worker::Run() {
  Backoff backoff(options_.keeper.backoff, SeedOf(options_.name));
  bool answered = true;
#ifdef _OPENMP
  omp_set_num_threads(options_.threads);  // of loops that this thread begins
#endif
  LogWorker(absl::StrCat("worker ", options_.name, ": ", options_.threads,
                         " threads, ", options_.memory_bytes,
                         " bytes of memory"));
  while (!stopped()) {
    const auto begun = std::chrono::steady_clock::now();
    const absl::StatusOr<v1::AcquireLeaseResponse> answer = Acquire();
    if (stopped() && !answer.ok()) break;
    if (!answer.ok()) {
      if (IsRefusal(answer.status())) return answer.status();
      if (answered) {
        LogWorker(absl::StrCat("waiting for the server: ",
                               answer.status().message()));
      }
      answered = false;
      Sleep(backoff.Next());
      continue;
    }
    if (!answered) LogWorker("the server answers");
    answered = true;
    if (!answer->has_lease()) {
      // A server that does not let wait is not asked all the time.
      if (std::chrono::steady_clock::now() - begun <
          std::chrono::milliseconds(100)) {
        Sleep(backoff.Next());
      }
      continue;
    }
    backoff.Reset();
    const absl::Status ended = RunLease(answer->lease());
    // A worker that was told to stop has done so, whatever became of the job.
    if (options_.once && !stopped()) return ended;
  }
  LogWorker("stopped");
  return absl::OkStatus();
}

}  // namespace pot
