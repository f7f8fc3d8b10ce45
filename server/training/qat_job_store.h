// Jobs, their events, leases, checkpoints and datasets, in one SQLite database.
#ifndef POT_SERVER_TRAINING_QAT_JOB_STORE_H_
#define POT_SERVER_TRAINING_QAT_JOB_STORE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "pot/v1/qat_job.pb.h"
#include "pot/v1/training.pb.h"
#include "pot/v1/worker.pb.h"

namespace pot {

struct QatJobStoreOptions {
  // Of the database; made when it is not there.
  std::string path;
  // Unset: absl::Now.
  std::function<absl::Time()> clock;
  // A lease ends so long after its last heartbeat.
  absl::Duration lease_ttl = absl::Seconds(30);
  // Attempts in a row that end in a lost worker or a retryable failure without
  // a newer snapshot between them; the job is FAILED after so many.
  int64_t max_failed_attempts = 5;
  // Jobs that may be QUEUED at the same time.
  int64_t max_queued_jobs = 256;
  // Progress of a job becomes an event no more often than this.
  absl::Duration progress_interval = absl::Seconds(1);
};

// A job to be queued, checked already.
struct NewQatJob {
  // With every default filled in and the base pinned to a digest.
  v1::QatJobSpec spec;
  std::string submitter;
  // Empty: none.
  std::string idempotency_key;
  // Digest of the specification as the client wrote it; what a repetition with
  // the same key must equal.
  std::string fingerprint;
  // Its memory_bytes decide which worker may take the job.
  v1::JobEstimate estimate;
  // Of the base, for the prediction of later jobs' speed.
  int64_t num_parameters = 0;
};

struct SubmittedQatJob {
  v1::QatJob job;
  // As it was when the job was submitted.
  v1::JobEstimate estimate;
  // The idempotency key found it.
  bool existing = false;
};

struct QatJobPage {
  std::vector<v1::QatJob> jobs;  // newest first
  std::string next_page_token;   // empty: the last page
};

// Events and the job as it was after the newest event in the store, read at one
// moment.
struct QatJobEvents {
  v1::QatJob job;
  std::vector<v1::JobEvent> events;
};

// Directories are relative to the jobs directory (job_files.h) and begin with
// the job's identifier: "qat-7/checkpoints/0005".
struct StoredCheckpoint {
  v1::JobCheckpoint checkpoint;
  std::string directory;
};
struct StoredSnapshot {
  v1::Snapshot snapshot;
  std::string directory;
};

struct QatJobLease {
  v1::LeaseKey key;
  v1::QatJob job;
  std::optional<StoredSnapshot> snapshot;  // where to go on
  absl::Duration ttl;
};

// How fast a job was.
struct ThroughputSample {
  int64_t num_parameters = 0;
  double tokens_per_second = 0;
};

// Thread-safe. Every change is one transaction, synced to disk before the call
// returns, with the events that tell of it: whenever the process dies, a change
// is there with its events or not at all. Calls may wait for the disk, so none
// belongs on a thread that must not wait.
//
// Errors have details (serving/error_details.h) with the reasons of
// proto/README.md. All calls about a job are NOT_FOUND (JOB_NOT_FOUND) when
// there is none, and those with a lease key ABORTED (STALE_LEASE) when the
// lease is not the newest of the job, is over, or the job is gone.
class QatJobStore {
 public:
  // FAILED_PRECONDITION when the database is of a newer version than this
  // program or used by another process. Live leases begin a new ttl, as their
  // workers could not reach the server while it was down.
  static absl::StatusOr<std::unique_ptr<QatJobStore>> Open(
      QatJobStoreOptions options);
  ~QatJobStore();
  QatJobStore(const QatJobStore&) = delete;
  QatJobStore& operator=(const QatJobStore&) = delete;

  // Of the options.
  absl::Duration lease_ttl() const;

  // --- For clients ---

  // The job of an earlier Submit() with this key by this submitter; nothing
  // when there is none or the key is empty. ALREADY_EXISTS
  // (IDEMPOTENCY_MISMATCH) when its fingerprint was another.
  absl::StatusOr<std::optional<SubmittedQatJob>> FindSubmitted(
      absl::string_view submitter, absl::string_view idempotency_key,
      absl::string_view fingerprint);

