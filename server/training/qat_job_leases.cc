// What workers do; see qat_job_store.h.
#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "server/serving/error_details.h"
#include "server/training/proto_time.h"
#include "server/training/qat_job_state.h"
#include "server/training/qat_job_store_impl.h"

namespace pot {
namespace {

// Beyond it, a worker's age_seconds is its clock gone wrong.
constexpr double kMaxAgeSeconds = 86400;

std::string MajorVersion(const std::string& version) {
  return version.substr(0, version.find('.'));
}

absl::Time EventTime(const v1::WorkerEvent& event, absl::Time now) {
  const double age = event.age_seconds();
  if (!(age > 0)) return now;
  return now - absl::Seconds(std::min(age, kMaxAgeSeconds));
}

// Workers hold one lease at a time: one that asks for another was restarted.
absl::Status GiveUpOthers(QatJobTransaction* transaction,
                          const std::string& worker) {
  std::vector<int64_t> ids;
  {
    SqliteRows rows = transaction->db()->Query(
        "SELECT job_id FROM leases WHERE live AND worker = ?", {worker});
    while (rows.Next()) ids.push_back(rows.Int(0));
    POT_RETURN_IF_ERROR(rows.status());
  }
  for (const int64_t id : ids) {
    POT_ASSIGN_OR_RETURN(QatJobRow row, transaction->LoadRow(id));
    POT_RETURN_IF_ERROR(transaction->GiveUpLease(
        &row, /*failed=*/true,
        absl::StrCat("worker ", worker, " was started anew"), ""));
    POT_RETURN_IF_ERROR(transaction->Save(row));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<int64_t>> OldestFit(QatJobTransaction* transaction,
                                                 const v1::WorkerInfo& worker) {
  SqliteRows rows = transaction->db()->Query(
      "SELECT id FROM jobs LEFT JOIN snapshots ON snapshots.job_id = jobs.id "
      "WHERE state = ? AND memory_bytes <= ? "
      "AND (worker_major IS NULL OR worker_major = ?) ORDER BY id LIMIT 1",
      {static_cast<int>(v1::QAT_JOB_STATE_QUEUED),
       int64_t{worker.memory_bytes()}, MajorVersion(worker.version())});
  std::optional<int64_t> id;
  if (rows.Next()) id = rows.Int(0);
  POT_RETURN_IF_ERROR(rows.status());
  return id;
}

// Tells submitters of jobs that were left for want of a fitting worker. The
// text does not depend on who asked: workers of different sizes would rewrite
// each other's for ever.
absl::Status SayWhatIsMissing(QatJobTransaction* transaction) {
  struct Left {
    int64_t id;
    std::string message;
  };
  std::vector<Left> left;
  {
    SqliteRows rows = transaction->db()->Query(
        "SELECT id, memory_bytes, worker_major FROM jobs "
        "LEFT JOIN snapshots ON snapshots.job_id = jobs.id "
        "WHERE state = ? AND state_message = ''",
        {static_cast<int>(v1::QAT_JOB_STATE_QUEUED)});
    while (rows.Next()) {
      left.push_back(
          {rows.Int(0),
           absl::StrCat(
               "waits for a worker with ", rows.Int(1), " bytes of memory",
               rows.IsNull(2) ? ""
                              : absl::StrCat(" and of version ", rows.Bytes(2),
                                             ", which made its snapshot"))});
    }
    POT_RETURN_IF_ERROR(rows.status());
  }
  for (Left& job : left) {
    POT_ASSIGN_OR_RETURN(QatJobRow row, transaction->LoadRow(job.id));
    row.job.set_state_message(std::move(job.message));
    POT_RETURN_IF_ERROR(transaction->Save(row));
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> WorkerSequence(QatJobTransaction* transaction,
                                       const QatJobRow& row) {
  SqliteRows rows = transaction->db()->Query(
      "SELECT worker_sequence FROM leases WHERE job_id = ? AND epoch = ?",
      {row.id, row.epoch});
  const int64_t sequence = rows.Next() ? rows.Int(0) : 0;
  POT_RETURN_IF_ERROR(rows.status());
  return sequence;
}

absl::Status AppendWorkerEvent(QatJobTransaction* transaction, QatJobRow* row,
                               const v1::WorkerEvent& event) {
  const absl::Time time = EventTime(event, transaction->now());
  v1::JobEvent stored;
  SetProtoTime(time, stored.mutable_time());
  switch (event.detail_case()) {
    case v1::WorkerEvent::kProgress:
      return transaction->AddProgress(row, event.progress(), time);
    case v1::WorkerEvent::kEvaluation:
      *stored.mutable_evaluation() = event.evaluation();
      break;
    case v1::WorkerEvent::kLog:
      *stored.mutable_log() = event.log();
      break;
    case v1::WorkerEvent::DETAIL_NOT_SET:
      return absl::OkStatus();
  }
  return transaction->AppendEvent(row, std::move(stored));
}

absl::Status ApplyOutcome(QatJobTransaction* transaction, QatJobRow* row,
                          const v1::CompleteRequest& request) {
  const std::string worker = row->job.worker();
  switch (request.outcome_case()) {
    case v1::CompleteRequest::kTrained: {
      const std::string& checkpoint_id = request.trained().checkpoint_id();
      if (checkpoint_id.empty()) {
        return CheckpointNotFound(row->job.job_id(), checkpoint_id);
      }
      POT_RETURN_IF_ERROR(
          transaction->Checkpoint(*row, checkpoint_id).status());
      row->candidate = checkpoint_id;
      if (row->wants_cancel) {
        return transaction->TransitionTo(row, v1::QAT_JOB_STATE_CANCELLED,
                                         row->wish_comment, row->wish_actor);
      }
      return transaction->TransitionTo(row, v1::QAT_JOB_STATE_EVALUATING, "",
                                       worker);
    }
    case v1::CompleteRequest::kFailed:
      if (request.failed().retryable()) {
        return transaction->GiveUpLease(row, /*failed=*/true,
                                        request.failed().message(), worker);
      }
      return transaction->TransitionTo(row, v1::QAT_JOB_STATE_FAILED,
                                       request.failed().message(), worker);
    case v1::CompleteRequest::kCancelled:
      if (!row->wants_cancel) {
        return WrongJobState(row->job,
                             "be completed as cancelled: nobody asked for it");
      }
      return transaction->GiveUpLease(row, /*failed=*/false, "", worker);
    case v1::CompleteRequest::kReleased:
      return transaction->GiveUpLease(row, /*failed=*/false, "", worker);
    case v1::CompleteRequest::OUTCOME_NOT_SET:
      break;
  }
  return WithDetails(absl::InvalidArgumentError("outcome is missing"),
                     {.reason = "MISSING_FIELD", .field = "outcome"});
}

}  // namespace

absl::StatusOr<std::optional<QatJobLease>> QatJobStore::AcquireLease(
    const v1::WorkerInfo& worker) {
  return impl_->Transact([&](QatJobTransaction* transaction)
                             -> absl::StatusOr<std::optional<QatJobLease>> {
    POT_RETURN_IF_ERROR(transaction->ExpireLeases().status());
    POT_RETURN_IF_ERROR(GiveUpOthers(transaction, worker.name()));
    POT_ASSIGN_OR_RETURN(const std::optional<int64_t> id,
                         OldestFit(transaction, worker));
    if (!id.has_value()) {
      POT_RETURN_IF_ERROR(SayWhatIsMissing(transaction));
      return std::optional<QatJobLease>();
    }
    POT_ASSIGN_OR_RETURN(QatJobRow row, transaction->LoadRow(*id));
    ++row.epoch;
    row.job.set_attempts(static_cast<int32_t>(row.epoch));
    row.job.set_worker(worker.name());
    POT_RETURN_IF_ERROR(transaction->TransitionTo(
        &row, v1::QAT_JOB_STATE_RUNNING, "", worker.name()));
    const absl::Duration ttl = transaction->options().lease_ttl;
    POT_RETURN_IF_ERROR(transaction->db()->Run(
        "INSERT INTO leases (job_id, epoch, worker, worker_major, expire_time, "
        "worker_sequence, live) VALUES (?, ?, ?, ?, ?, 0, 1)",
        {row.id, row.epoch, worker.name(), MajorVersion(worker.version()),
         absl::ToUnixNanos(transaction->now() + ttl)}));
    POT_RETURN_IF_ERROR(transaction->Save(row));
    QatJobLease lease;
    POT_ASSIGN_OR_RETURN(lease.snapshot, transaction->Snapshot(row));
    lease.key.set_job_id(row.job.job_id());
    lease.key.set_epoch(row.epoch);
    lease.ttl = ttl;
    lease.job = std::move(row.job);
    return std::optional<QatJobLease>(std::move(lease));
  });
}

absl::StatusOr<v1::QatJob> QatJobStore::CheckLease(const v1::LeaseKey& lease) {
  return impl_->Transact(
      [&](QatJobTransaction* transaction) -> absl::StatusOr<v1::QatJob> {
        POT_ASSIGN_OR_RETURN(QatJobRow row, transaction->LoadLeased(lease));
        return std::move(row.job);
      });
}

absl::StatusOr<std::optional<StoredSnapshot>> QatJobStore::LeaseSnapshot(
    const v1::LeaseKey& lease) {
  return impl_->Transact([&](QatJobTransaction* transaction)
                             -> absl::StatusOr<std::optional<StoredSnapshot>> {
    POT_ASSIGN_OR_RETURN(const QatJobRow row, transaction->LoadLeased(lease));
    return transaction->Snapshot(row);
  });
}

absl::StatusOr<v1::WorkerDirective> QatJobStore::Heartbeat(
    const v1::LeaseKey& lease, const v1::JobProgress& progress) {
  return impl_->Transact([&](QatJobTransaction* transaction)
                             -> absl::StatusOr<v1::WorkerDirective> {
    absl::StatusOr<QatJobRow> row = transaction->LoadLeased(lease);
    if (absl::IsAborted(row.status())) return v1::WORKER_DIRECTIVE_LEASE_LOST;
    POT_RETURN_IF_ERROR(row.status());
    POT_RETURN_IF_ERROR(transaction->db()->Run(
        "UPDATE leases SET expire_time = ? WHERE job_id = ? AND epoch = ?",
        {absl::ToUnixNanos(transaction->now() +
                           transaction->options().lease_ttl),
         row->id, row->epoch}));
    if (progress.total_steps() > 0) {
      POT_RETURN_IF_ERROR(
          transaction->AddProgress(&*row, progress, transaction->now()));
      POT_RETURN_IF_ERROR(transaction->Save(*row));
    }
    if (row->wants_cancel) return v1::WORKER_DIRECTIVE_CANCEL;
    if (row->wants_pause) return v1::WORKER_DIRECTIVE_PAUSE;
    if (row->wants_stop) return v1::WORKER_DIRECTIVE_STOP_EARLY;
    return v1::WORKER_DIRECTIVE_CONTINUE;
  });
}

absl::StatusOr<int64_t> QatJobStore::AppendWorkerEvents(
    const v1::LeaseKey& lease, absl::Span<const v1::WorkerEvent> events) {
  return impl_->Transact(
      [&](QatJobTransaction* transaction) -> absl::StatusOr<int64_t> {
        POT_ASSIGN_OR_RETURN(QatJobRow row, transaction->LoadLeased(lease));
        POT_ASSIGN_OR_RETURN(int64_t stored, WorkerSequence(transaction, row));
        const int64_t before = stored;
        for (const v1::WorkerEvent& event : events) {
          if (event.worker_sequence() <= stored) continue;
          stored = event.worker_sequence();
          POT_RETURN_IF_ERROR(AppendWorkerEvent(transaction, &row, event));
        }
        if (stored == before) return stored;
        POT_RETURN_IF_ERROR(
            transaction->db()->Run("UPDATE leases SET worker_sequence = ? "
                                   "WHERE job_id = ? AND epoch = ?",
                                   {stored, row.id, row.epoch}));
        POT_RETURN_IF_ERROR(transaction->Save(row));
        return stored;
      });
}

absl::StatusOr<v1::QatJobState> QatJobStore::Complete(
    const v1::CompleteRequest& request) {
  v1::CompleteRequest outcome = request;
  outcome.clear_lease();
  const std::string outcome_bytes = outcome.SerializeAsString();
  return impl_->Transact([&](QatJobTransaction* transaction)
                             -> absl::StatusOr<v1::QatJobState> {
    absl::StatusOr<QatJobRow> row = transaction->Load(request.lease().job_id());
    if (row.ok()) {
      SqliteRows rows = transaction->db()->Query(
          "SELECT outcome FROM leases WHERE job_id = ? AND epoch = ?",
          {row->id, int64_t{request.lease().epoch()}});
      if (rows.Next() && !rows.IsNull(0) && rows.Bytes(0) == outcome_bytes) {
        return row->job.state();
      }
      POT_RETURN_IF_ERROR(rows.status());
    }
    row = transaction->LoadLeased(request.lease());
    POT_RETURN_IF_ERROR(row.status());
    POT_RETURN_IF_ERROR(ApplyOutcome(transaction, &*row, request));
    POT_RETURN_IF_ERROR(transaction->db()->Run(
        "UPDATE leases SET outcome = ? WHERE job_id = ? AND epoch = ?",
        {SqliteValue::Blob(outcome_bytes), row->id, row->epoch}));
    POT_RETURN_IF_ERROR(transaction->Save(*row));
    return row->job.state();
  });
}

absl::StatusOr<int64_t> QatJobStore::ExpireLeases() {
  return impl_->Transact([&](QatJobTransaction* transaction) {
    return transaction->ExpireLeases();
  });
}

int64_t QatJobStore::lease_expirations() const {
  return impl_->lease_expirations();
}

absl::StatusOr<absl::Time> QatJobStore::NextLeaseExpiry() {
  return impl_->Transact(
      [&](QatJobTransaction* transaction) -> absl::StatusOr<absl::Time> {
        SqliteRows rows = transaction->db()->Query(
            "SELECT MIN(expire_time) FROM leases WHERE live");
        absl::Time next = absl::InfiniteFuture();
        if (rows.Next() && !rows.IsNull(0)) {
          next = absl::FromUnixNanos(rows.Int(0));
        }
        POT_RETURN_IF_ERROR(rows.status());
        return next;
      });
}

}  // namespace pot
