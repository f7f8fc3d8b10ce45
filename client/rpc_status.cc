#include "client/rpc_status.h"

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/text_format.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/support/status.h"

namespace pot {
namespace {

double SecondsOf(const google::rpc::RetryInfo& retry) {
  return static_cast<double>(retry.retry_delay().seconds()) +
         1e-9 * retry.retry_delay().nanos();
}

void AddDetail(const google::protobuf::Any& detail, absl::string_view message,
               std::vector<std::string>* parts) {
  google::rpc::ErrorInfo info;
  google::rpc::BadRequest bad_request;
  google::rpc::RetryInfo retry;
  if (detail.UnpackTo(&info)) {
    parts->push_back(absl::StrCat("reason ", info.reason()));
    // Sorted: limit before value.
    for (const auto& [key, value] : std::map<std::string, std::string>(
             info.metadata().begin(), info.metadata().end())) {
      parts->push_back(absl::StrCat(key, " ", value));
    }
  } else if (detail.UnpackTo(&bad_request)) {
    for (const auto& violation : bad_request.field_violations()) {
      parts->push_back(absl::StrCat("field ", violation.field()));
      if (!violation.description().empty() &&
          !absl::StrContains(message, violation.description())) {
        absl::StrAppend(&parts->back(), ": ", violation.description());
      }
    }
  } else if (detail.UnpackTo(&retry)) {
    parts->push_back(absl::StrFormat("retry after %g s", SecondsOf(retry)));
  }
}

}  // namespace

RpcErrorInfo ErrorInfoOf(const grpc::Status& status) {
  RpcErrorInfo result;
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return result;
  for (const auto& detail : details.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::RetryInfo retry;
    if (detail.UnpackTo(&info)) {
      result.reason = info.reason();
    } else if (detail.UnpackTo(&retry)) {
      result.retry_seconds = SecondsOf(retry);
    }
  }
  return result;
}

absl::Status FromGrpcStatus(const grpc::Status& status,
                            absl::string_view server) {
  if (status.ok()) return absl::OkStatus();
  std::vector<std::string> parts;
  google::rpc::Status details;
  if (details.ParseFromString(status.error_details())) {
    for (const auto& detail : details.details()) {
      AddDetail(detail, status.error_message(), &parts);
    }
  }
  const bool by_server = !parts.empty();
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    parts.push_back(absl::StrCat("server ", server));
    if (!by_server) {
      parts.emplace_back(
          "is pot-server running there? --server or POT_SERVER names another "
          "address");
    }
  }
  std::string text = status.error_message();
  if (text.empty() && status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
    text = absl::StrCat("the server ", server, " does not have this call");
  }
  if (!parts.empty()) {
    absl::StrAppend(&text, text.empty() ? "(" : " (",
                    absl::StrJoin(parts, "; "), ")");
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      Printable(text));
}

}  // namespace pot