  // Queues a job, or finds the one of FindSubmitted(). RESOURCE_EXHAUSTED
  // (JOB_QUEUE_FULL), NOT_FOUND (DATASET_NOT_FOUND).
  absl::StatusOr<SubmittedQatJob> Submit(const NewQatJob& job);

  absl::StatusOr<v1::QatJob> Get(absl::string_view job_id);

  // `states` empty: all. `page_token` empty or of the page before;
  // INVALID_ARGUMENT otherwise.
  absl::StatusOr<QatJobPage> List(absl::Span<const v1::QatJobState> states,
                                  int page_size, absl::string_view page_token);

  // At most `limit` events with sequence > `after_sequence`, in order.
  absl::StatusOr<QatJobEvents> EventsAfter(absl::string_view job_id,
                                           int64_t after_sequence, int limit);

  // The operations of training.proto; each returns the job as it is now.
  // FAILED_PRECONDITION (WRONG_JOB_STATE) as documented there. What a RUNNING
  // job is asked for reaches its worker with the next Heartbeat(), and happens
  // without a worker when the lease is lost before.
  absl::StatusOr<v1::QatJob> Cancel(absl::string_view job_id,
                                    absl::string_view actor,
                                    absl::string_view comment);
  absl::StatusOr<v1::QatJob> Pause(absl::string_view job_id,
                                   absl::string_view actor);
  absl::StatusOr<v1::QatJob> Resume(absl::string_view job_id,
                                    absl::string_view actor);
  absl::StatusOr<v1::QatJob> StopEarly(absl::string_view job_id,
                                       absl::string_view actor);
  // Its directory becomes garbage.
  absl::Status Delete(absl::string_view job_id);

  // Oldest first; `best` is set on one of them at most.
  absl::StatusOr<std::vector<StoredCheckpoint>> ListCheckpoints(
      absl::string_view job_id);
  // Empty `checkpoint_id`: the best one. NOT_FOUND (CHECKPOINT_NOT_FOUND).
  absl::StatusOr<StoredCheckpoint> GetCheckpoint(
      absl::string_view job_id, absl::string_view checkpoint_id);

  // --- For gate and publisher ---

  // What Complete(trained) named. NOT_FOUND (CHECKPOINT_NOT_FOUND) before.
  absl::StatusOr<StoredCheckpoint> Candidate(absl::string_view job_id);

  // Moves the job, with its event; see qat_job_state.h. Only for what the
  // server itself does: EVALUATING to PUBLISHING, SUCCEEDED or GATE_REJECTED,
  // PUBLISHING to SUCCEEDED, and these two to FAILED. FAILED_PRECONDITION
  // (WRONG_JOB_STATE) otherwise, as when the job was cancelled meanwhile.
  absl::StatusOr<v1::QatJob> Advance(absl::string_view job_id,
                                     v1::QatJobState to,
                                     absl::string_view message);

  // In any state. The report is kept with the checkpoint; that of the
  // candidate, with the job too.
  absl::Status SetGateReport(absl::string_view job_id,
                             absl::string_view checkpoint_id,
                             const v1::GateReport& report);

  // In any state, as it has happened. Repeating it has no effect.
  absl::Status MarkPublished(absl::string_view job_id,
                             absl::string_view checkpoint_id,
                             const v1::ModelIdentity& published);

  // A line for the submitter: a rollback in probation, say.
  absl::Status AppendLog(absl::string_view job_id, const v1::JobLogLine& line);

  // --- For workers ---

  // The oldest QUEUED job whose memory_bytes the worker has and whose snapshot,
  // if any, is of the worker's major version; nothing when there is none. The
  // epoch and the attempts grow by one. A lease that this worker still holds
  // counts as lost: it was started anew.
  absl::StatusOr<std::optional<QatJobLease>> AcquireLease(
      const v1::WorkerInfo& worker);

  // The job of a lease that is in force.
  absl::StatusOr<v1::QatJob> CheckLease(const v1::LeaseKey& lease);
  // Its newest snapshot, if any.
  absl::StatusOr<std::optional<StoredSnapshot>> LeaseSnapshot(
      const v1::LeaseKey& lease);

