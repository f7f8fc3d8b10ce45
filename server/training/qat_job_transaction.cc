#include "server/training/qat_job_transaction.h"

#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "server/serving/error_details.h"
#include "server/training/proto_time.h"
#include "server/training/qat_job_state.h"

namespace pot {

absl::Status WrongJobState(const v1::QatJob& job, absl::string_view doing) {
  const absl::string_view state = QatJobStateName(job.state());
  return WithDetails(absl::FailedPreconditionError(
                         absl::StrCat("job ", job.job_id(), " cannot ", doing,
                                      ", as it is in the state ", state)),
                     {.reason = "WRONG_JOB_STATE",
                      .metadata = {{"value", std::string(state)}}});
}

absl::Status CheckpointNotFound(absl::string_view job_id,
                                absl::string_view checkpoint_id) {
  return WithDetails(
      absl::NotFoundError(
          checkpoint_id.empty()
              ? absl::StrCat("job ", job_id, " has no checkpoint yet")
              : absl::StrCat("job ", job_id, " has no checkpoint ",
                             Quote(checkpoint_id))),
      {.reason = "CHECKPOINT_NOT_FOUND"});
}

double RankingPerplexity(const v1::JobCheckpoint& checkpoint) {
  const double perplexity = checkpoint.evaluation().perplexity();
  return std::isfinite(perplexity) && perplexity > 0
             ? perplexity
             : std::numeric_limits<double>::infinity();
}

absl::Status QatJobTransaction::AppendEvent(QatJobRow* row,
                                            v1::JobEvent event) {
  event.set_sequence(row->job.last_sequence() + 1);
  if (!event.has_time()) SetProtoTime(now_, event.mutable_time());
  POT_RETURN_IF_ERROR(
      db_->Run("INSERT INTO events (job_id, sequence, event) VALUES (?, ?, ?)",
               {row->id, int64_t{event.sequence()},
                SqliteValue::Blob(event.SerializeAsString())}));
  row->job.set_last_sequence(event.sequence());
  return absl::OkStatus();
}

absl::Status QatJobTransaction::AppendLog(QatJobRow* row,
                                          v1::LogSeverity severity,
                                          absl::string_view text) {
  v1::JobEvent event;
  event.mutable_log()->set_severity(severity);
  event.mutable_log()->set_text(std::string(text));
  return AppendEvent(row, std::move(event));
}

absl::Status QatJobTransaction::TransitionTo(QatJobRow* row, v1::QatJobState to,
                                             absl::string_view message,
                                             absl::string_view actor) {
  v1::QatJob& job = row->job;
  const v1::QatJobState from = job.state();
  if (!IsAllowedMove(from, to)) {
    return WrongJobState(job, absl::StrCat("become ", QatJobStateName(to)));
  }
  job.set_state(to);
  job.set_state_message(std::string(message));
  if (to == v1::QAT_JOB_STATE_RUNNING && !job.has_start_time()) {
    SetProtoTime(now_, job.mutable_start_time());
  }
  if (from == v1::QAT_JOB_STATE_RUNNING) {
    POT_RETURN_IF_ERROR(
        db_->Run("UPDATE leases SET live = 0 WHERE job_id = ? AND epoch = ?",
                 {row->id, row->epoch}));
  }
  if (IsFinalState(to)) {
    SetProtoTime(now_, job.mutable_end_time());
    row->wants_cancel = row->wants_pause = row->wants_stop = false;
    POT_ASSIGN_OR_RETURN(const std::optional<StoredSnapshot> snapshot,
                         Snapshot(*row));
    if (snapshot.has_value()) {
      POT_RETURN_IF_ERROR(AddGarbage(snapshot->directory));
      POT_RETURN_IF_ERROR(
          db_->Run("DELETE FROM snapshots WHERE job_id = ?", {row->id}));
    }
  }
  v1::JobEvent event;
  v1::JobStateChange& change = *event.mutable_state_change();
  change.set_from(from);
  change.set_to(to);
  change.set_message(std::string(message));
  change.set_actor(std::string(actor));
  return AppendEvent(row, std::move(event));
}

absl::Status QatJobTransaction::AddProgress(QatJobRow* row,
                                            const v1::JobProgress& progress,
                                            absl::Time time) {
  *row->job.mutable_progress() = progress;
  // The clock may have been put back since the event before.
  if (time < row->progress_event_time + options_.progress_interval &&
      row->progress_event_time <= now_) {
    return absl::OkStatus();
  }
  row->progress_event_time = time;
  v1::JobEvent event;
  *event.mutable_progress() = progress;
  SetProtoTime(time, event.mutable_time());
  return AppendEvent(row, std::move(event));
}

absl::StatusOr<QatJobRow> QatJobTransaction::LoadLeased(
    const v1::LeaseKey& lease) {
  absl::StatusOr<QatJobRow> row = Load(lease.job_id());
  if (!row.ok() && !absl::IsNotFound(row.status())) return row.status();
  if (row.ok() && row->epoch == lease.epoch() &&
      row->job.state() == v1::QAT_JOB_STATE_RUNNING) {
    return row;
  }
  return WithDetails(
      absl::AbortedError(absl::StrCat(
          "the lease of job ", Quote(lease.job_id()), " with epoch ",
          lease.epoch(), " is over",
          row.ok()
              ? absl::StrCat("; the job's newest epoch is ", row->epoch,
                             ", its state ", QatJobStateName(row->job.state()))
              : "; there is no such job")),
      {.reason = "STALE_LEASE",
       .metadata = {{"limit", row.ok() ? absl::StrCat(row->epoch) : "0"},
                    {"value", absl::StrCat(lease.epoch())}}});
}

absl::Status QatJobTransaction::GiveUpLease(QatJobRow* row, bool failed,
                                            absl::string_view message,
                                            absl::string_view actor) {
  if (failed) ++row->failed_attempts;
  v1::QatJobState to = v1::QAT_JOB_STATE_QUEUED;
  std::string text(message);
  if (row->wants_cancel) {
    to = v1::QAT_JOB_STATE_CANCELLED;
    text = row->wish_comment;
    actor = row->wish_actor;
  } else if (row->failed_attempts >= options_.max_failed_attempts) {
    to = v1::QAT_JOB_STATE_FAILED;
    absl::StrAppend(&text, "; given up after ", row->failed_attempts,
                    " attempts in a row without progress");
  } else if (row->wants_pause) {
    to = v1::QAT_JOB_STATE_PAUSED;
    row->wants_pause = false;
    if (!failed) actor = row->wish_actor;
  } else if (failed) {
    absl::StrAppend(&text, "; failed attempt ", row->failed_attempts, " of ",
                    options_.max_failed_attempts);
  }
  return TransitionTo(row, to, text, actor);
}

absl::StatusOr<int64_t> QatJobTransaction::ExpireLeases() {
  std::vector<std::pair<int64_t, std::string>> expired;
  {
    SqliteRows rows = db_->Query(
        "SELECT job_id, worker FROM leases WHERE live AND expire_time <= ?",
        {absl::ToUnixNanos(now_)});
    while (rows.Next()) expired.emplace_back(rows.Int(0), rows.Bytes(1));
    POT_RETURN_IF_ERROR(rows.status());
  }
  for (const auto& [id, worker] : expired) {
    POT_ASSIGN_OR_RETURN(QatJobRow row, LoadRow(id));
    POT_RETURN_IF_ERROR(
        GiveUpLease(&row, /*failed=*/true,
                    absl::StrCat("worker ", worker, " was not heard of for ",
                                 absl::FormatDuration(options_.lease_ttl)),
                    ""));
    POT_RETURN_IF_ERROR(Save(row));
  }
  expired_leases_ += static_cast<int64_t>(expired.size());
  return static_cast<int64_t>(expired.size());
}

absl::StatusOr<std::vector<StoredCheckpoint>> QatJobTransaction::Checkpoints(
    const QatJobRow& row) {
  std::vector<StoredCheckpoint> checkpoints;
  SqliteRows rows = db_->Query(
      "SELECT directory, checkpoint FROM checkpoints WHERE job_id = ? "
      "ORDER BY id",
      {row.id});
  while (rows.Next()) {
    StoredCheckpoint& stored = checkpoints.emplace_back();
    stored.directory = rows.Bytes(0);
    if (!stored.checkpoint.ParseFromString(rows.Bytes(1))) {
      return absl::DataLossError("the job database holds a damaged checkpoint");
    }
  }
  POT_RETURN_IF_ERROR(rows.status());
  StoredCheckpoint* best = nullptr;
  double lowest = std::numeric_limits<double>::infinity();
  for (StoredCheckpoint& stored : checkpoints) {
    const double perplexity = RankingPerplexity(stored.checkpoint);
    if (perplexity >= lowest) continue;
    lowest = perplexity;
    best = &stored;
  }
  if (best != nullptr) best->checkpoint.set_best(true);
  return checkpoints;
}

absl::StatusOr<StoredCheckpoint> QatJobTransaction::Checkpoint(
    const QatJobRow& row, absl::string_view checkpoint_id) {
  POT_ASSIGN_OR_RETURN(std::vector<StoredCheckpoint> checkpoints,
                       Checkpoints(row));
  for (StoredCheckpoint& stored : checkpoints) {
    if (checkpoint_id.empty()
            ? stored.checkpoint.best()
            : stored.checkpoint.checkpoint_id() == checkpoint_id) {
      return std::move(stored);
    }
  }
  return CheckpointNotFound(row.job.job_id(), checkpoint_id);
}

absl::Status QatJobTransaction::UpdateCheckpoint(
    const QatJobRow& row, const v1::JobCheckpoint& checkpoint) {
  v1::JobCheckpoint stored = checkpoint;
  stored.clear_best();
  return db_->Run(
      "UPDATE checkpoints SET checkpoint = ? "
      "WHERE job_id = ? AND checkpoint_id = ?",
      {SqliteValue::Blob(stored.SerializeAsString()), row.id,
       checkpoint.checkpoint_id()});
}

absl::Status QatJobTransaction::DropCheckpoint(
    const QatJobRow& row, const StoredCheckpoint& checkpoint) {
  POT_RETURN_IF_ERROR(AddGarbage(checkpoint.directory));
  return db_->Run(
      "DELETE FROM checkpoints WHERE job_id = ? AND checkpoint_id = ?",
      {row.id, checkpoint.checkpoint.checkpoint_id()});
}

absl::StatusOr<std::optional<StoredSnapshot>> QatJobTransaction::Snapshot(
    const QatJobRow& row) {
  SqliteRows rows = db_->Query(
      "SELECT directory, snapshot FROM snapshots WHERE job_id = ?", {row.id});
  std::optional<StoredSnapshot> stored;
  if (rows.Next()) {
    stored.emplace();
    stored->directory = rows.Bytes(0);
    if (!stored->snapshot.ParseFromString(rows.Bytes(1))) {
      return absl::DataLossError("the job database holds a damaged snapshot");
    }
  }
  POT_RETURN_IF_ERROR(rows.status());
  return stored;
}

absl::Status QatJobTransaction::AddGarbage(absl::string_view directory) {
  return db_->Run("INSERT OR IGNORE INTO garbage (directory) VALUES (?)",
                  {directory});
}

}  // namespace pot
