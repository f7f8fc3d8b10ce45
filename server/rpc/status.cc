#include "server/rpc/status.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/base/utf8.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

// Valid UTF-8 of at most `max_bytes`, which a proto string needs.
std::string Fit(absl::string_view text, size_t max_bytes) {
  std::string fitting = ReplaceInvalidUtf8(text);
  if (fitting.size() <= max_bytes) return fitting;
  constexpr absl::string_view kCut = "...";
  size_t end = max_bytes - kCut.size();
  // Back to the beginning of a character.
  while (end > 0 && (static_cast<uint8_t>(fitting[end]) & 0xC0) == 0x80) --end;
  return absl::StrCat(fitting.substr(0, end), kCut);
}

const char* GeneralReason(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return "";
    case absl::StatusCode::kCancelled:
      return "CLIENT_CANCELLED";
    case absl::StatusCode::kInvalidArgument:
      return "INVALID_FIELD";
    case absl::StatusCode::kDeadlineExceeded:
      return "DEADLINE_PASSED";
    case absl::StatusCode::kNotFound:
      return "MODEL_NOT_FOUND";
    case absl::StatusCode::kAlreadyExists:
      return "VERSION_EXISTS";
    case absl::StatusCode::kPermissionDenied:
      return "MISSING_SCOPE";
    case absl::StatusCode::kUnauthenticated:
      return "NO_TOKEN";
    case absl::StatusCode::kResourceExhausted:
      return "MEMORY_BUDGET";
    case absl::StatusCode::kFailedPrecondition:
      return "VERSION_FAILED";
    case absl::StatusCode::kAborted:
      return "ALIAS_MISMATCH";
    case absl::StatusCode::kOutOfRange:
      return "OFFSET_OUT_OF_RANGE";
    case absl::StatusCode::kUnimplemented:
      return "NOT_IMPLEMENTED";
    case absl::StatusCode::kUnavailable:
      return "DRAINING";
    case absl::StatusCode::kDataLoss:
      return "CORRUPT_CHECKPOINT";
    default:
      return "INTERNAL";
  }
}

void AddRetry(absl::Duration after, google::rpc::Status* status) {
  google::rpc::RetryInfo retry;
  after = std::max(after, absl::ZeroDuration());
  absl::Duration rest;
  retry.mutable_retry_delay()->set_seconds(
      absl::IDivDuration(after, absl::Seconds(1), &rest));
  retry.mutable_retry_delay()->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
  status->add_details()->PackFrom(retry);
}

}  // namespace

std::string ErrorReason(const absl::Status& status) {
  const std::optional<ErrorDetails> details = GetDetails(status);
  if (details.has_value() && !details->reason.empty()) return details->reason;
  return GeneralReason(status.code());
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const std::string message = Fit(status.message(), kMaxErrorMessageBytes);
  google::rpc::Status wire;
  wire.set_code(static_cast<int>(status.code()));
  wire.set_message(message);

  const ErrorDetails details = GetDetails(status).value_or(ErrorDetails());
  google::rpc::ErrorInfo info;
  info.set_reason(ErrorReason(status));
  info.set_domain(kErrorDomain);
  for (const auto& [key, value] : details.metadata) {
    (*info.mutable_metadata())[Fit(key, kMaxErrorValueBytes)] =
        Fit(value, kMaxErrorValueBytes);
  }
  wire.add_details()->PackFrom(info);
  if (details.retry_after.has_value()) AddRetry(*details.retry_after, &wire);
  if (!details.field.empty()) {
    google::rpc::BadRequest bad;
    auto* violation = bad.add_field_violations();
    violation->set_field(Fit(details.field, kMaxErrorValueBytes));
    violation->set_description(message);
    wire.add_details()->PackFrom(bad);
  }
  // absl and gRPC number the codes alike, as google.rpc.Code does.
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), message,
                      wire.SerializeAsString());
}

}  // namespace pot
