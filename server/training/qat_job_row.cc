// Rows of "jobs", in and out.
#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "server/serving/error_details.h"
#include "server/training/proto_time.h"
#include "server/training/qat_job_transaction.h"

namespace pot {
namespace {

constexpr absl::string_view kPrefix = "qat-";

absl::Status JobNotFound(absl::string_view job_id) {
  return WithDetails(
      absl::NotFoundError(absl::StrCat("there is no job ", Quote(job_id))),
      {.reason = "JOB_NOT_FOUND"});
}

// Messages of the database are our own: one that does not parse is damaged.
template <typename Message>
absl::Status Parse(const std::string& bytes, Message* message) {
  return message->ParseFromString(bytes)
             ? absl::OkStatus()
             : absl::DataLossError(
                   absl::StrCat("the job database holds a damaged ",
                                message->GetTypeName()));
}

SqliteValue OptionalTime(bool set, const google::protobuf::Timestamp& time) {
  return set ? SqliteValue(absl::ToUnixNanos(FromProtoTime(time)))
             : SqliteValue(nullptr);
}

template <typename Message>
SqliteValue OptionalBlob(bool set, const Message& message) {
  return set ? SqliteValue::Blob(message.SerializeAsString())
             : SqliteValue(nullptr);
}

}  // namespace

std::string QatJobId(int64_t id) { return absl::StrCat(kPrefix, id); }

absl::StatusOr<int64_t> ParseQatJobId(absl::string_view job_id) {
  int64_t id = 0;
  if (!absl::StartsWith(job_id, kPrefix) ||
      !absl::SimpleAtoi(job_id.substr(kPrefix.size()), &id) || id < 1 ||
      QatJobId(id) != job_id) {
    return JobNotFound(job_id);
  }
  return id;
}

absl::StatusOr<QatJobRow> QatJobTransaction::Load(absl::string_view job_id) {
  POT_ASSIGN_OR_RETURN(const int64_t id, ParseQatJobId(job_id));
  return LoadRow(id);
}

absl::StatusOr<QatJobRow> QatJobTransaction::LoadRow(int64_t id) {
  SqliteRows rows = db_->Query(
      "SELECT spec, submitter, create_time, start_time, end_time, state, "
      "state_message, progress, progress_event_time, last_sequence, epoch, "
      "failed_attempts, worker, wants_cancel, wants_pause, wants_stop, "
      "wish_actor, wish_comment, candidate, gate, published "
      "FROM jobs WHERE id = ?",
      {id});
  if (!rows.Next()) {
    POT_RETURN_IF_ERROR(rows.status());
    return JobNotFound(QatJobId(id));
  }
  QatJobRow row;
  row.id = id;
  v1::QatJob& job = row.job;
  job.set_job_id(QatJobId(id));
  POT_RETURN_IF_ERROR(Parse(rows.Bytes(0), job.mutable_spec()));
  job.set_submitter(rows.Bytes(1));
  SetProtoTime(absl::FromUnixNanos(rows.Int(2)), job.mutable_create_time());
  if (!rows.IsNull(3)) {
    SetProtoTime(absl::FromUnixNanos(rows.Int(3)), job.mutable_start_time());
  }
  if (!rows.IsNull(4)) {
    SetProtoTime(absl::FromUnixNanos(rows.Int(4)), job.mutable_end_time());
  }
  job.set_state(static_cast<v1::QatJobState>(rows.Int(5)));
  job.set_state_message(rows.Bytes(6));
  if (!rows.IsNull(7)) {
    POT_RETURN_IF_ERROR(Parse(rows.Bytes(7), job.mutable_progress()));
  }
  row.progress_event_time = absl::FromUnixNanos(rows.Int(8));
  job.set_last_sequence(rows.Int(9));
  row.epoch = rows.Int(10);
  job.set_attempts(static_cast<int32_t>(row.epoch));
  row.failed_attempts = rows.Int(11);
  job.set_worker(rows.Bytes(12));
  row.wants_cancel = rows.Int(13) != 0;
  row.wants_pause = rows.Int(14) != 0;
  row.wants_stop = rows.Int(15) != 0;
  row.wish_actor = rows.Bytes(16);
  row.wish_comment = rows.Bytes(17);
  row.candidate = rows.Bytes(18);
  if (!rows.IsNull(19)) {
    POT_RETURN_IF_ERROR(Parse(rows.Bytes(19), job.mutable_gate()));
  }
  if (!rows.IsNull(20)) {
    POT_RETURN_IF_ERROR(Parse(rows.Bytes(20), job.mutable_published()));
  }
  return row;
}

absl::Status QatJobTransaction::Save(const QatJobRow& row) {
  const v1::QatJob& job = row.job;
  changed_.insert(job.job_id());
  return db_->Run(
      "UPDATE jobs SET start_time = ?, end_time = ?, state = ?, "
      "state_message = ?, progress = ?, tokens_per_second = ?, "
      "progress_event_time = ?, last_sequence = ?, epoch = ?, "
      "failed_attempts = ?, worker = ?, wants_cancel = ?, wants_pause = ?, "
      "wants_stop = ?, wish_actor = ?, wish_comment = ?, candidate = ?, "
      "gate = ?, published = ? WHERE id = ?",
      {OptionalTime(job.has_start_time(), job.start_time()),
       OptionalTime(job.has_end_time(), job.end_time()),
       static_cast<int>(job.state()),
       job.state_message(),
       OptionalBlob(job.has_progress(), job.progress()),
       std::isfinite(job.progress().tokens_per_second())
           ? job.progress().tokens_per_second()
           : 0.0,
       absl::ToUnixNanos(row.progress_event_time),
       int64_t{job.last_sequence()},
       row.epoch,
       row.failed_attempts,
       job.worker(),
       row.wants_cancel ? 1 : 0,
       row.wants_pause ? 1 : 0,
       row.wants_stop ? 1 : 0,
       row.wish_actor,
       row.wish_comment,
       row.candidate,
       OptionalBlob(job.has_gate(), job.gate()),
       OptionalBlob(job.has_published(), job.published()),
       row.id});
}

}  // namespace pot