  // Extends the lease. CONTINUE, PAUSE, CANCEL, STOP_EARLY, or LEASE_LOST in
  // place of an error for a stale key. `progress` as in AppendWorkerEvents().
  absl::StatusOr<v1::WorkerDirective> Heartbeat(
      const v1::LeaseKey& lease, const v1::JobProgress& progress);

  // Stores the events whose worker_sequence is greater than all before under
  // this lease, and returns the greatest one now stored. Of progress, the
  // newest is kept in the job, and at most one for each progress_interval
  // becomes an event.
  absl::StatusOr<int64_t> AppendWorkerEvents(
      const v1::LeaseKey& lease, absl::Span<const v1::WorkerEvent> events);

  // `checkpoint`: checkpoint_id, step, digest, size_bytes and evaluation; the
  // rest is filled in. Repeating it with the same digest has no effect,
  // ALREADY_EXISTS with another. Beyond the spec's keep_checkpoints best ones
  // and the newest, the worst becomes garbage.
  absl::StatusOr<v1::JobCheckpoint> AddCheckpoint(
      const v1::LeaseKey& lease, const v1::JobCheckpoint& checkpoint,
      absl::string_view directory);

  // Replaces the snapshot; the directory of the one before becomes garbage.
  absl::Status SetSnapshot(const v1::LeaseKey& lease,
                           const v1::Snapshot& snapshot,
                           absl::string_view directory);

  // Ends the lease: `trained` leads to EVALUATING, `failed` to FAILED or, when
  // retryable, to QUEUED while attempts are left, `cancelled` to CANCELLED,
  // `released` to PAUSED or QUEUED; a requested cancellation or pause comes
  // before QUEUED, and a cancellation before EVALUATING too. Repeating it with
  // the same outcome has no effect. NOT_FOUND (CHECKPOINT_NOT_FOUND) for a
  // candidate that is not stored, FAILED_PRECONDITION (WRONG_JOB_STATE) for
  // `cancelled` when nobody asked for that.
  absl::StatusOr<v1::QatJobState> Complete(const v1::CompleteRequest& request);

  // Ends the leases whose time is over; how many. Their jobs go back to QUEUED,
  // or to FAILED after max_failed_attempts.
  absl::StatusOr<int64_t> ExpireLeases();
  // How many have ended so, since Open(), by whatever call.
  int64_t lease_expirations() const;
  // InfiniteFuture when nothing is leased.
  absl::StatusOr<absl::Time> NextLeaseExpiry();

  // --- Datasets: rows only, dataset_store.h has the files ---

  // Only counts as a use when the digest is there.
  absl::StatusOr<v1::Dataset> AddDataset(absl::string_view sha256,
                                         absl::string_view name,
                                         int64_t size_bytes);
  // NOT_FOUND (DATASET_NOT_FOUND).
  absl::StatusOr<v1::Dataset> GetDataset(absl::string_view sha256);
  absl::StatusOr<std::vector<v1::Dataset>> ListDatasets();
  // Removes those that no job refers to and whose last upload, or last job, is
  // at least `age` ago; their digests.
  absl::StatusOr<std::vector<std::string>> RemoveUnusedDatasets(
      absl::Duration age);

  // --- Housekeeping ---

  // Directories that nothing refers to any more; whoever removed one says so
  // with ForgetGarbage().
  absl::StatusOr<std::vector<std::string>> Garbage();
  absl::Status ForgetGarbage(absl::string_view directory);

  // Of the newest `limit` jobs that reported a speed.
  absl::StatusOr<std::vector<ThroughputSample>> Throughput(int limit);
  absl::StatusOr<std::map<v1::QatJobState, int64_t>> CountByState();

  // Calls `observer` with a job's identifier after each change of that job, on
  // the thread of the change, when no lock is held: it may read the store, but
  // must not wait for long. Calls for one subscription do not overlap. After
  // the handle is destroyed, which must not happen inside `observer`, there are
  // no more calls. Whoever reads EventsAfter() after subscribing and after each
  // call misses nothing. Empty `job_id`: all jobs.
  class Subscription;
  std::shared_ptr<Subscription> Watch(
      absl::string_view job_id,
      std::function<void(const std::string& job_id)> observer);

 private:
  class Impl;
  explicit QatJobStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace pot

#endif  // POT_SERVER_TRAINING_QAT_JOB_STORE_H_
