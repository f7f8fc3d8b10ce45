// Checkpoints, snapshots, gate and publication; see qat_job_store.h.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "google/protobuf/util/message_differencer.h"
#include "server/serving/error_details.h"
#include "server/training/proto_time.h"
#include "server/training/qat_job_state.h"
#include "server/training/qat_job_store_impl.h"

namespace pot {
namespace {

constexpr int kDefaultKeptCheckpoints = 3;

// Drops what is neither the newest, nor published, nor among the best.
absl::Status DropWorst(QatJobTransaction* transaction, const QatJobRow& row) {
  POT_ASSIGN_OR_RETURN(std::vector<StoredCheckpoint> checkpoints,
                       transaction->Checkpoints(row));
  const v1::SnapshotPolicy& policy = row.job.spec().snapshots();
  const size_t kept = static_cast<size_t>(policy.has_keep_checkpoints()
                                              ? policy.keep_checkpoints()
                                              : kDefaultKeptCheckpoints);
  const std::string newest = checkpoints.back().checkpoint.checkpoint_id();
  std::stable_sort(checkpoints.begin(), checkpoints.end(),
                   [](const StoredCheckpoint& a, const StoredCheckpoint& b) {
                     return RankingPerplexity(a.checkpoint) <
                            RankingPerplexity(b.checkpoint);
                   });
  for (size_t i = kept; i < checkpoints.size(); ++i) {
    const v1::JobCheckpoint& checkpoint = checkpoints[i].checkpoint;
    if (checkpoint.checkpoint_id() == newest || checkpoint.has_published()) {
      continue;
    }
    POT_RETURN_IF_ERROR(transaction->DropCheckpoint(row, checkpoints[i]));
  }
  return absl::OkStatus();
}

bool Equal(const google::protobuf::Message& a,
           const google::protobuf::Message& b) {
  return google::protobuf::util::MessageDifferencer::Equals(a, b);
}

// Moves that are the server's own to make.
bool IsServerMove(v1::QatJobState from, v1::QatJobState to) {
  return (from == v1::QAT_JOB_STATE_EVALUATING ||
          from == v1::QAT_JOB_STATE_PUBLISHING) &&
         to != v1::QAT_JOB_STATE_CANCELLED;
}

}  // namespace

absl::StatusOr<v1::JobCheckpoint> QatJobStore::AddCheckpoint(
    const v1::LeaseKey& lease, const v1::JobCheckpoint& checkpoint,
    absl::string_view directory) {
  return impl_->Transact(
      [&](QatJobTransaction* transaction) -> absl::StatusOr<v1::JobCheckpoint> {
        POT_ASSIGN_OR_RETURN(QatJobRow row, transaction->LoadLeased(lease));
        const std::string& id = checkpoint.checkpoint_id();
        POT_ASSIGN_OR_RETURN(const std::vector<StoredCheckpoint> checkpoints,
                             transaction->Checkpoints(row));
        for (const StoredCheckpoint& known : checkpoints) {
          if (known.checkpoint.checkpoint_id() != id) continue;
          if (known.checkpoint.digest() == checkpoint.digest()) {
            return known.checkpoint;
          }
          return WithDetails(absl::AlreadyExistsError(absl::StrCat(
                                 "job ", row.job.job_id(),
                                 " has another checkpoint ", Quote(id))),
                             {.reason = "CHECKPOINT_EXISTS",
                              .metadata = {{"limit", known.checkpoint.digest()},
                                           {"value", checkpoint.digest()}}});
        }
        v1::JobCheckpoint stored = checkpoint;
        stored.clear_best();
        stored.clear_gate();
        stored.clear_published();
        SetProtoTime(transaction->now(), stored.mutable_create_time());
        POT_RETURN_IF_ERROR(transaction->db()->Run(
            "INSERT INTO checkpoints (job_id, checkpoint_id, directory, "
            "checkpoint) VALUES (?, ?, ?, ?)",
            {row.id, id, directory,
             SqliteValue::Blob(stored.SerializeAsString())}));
        POT_ASSIGN_OR_RETURN(StoredCheckpoint added,
                             transaction->Checkpoint(row, id));
        v1::JobEvent event;
        *event.mutable_checkpoint() = added.checkpoint;
        POT_RETURN_IF_ERROR(transaction->AppendEvent(&row, std::move(event)));
        POT_RETURN_IF_ERROR(DropWorst(transaction, row));
        POT_RETURN_IF_ERROR(transaction->Save(row));
        return std::move(added.checkpoint);
      });
}

absl::Status QatJobStore::SetSnapshot(const v1::LeaseKey& lease,
                                      const v1::Snapshot& snapshot,
                                      absl::string_view directory) {
  return impl_->Transact([&](QatJobTransaction* transaction) -> absl::Status {
    POT_ASSIGN_OR_RETURN(QatJobRow row, transaction->LoadLeased(lease));
    POT_ASSIGN_OR_RETURN(const std::optional<StoredSnapshot> before,
                         transaction->Snapshot(row));
    if (before.has_value() && before->directory != directory) {
      POT_RETURN_IF_ERROR(transaction->AddGarbage(before->directory));
    }
    // The attempt has brought the job forward.
    if (snapshot.step() > (before.has_value() ? before->snapshot.step() : 0)) {
      row.failed_attempts = 0;
    }
    POT_RETURN_IF_ERROR(transaction->db()->Run(
        "INSERT OR REPLACE INTO snapshots (job_id, worker_major, directory, "
        "snapshot) SELECT job_id, worker_major, ?, ? FROM leases "
        "WHERE job_id = ? AND epoch = ?",
        {directory, SqliteValue::Blob(snapshot.SerializeAsString()), row.id,
         row.epoch}));
    return transaction->Save(row);
  });
}

absl::StatusOr<std::vector<StoredCheckpoint>> QatJobStore::ListCheckpoints(
    absl::string_view job_id) {
  return impl_->Transact([&](QatJobTransaction* transaction)
                             -> absl::StatusOr<std::vector<StoredCheckpoint>> {
    POT_ASSIGN_OR_RETURN(const QatJobRow row, transaction->Load(job_id));
    return transaction->Checkpoints(row);
  });
}

absl::StatusOr<StoredCheckpoint> QatJobStore::GetCheckpoint(
    absl::string_view job_id, absl::string_view checkpoint_id) {
  return impl_->Transact(
      [&](QatJobTransaction* transaction) -> absl::StatusOr<StoredCheckpoint> {
        POT_ASSIGN_OR_RETURN(const QatJobRow row, transaction->Load(job_id));
        return transaction->Checkpoint(row, checkpoint_id);
      });
}

absl::StatusOr<StoredCheckpoint> QatJobStore::Candidate(
    absl::string_view job_id) {
  return impl_->Transact(
      [&](QatJobTransaction* transaction) -> absl::StatusOr<StoredCheckpoint> {
        POT_ASSIGN_OR_RETURN(const QatJobRow row, transaction->Load(job_id));
        if (row.candidate.empty()) return CheckpointNotFound(job_id, "");
        return transaction->Checkpoint(row, row.candidate);
      });
}

absl::StatusOr<v1::QatJob> QatJobStore::Advance(absl::string_view job_id,
                                                v1::QatJobState to,
                                                absl::string_view message) {
  return impl_->Update(
      job_id, [&](QatJobTransaction* transaction, QatJobRow* row) {
        if (!IsServerMove(row->job.state(), to)) {
          return WrongJobState(row->job,
                               absl::StrCat("become ", QatJobStateName(to)));
        }
        return transaction->TransitionTo(row, to, message, "");
      });
}

absl::Status QatJobStore::SetGateReport(absl::string_view job_id,
                                        absl::string_view checkpoint_id,
                                        const v1::GateReport& report) {
  return impl_
      ->Update(
          job_id,
          [&](QatJobTransaction* transaction, QatJobRow* row) -> absl::Status {
            POT_ASSIGN_OR_RETURN(StoredCheckpoint stored,
                                 transaction->Checkpoint(*row, checkpoint_id));
            *stored.checkpoint.mutable_gate() = report;
            POT_RETURN_IF_ERROR(
                transaction->UpdateCheckpoint(*row, stored.checkpoint));
            if (stored.checkpoint.checkpoint_id() == row->candidate) {
              *row->job.mutable_gate() = report;
            }
            v1::JobEvent event;
            *event.mutable_gate() = report;
            return transaction->AppendEvent(row, std::move(event));
          })
      .status();
}

absl::Status QatJobStore::MarkPublished(absl::string_view job_id,
                                        absl::string_view checkpoint_id,
                                        const v1::ModelIdentity& published) {
  return impl_
      ->Update(
          job_id,
          [&](QatJobTransaction* transaction, QatJobRow* row) -> absl::Status {
            POT_ASSIGN_OR_RETURN(StoredCheckpoint stored,
                                 transaction->Checkpoint(*row, checkpoint_id));
            if (stored.checkpoint.has_published() &&
                Equal(stored.checkpoint.published(), published)) {
              return absl::OkStatus();
            }
            *stored.checkpoint.mutable_published() = published;
            POT_RETURN_IF_ERROR(
                transaction->UpdateCheckpoint(*row, stored.checkpoint));
            *row->job.mutable_published() = published;
            v1::JobEvent event;
            *event.mutable_published() = published;
            return transaction->AppendEvent(row, std::move(event));
          })
      .status();
}

absl::Status QatJobStore::AppendLog(absl::string_view job_id,
                                    const v1::JobLogLine& line) {
  return impl_
      ->Update(job_id,
               [&](QatJobTransaction* transaction, QatJobRow* row) {
                 return transaction->AppendLog(row, line.severity(),
                                               line.text());
               })
      .status();
}

}  // namespace pot
