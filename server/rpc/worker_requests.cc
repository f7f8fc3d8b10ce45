#include "server/rpc/worker_requests.h"

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/characters.h"
#include "engine/base/status_macros.h"
#include "server/serving/field_errors.h"

namespace pot {
namespace {

constexpr double kMaxWaitSeconds = 60;
constexpr int64_t kMaxNameBytes = 128;
constexpr int64_t kMaxFeatures = 64;
constexpr int64_t kMaxEvents = 256;
constexpr int64_t kMaxTextBytes = 4096;

absl::Status CheckWorker(const v1::WorkerInfo& worker) {
  POT_RETURN_IF_ERROR(
      CheckBytes("worker.name", worker.name(), 1, kMaxNameBytes));
  if (!IsNameText(worker.name(), kMaxNameBytes)) {
    return FieldError("INVALID_FIELD", "worker.name",
                      absl::StrCat("must be of [A-Za-z0-9._-]; it is ",
                                   Quoted(worker.name())),
                      "", Quoted(worker.name()));
  }
  POT_RETURN_IF_ERROR(
      CheckBytes("worker.version", worker.version(), 0, kMaxNameBytes));
  POT_RETURN_IF_ERROR(CheckEntries("worker.cpu_features",
                                   worker.cpu_features_size(), kMaxFeatures));
  for (const std::string& feature : worker.cpu_features()) {
    POT_RETURN_IF_ERROR(
        CheckBytes("worker.cpu_features", feature, 0, kMaxNameBytes));
  }
  if (worker.memory_bytes() < 0) {
    return RangeError("worker.memory_bytes", "[0, 9223372036854775807]",
                      absl::StrCat(worker.memory_bytes()));
  }
  return absl::OkStatus();
}

absl::Status CheckProgress(const v1::JobProgress& progress,
                           const std::string& field) {
  const std::pair<const char*, int64_t> counts[] = {
      {".step", progress.step()},
      {".total_steps", progress.total_steps()},
      {".tokens", progress.tokens()}};
  for (const auto& [name, count] : counts) {
    if (count < 0) {
      return RangeError(field + name, "[0, 9223372036854775807]",
                        absl::StrCat(count));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckLeaseKey(const v1::LeaseKey& key, const std::string& field) {
  POT_RETURN_IF_ERROR(
      CheckBytes(field + ".job_id", key.job_id(), 1, kMaxNameBytes));
  if (key.epoch() < 1) {
    return RangeError(field + ".epoch", "[1, 9223372036854775807]",
                      absl::StrCat(key.epoch()));
  }
  return absl::OkStatus();
}

absl::Status CheckAcquireLease(const v1::AcquireLeaseRequest& request) {
  const double wait = request.wait_seconds();
  if (!(wait >= 0 && wait <= kMaxWaitSeconds)) {
    return RangeError("wait_seconds",
                      absl::StrCat("[0, ", kMaxWaitSeconds, "]"),
                      absl::StrCat(wait));
  }
  return CheckWorker(request.worker());
}

absl::Status CheckHeartbeat(const v1::HeartbeatRequest& request) {
  POT_RETURN_IF_ERROR(CheckLeaseKey(request.lease(), "lease"));
  return CheckProgress(request.progress(), "progress");
}

absl::Status CheckReportEvents(const v1::ReportEventsRequest& request) {
  POT_RETURN_IF_ERROR(CheckLeaseKey(request.lease(), "lease"));
  POT_RETURN_IF_ERROR(
      CheckEntries("events", request.events_size(), kMaxEvents));
  for (int i = 0; i < request.events_size(); ++i) {
    const v1::WorkerEvent& event = request.events(i);
    const std::string field = absl::StrCat("events[", i, "]");
    if (event.worker_sequence() < 1) {
      return RangeError(field + ".worker_sequence", "[1, 9223372036854775807]",
                        absl::StrCat(event.worker_sequence()));
    }
    switch (event.detail_case()) {
      case v1::WorkerEvent::kProgress:
        POT_RETURN_IF_ERROR(
            CheckProgress(event.progress(), field + ".progress"));
        break;
      case v1::WorkerEvent::kLog:
        POT_RETURN_IF_ERROR(CheckBytes(field + ".log.text", event.log().text(),
                                       0, kMaxTextBytes));
        break;
      case v1::WorkerEvent::kEvaluation:
        break;
      case v1::WorkerEvent::DETAIL_NOT_SET:
        return FieldError("MISSING_FIELD", field + ".detail", "is missing", "",
                          "");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckComplete(const v1::CompleteRequest& request) {
  POT_RETURN_IF_ERROR(CheckLeaseKey(request.lease(), "lease"));
  switch (request.outcome_case()) {
    case v1::CompleteRequest::kTrained:
      return CheckBytes("trained.checkpoint_id",
                        request.trained().checkpoint_id(), 1, kMaxNameBytes);
    case v1::CompleteRequest::kFailed:
      return CheckBytes("failed.message", request.failed().message(), 0,
                        kMaxTextBytes);
    case v1::CompleteRequest::OUTCOME_NOT_SET:
      return FieldError("MISSING_FIELD", "outcome", "is missing", "", "");
    default:
      return absl::OkStatus();
  }
}

}  // namespace pot
