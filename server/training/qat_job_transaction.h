// What QatJobStore's operations are made of.
#ifndef POT_SERVER_TRAINING_QAT_JOB_TRANSACTION_H_
#define POT_SERVER_TRAINING_QAT_JOB_TRANSACTION_H_

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/training/qat_job_store.h"
#include "server/training/sqlite.h"

namespace pot {

// A row of "jobs"; see qat_job_schema.cc. `job` holds what clients see of it,
// and is complete.
struct QatJobRow {
  int64_t id = 0;
  v1::QatJob job;
  absl::Time progress_event_time;
  int64_t epoch = 0;
  int64_t failed_attempts = 0;
  bool wants_cancel = false;
  bool wants_pause = false;
  bool wants_stop = false;
  std::string wish_actor;
  std::string wish_comment;
  std::string candidate;
};

std::string QatJobId(int64_t id);
// JOB_NOT_FOUND for what QatJobId() never gave.
absl::StatusOr<int64_t> ParseQatJobId(absl::string_view job_id);

absl::Status WrongJobState(const v1::QatJob& job, absl::string_view doing);
absl::Status CheckpointNotFound(absl::string_view job_id,
                                absl::string_view checkpoint_id);

absl::Status DatasetNotFound(absl::string_view sha256);

// What checkpoints are compared by: infinity without a sensible measurement.
double RankingPerplexity(const v1::JobCheckpoint& checkpoint);

// One transaction at one moment. Everything may fail; nothing has happened
// unless Commit() returned OK.
class QatJobTransaction {
 public:
  // Both outlive this.
  QatJobTransaction(SqliteDatabase* database, const QatJobStoreOptions* options)
      : db_(database),
        options_(*options),
        now_(options->clock()),
        transaction_(database) {}

  absl::Status Begin() { return transaction_.Begin(); }
  absl::Status Commit() { return transaction_.Commit(); }

  SqliteDatabase* db() { return db_; }
  absl::Time now() const { return now_; }
  const QatJobStoreOptions& options() const { return options_; }
  // Jobs that were saved or deleted, by job_id.
  const std::set<std::string>& changed() const { return changed_; }
  void AddChanged(const std::string& job_id) { changed_.insert(job_id); }
  // Leases that ExpireLeases() ended.
  int64_t expired_leases() const { return expired_leases_; }

  absl::StatusOr<QatJobRow> Load(absl::string_view job_id);
  absl::StatusOr<QatJobRow> LoadRow(int64_t id);
  absl::Status Save(const QatJobRow& row);

  // The one way to another state: as qat_job_state.h allows,
  // FAILED_PRECONDITION (WRONG_JOB_STATE) otherwise. Writes the event and,
  // leaving RUNNING, ends the lease. A final state drops wishes and the
  // snapshot.
  absl::Status TransitionTo(QatJobRow* row, v1::QatJobState to,
                            absl::string_view message, absl::string_view actor);

  // Gives `event` the next sequence number and stores it. Its time is now,
  // unless it has one.
  absl::Status AppendEvent(QatJobRow* row, v1::JobEvent event);
  absl::Status AppendLog(QatJobRow* row, v1::LogSeverity severity,
                         absl::string_view text);

  // The newest progress, and perhaps an event.
  absl::Status AddProgress(QatJobRow* row, const v1::JobProgress& progress,
                           absl::Time time);

  // The job of a lease in force; ABORTED (STALE_LEASE).
  absl::StatusOr<QatJobRow> LoadLeased(const v1::LeaseKey& lease);

  // A RUNNING job goes to where it goes without a result: CANCELLED or PAUSED
  // if that was asked for, else QUEUED, or FAILED when `failed` and attempts
  // are used up.
  absl::Status GiveUpLease(QatJobRow* row, bool failed,
                           absl::string_view message, absl::string_view actor);

  // Gives up the leases that ended by now; how many.
  absl::StatusOr<int64_t> ExpireLeases();

  absl::StatusOr<std::vector<StoredCheckpoint>> Checkpoints(
      const QatJobRow& row);
  // CHECKPOINT_NOT_FOUND; `best` is unset.
  absl::StatusOr<StoredCheckpoint> Checkpoint(const QatJobRow& row,
                                              absl::string_view checkpoint_id);
  absl::Status UpdateCheckpoint(const QatJobRow& row,
                                const v1::JobCheckpoint& checkpoint);
  absl::Status DropCheckpoint(const QatJobRow& row,
                              const StoredCheckpoint& checkpoint);
  absl::StatusOr<std::optional<StoredSnapshot>> Snapshot(const QatJobRow& row);
  absl::Status AddGarbage(absl::string_view directory);

 private:
  SqliteDatabase* const db_;
  const QatJobStoreOptions& options_;
  const absl::Time now_;
  SqliteTransaction transaction_;
  std::set<std::string> changed_;
  int64_t expired_leases_ = 0;
};

}  // namespace pot

#endif  // POT_SERVER_TRAINING_QAT_JOB_TRANSACTION_H_
