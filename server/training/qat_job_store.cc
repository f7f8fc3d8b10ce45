// Opening, and what clients ask for; qat_job_leases.cc has what workers do,
// qat_job_outcomes.cc what becomes of checkpoints, qat_job_datasets.cc datasets
// and housekeeping.
#include "server/training/qat_job_store.h"

#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "server/serving/error_details.h"
#include "server/training/proto_time.h"
#include "server/training/qat_job_schema.h"
#include "server/training/qat_job_state.h"
#include "server/training/qat_job_store_impl.h"

namespace pot {
namespace {

// How long a client of a full queue should wait.
constexpr absl::Duration kQueueRetry = absl::Seconds(60);

absl::StatusOr<std::optional<SubmittedQatJob>> FindByKey(
    QatJobTransaction* transaction, absl::string_view submitter,
    absl::string_view key, absl::string_view fingerprint) {
  if (key.empty()) return std::optional<SubmittedQatJob>();
  int64_t id = 0;
  std::string found;
  SubmittedQatJob submitted;
  submitted.existing = true;
  {
    SqliteRows rows = transaction->db()->Query(
        "SELECT id, fingerprint, estimate FROM jobs "
        "WHERE submitter = ? AND idempotency_key = ?",
        {submitter, key});
    if (rows.Next()) {
      id = rows.Int(0);
      found = rows.Bytes(1);
      if (!submitted.estimate.ParseFromString(rows.Bytes(2))) {
        return absl::DataLossError("the job database holds a damaged estimate");
      }
    }
    POT_RETURN_IF_ERROR(rows.status());
  }
  if (id == 0) return std::optional<SubmittedQatJob>();
  if (found != fingerprint) {
    return WithDetails(absl::AlreadyExistsError(absl::StrCat(
                           "idempotency_key ", Quote(key), " was used for ",
                           QatJobId(id), ", whose specification is another")),
                       {.reason = "IDEMPOTENCY_MISMATCH",
                        .metadata = {{"value", QatJobId(id)}},
                        .field = "idempotency_key"});
  }
  POT_ASSIGN_OR_RETURN(QatJobRow row, transaction->LoadRow(id));
  submitted.job = std::move(row.job);
  return std::optional<SubmittedQatJob>(std::move(submitted));
}

absl::Status CheckQueue(QatJobTransaction* transaction) {
  SqliteRows rows =
      transaction->db()->Query("SELECT COUNT(*) FROM jobs WHERE state = ?",
                               {static_cast<int>(v1::QAT_JOB_STATE_QUEUED)});
  const int64_t queued = rows.Next() ? rows.Int(0) : 0;
  POT_RETURN_IF_ERROR(rows.status());
  const int64_t limit = transaction->options().max_queued_jobs;
  if (queued < limit) return absl::OkStatus();
  return WithDetails(
      absl::ResourceExhaustedError(
          absl::StrCat(queued, " jobs wait already, and the limit is ", limit)),
      {.reason = "JOB_QUEUE_FULL",
       .metadata = {{"limit", absl::StrCat(limit)},
                    {"value", absl::StrCat(queued)}},
       .retry_after = kQueueRetry});
}

// Whom the job's data must not be taken from.
absl::Status AddReferences(QatJobTransaction* transaction, int64_t id,
                           const v1::QatJobSpec& spec) {
  std::set<std::string> digests(spec.data().datasets().sha256().begin(),
                                spec.data().datasets().sha256().end());
  if (!spec.data().validation_sha256().empty()) {
    digests.insert(spec.data().validation_sha256());
  }
  for (const std::string& sha256 : digests) {
    POT_RETURN_IF_ERROR(transaction->db()->Run(
        "INSERT INTO job_datasets (job_id, sha256) "
        "SELECT ?, sha256 FROM datasets WHERE sha256 = ?",
        {id, sha256}));
    if (transaction->db()->changes() == 0) return DatasetNotFound(sha256);
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> InsertJob(QatJobTransaction* transaction,
                                  const NewQatJob& job) {
  POT_RETURN_IF_ERROR(transaction->db()->Run(
      "INSERT INTO jobs (spec, submitter, idempotency_key, fingerprint, "
      "estimate, memory_bytes, num_parameters, create_time, state, "
      "state_message, "
      "tokens_per_second, progress_event_time, last_sequence, epoch, "
      "failed_attempts, worker, wants_cancel, wants_pause, wants_stop, "
      "wish_actor, wish_comment, candidate) VALUES "
      "(?, ?, ?, ?, ?, ?, ?, ?, ?, '', 0, 0, 0, 0, 0, '', 0, 0, 0, '', '', '')",
      {SqliteValue::Blob(job.spec.SerializeAsString()), job.submitter,
       job.idempotency_key.empty() ? SqliteValue(nullptr)
                                   : SqliteValue(job.idempotency_key),
       job.fingerprint, SqliteValue::Blob(job.estimate.SerializeAsString()),
       int64_t{job.estimate.memory_bytes()}, job.num_parameters,
       absl::ToUnixNanos(transaction->now()),
       static_cast<int>(v1::QAT_JOB_STATE_VALIDATING)}));
  return transaction->db()->last_row_id();
}

// Asks the worker of a RUNNING job for something, once.
absl::Status Wish(QatJobTransaction* transaction, QatJobRow* row, bool* wish,
                  absl::string_view what, absl::string_view actor,
                  absl::string_view comment) {
  if (*wish) return absl::OkStatus();
  *wish = true;
  row->wish_actor = std::string(actor);
  row->wish_comment = std::string(comment);
  return transaction->AppendLog(
      row, v1::LOG_SEVERITY_INFO,
      absl::StrCat(what, " requested", actor.empty() ? "" : " by ", actor,
                   comment.empty() ? "" : ": ", comment));
}

}  // namespace

absl::Status DatasetNotFound(absl::string_view sha256) {
  return WithDetails(
      absl::NotFoundError(absl::StrCat("there is no dataset ", Quote(sha256),
                                       "; UploadDataset brings one")),
      {.reason = "DATASET_NOT_FOUND"});
}

QatJobStore::QatJobStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
QatJobStore::~QatJobStore() = default;

absl::StatusOr<std::unique_ptr<QatJobStore>> QatJobStore::Open(
    QatJobStoreOptions options) {
  if (options.clock == nullptr) options.clock = &absl::Now;
  POT_ASSIGN_OR_RETURN(std::unique_ptr<SqliteDatabase> database,
                       SqliteDatabase::Open(options.path));
  POT_RETURN_IF_ERROR(MigrateSqlite(database.get(), QatJobMigrations()));
  POT_RETURN_IF_ERROR(
      database->Run("UPDATE leases SET expire_time = ? WHERE live",
                    {absl::ToUnixNanos(options.clock() + options.lease_ttl)}));
  return std::unique_ptr<QatJobStore>(new QatJobStore(
      std::make_unique<Impl>(std::move(options), std::move(database))));
}

absl::Duration QatJobStore::lease_ttl() const {
  return impl_->options().lease_ttl;
}

absl::StatusOr<std::optional<SubmittedQatJob>> QatJobStore::FindSubmitted(
    absl::string_view submitter, absl::string_view idempotency_key,
    absl::string_view fingerprint) {
  return impl_->Transact([&](QatJobTransaction* transaction) {
    return FindByKey(transaction, submitter, idempotency_key, fingerprint);
  });
}

absl::StatusOr<SubmittedQatJob> QatJobStore::Submit(const NewQatJob& job) {
  return impl_->Transact(
      [&](QatJobTransaction* transaction) -> absl::StatusOr<SubmittedQatJob> {
        POT_ASSIGN_OR_RETURN(std::optional<SubmittedQatJob> found,
                             FindByKey(transaction, job.submitter,
                                       job.idempotency_key, job.fingerprint));
        if (found.has_value()) return *std::move(found);
        POT_RETURN_IF_ERROR(CheckQueue(transaction));
        POT_ASSIGN_OR_RETURN(const int64_t id, InsertJob(transaction, job));
        POT_RETURN_IF_ERROR(AddReferences(transaction, id, job.spec));
        POT_ASSIGN_OR_RETURN(QatJobRow row, transaction->LoadRow(id));
        POT_RETURN_IF_ERROR(transaction->TransitionTo(
            &row, v1::QAT_JOB_STATE_QUEUED, "", job.submitter));
        POT_RETURN_IF_ERROR(transaction->Save(row));
        return SubmittedQatJob{std::move(row.job), job.estimate, false};
      });
}

absl::StatusOr<v1::QatJob> QatJobStore::Get(absl::string_view job_id) {
  return impl_->Transact(
      [&](QatJobTransaction* transaction) -> absl::StatusOr<v1::QatJob> {
        POT_ASSIGN_OR_RETURN(QatJobRow row, transaction->Load(job_id));
        return std::move(row.job);
      });
}

absl::StatusOr<QatJobPage> QatJobStore::List(
    absl::Span<const v1::QatJobState> states, int page_size,
    absl::string_view page_token) {
  int64_t before = std::numeric_limits<int64_t>::max();
  if (!page_token.empty() &&
      (!absl::SimpleAtoi(page_token, &before) || before < 1)) {
    return WithDetails(
        absl::InvalidArgumentError(absl::StrCat(
            "page_token is none of this server's: ", Quote(page_token))),
        {.reason = "INVALID_FIELD", .field = "page_token"});
  }
  return impl_->Transact(
      [&](QatJobTransaction* transaction) -> absl::StatusOr<QatJobPage> {
        std::string sql = "SELECT id FROM jobs WHERE id < ?";
        std::vector<SqliteValue> values = {before};
        if (!states.empty()) {
          absl::StrAppend(&sql, " AND state IN (");
          for (const v1::QatJobState state : states) {
            absl::StrAppend(&sql, values.size() == 1 ? "?" : ", ?");
            values.push_back(static_cast<int>(state));
          }
          absl::StrAppend(&sql, ")");
        }
        absl::StrAppend(&sql, " ORDER BY id DESC LIMIT ?");
        // One more, to know whether this is the last page.
        values.push_back(int64_t{page_size} + 1);
        std::vector<int64_t> ids;
        {
          SqliteRows rows = transaction->db()->Query(sql, values);
          while (rows.Next()) ids.push_back(rows.Int(0));
          POT_RETURN_IF_ERROR(rows.status());
        }
        QatJobPage page;
        for (const int64_t id : ids) {
          if (page.jobs.size() == static_cast<size_t>(page_size)) {
            page.next_page_token = absl::StrCat(id + 1);
            break;
          }
          POT_ASSIGN_OR_RETURN(QatJobRow row, transaction->LoadRow(id));
          page.jobs.push_back(std::move(row.job));
        }
        return page;
      });
}

absl::StatusOr<QatJobEvents> QatJobStore::EventsAfter(absl::string_view job_id,
                                                      int64_t after_sequence,
                                                      int limit) {
  return impl_->Transact(
      [&](QatJobTransaction* transaction) -> absl::StatusOr<QatJobEvents> {
        POT_ASSIGN_OR_RETURN(QatJobRow row, transaction->Load(job_id));
        QatJobEvents result;
        SqliteRows rows = transaction->db()->Query(
            "SELECT event FROM events WHERE job_id = ? AND sequence > ? "
            "ORDER BY sequence LIMIT ?",
            {row.id, after_sequence, limit});
        while (rows.Next()) {
          if (!result.events.emplace_back().ParseFromString(rows.Bytes(0))) {
            return absl::DataLossError(
                "the job database holds a damaged event");
          }
        }
        POT_RETURN_IF_ERROR(rows.status());
        result.job = std::move(row.job);
        return result;
      });
}

absl::StatusOr<v1::QatJob> QatJobStore::Cancel(absl::string_view job_id,
                                               absl::string_view actor,
                                               absl::string_view comment) {
  return impl_->Update(job_id,
                       [&](QatJobTransaction* transaction, QatJobRow* row) {
                         if (IsFinalState(row->job.state()))
                           return absl::OkStatus();
                         if (row->job.state() == v1::QAT_JOB_STATE_RUNNING) {
                           return Wish(transaction, row, &row->wants_cancel,
                                       "cancellation", actor, comment);
                         }
                         return transaction->TransitionTo(
                             row, v1::QAT_JOB_STATE_CANCELLED, comment, actor);
                       });
}

absl::StatusOr<v1::QatJob> QatJobStore::Pause(absl::string_view job_id,
                                              absl::string_view actor) {
  return impl_->Update(job_id, [&](QatJobTransaction* transaction,
                                   QatJobRow* row) {
    switch (row->job.state()) {
      case v1::QAT_JOB_STATE_PAUSED:
        return absl::OkStatus();
      case v1::QAT_JOB_STATE_QUEUED:
        return transaction->TransitionTo(row, v1::QAT_JOB_STATE_PAUSED, "",
                                         actor);
      case v1::QAT_JOB_STATE_RUNNING:
        if (row->wants_cancel) return absl::OkStatus();
        return Wish(transaction, row, &row->wants_pause, "pause", actor, "");
      default:
        return WrongJobState(row->job, "pause");
    }
  });
}

absl::StatusOr<v1::QatJob> QatJobStore::Resume(absl::string_view job_id,
                                               absl::string_view actor) {
  return impl_->Update(job_id,
                       [&](QatJobTransaction* transaction, QatJobRow* row) {
                         switch (row->job.state()) {
                           case v1::QAT_JOB_STATE_PAUSED:
                             return transaction->TransitionTo(
                                 row, v1::QAT_JOB_STATE_QUEUED, "", actor);
                           case v1::QAT_JOB_STATE_QUEUED:
                           case v1::QAT_JOB_STATE_RUNNING:
                             row->wants_pause = false;
                             return absl::OkStatus();
                           default:
                             return WrongJobState(row->job, "resume");
                         }
                       });
}

absl::StatusOr<v1::QatJob> QatJobStore::StopEarly(absl::string_view job_id,
                                                  absl::string_view actor) {
  return impl_->Update(
      job_id,
      [&](QatJobTransaction* transaction, QatJobRow* row) -> absl::Status {
        const v1::QatJobState state = row->job.state();
        if (state != v1::QAT_JOB_STATE_RUNNING &&
            state != v1::QAT_JOB_STATE_PAUSED) {
          return WrongJobState(row->job, "stop early");
        }
        if (row->wants_cancel) return absl::OkStatus();
        POT_RETURN_IF_ERROR(
            Wish(transaction, row, &row->wants_stop, "early stop", actor, ""));
        row->wants_pause = false;
        if (state == v1::QAT_JOB_STATE_RUNNING) return absl::OkStatus();
        // A worker makes the checkpoint of the snapshot.
        return transaction->TransitionTo(row, v1::QAT_JOB_STATE_QUEUED,
                                         "to stop early", actor);
      });
}

absl::Status QatJobStore::Delete(absl::string_view job_id) {
  return impl_->Transact([&](QatJobTransaction* transaction) -> absl::Status {
    POT_ASSIGN_OR_RETURN(const QatJobRow row, transaction->Load(job_id));
    if (!IsFinalState(row.job.state())) {
      return WrongJobState(row.job, "be deleted");
    }
    POT_RETURN_IF_ERROR(transaction->db()->Run(
        "UPDATE datasets SET last_used = ? WHERE sha256 IN "
        "(SELECT sha256 FROM job_datasets WHERE job_id = ?)",
        {absl::ToUnixNanos(transaction->now()), row.id}));
    POT_RETURN_IF_ERROR(transaction->AddGarbage(row.job.job_id()));
    transaction->AddChanged(row.job.job_id());
    return transaction->db()->Run("DELETE FROM jobs WHERE id = ?", {row.id});
  });
}

std::shared_ptr<QatJobStore::Subscription> QatJobStore::Watch(
    absl::string_view job_id,
    std::function<void(const std::string& job_id)> observer) {
  return impl_->watchers()->Add(job_id, std::move(observer));
}

}  // namespace pot
