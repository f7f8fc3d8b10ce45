#include "server/serving/hub_importer.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/base/status_macros.h"
#include "engine/gpt2/engine_version.h"
#include "engine/hub/hub_transfer.h"
#include "engine/hub/model_download.h"
#include "server/observability/log.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

constexpr absl::Duration kTryAgainAfter = absl::Seconds(30);

// As proto/README.md has it. The hub's refusal is the server's state, not the
// caller's credentials.
absl::Status ForClients(const absl::Status& status) {
  if (GetDetails(status).has_value()) return status;
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      return WithDetails(
          status, {.reason = "HUB_UNREACHABLE", .retry_after = kTryAgainAfter});
    case absl::StatusCode::kResourceExhausted:
      if (!IsRateLimited(status)) {
        return WithDetails(status, {.reason = "DISK_BUDGET"});
      }
      return WithDetails(
          absl::UnavailableError(status.message()),
          {.reason = "HUB_UNREACHABLE", .retry_after = kTryAgainAfter});
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kFailedPrecondition:
      return WithDetails(
          absl::FailedPreconditionError(absl::StrCat(
              "of the server's own access to the hub: ", status.message())),
          {.reason = "HUB_DENIED", .field = "hub"});
    case absl::StatusCode::kNotFound:
      return WithDetails(status,
                         {.reason = "SOURCE_NOT_FOUND", .field = "hub"});
    case absl::StatusCode::kInvalidArgument:
      return WithDetails(status,
                         {.reason = "UNSUPPORTED_MODEL", .field = "hub"});
    case absl::StatusCode::kDataLoss:
      return WithDetails(status, {.reason = "CHECKSUM_MISMATCH"});
    case absl::StatusCode::kCancelled:
      return WithDetails(status, {.reason = "CLIENT_CANCELLED"});
    default:
      return status;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<HubImporter>> HubImporter::Open(
    const HostList& hosts, const std::string& repository,
    const GetEnvironmentVariable& environment,
    std::function<absl::Status(int64_t)> reserve) {
  POT_ASSIGN_OR_RETURN(HubSettings settings,
                       HubSettingsFromEnvironment(environment));
  const auto unset = [&](const char* name) {
    const char* const value = environment(name);
    return value == nullptr || *value == '\0';
  };
  if (unset("HF_HUB_CACHE") && unset("HUGGINGFACE_HUB_CACHE") &&
      unset("HF_HOME")) {
    settings.cache = absl::StrCat(repository, "/.hub");
  }
  settings.user_agent = absl::StrReplaceAll(kEngineVersion, {{" ", "/"}});
  settings.allowed_hosts = hosts;
  const absl::Status endpoint = HubEndpoint(settings).status();
  if (!endpoint.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--import-hosts: ", endpoint.message()));
  }
  return std::unique_ptr<HubImporter>(
      new HubImporter(std::move(settings), std::move(reserve)));
}

absl::StatusOr<std::string> HubImporter::Download(
    const HubId& id,
    const std::function<bool(int64_t, int64_t)>& progress) const {
  HubHooks hooks;
  hooks.progress = [&](int64_t done, int64_t total, absl::string_view) {
    return progress(done, total);
  };
  hooks.note = [](const std::string& line) {
    Log(LogLevel::kWarning, "hub", {{"text", line}});
  };
  hooks.reserve = reserve_;
  const absl::StatusOr<HubModel> model = DownloadHubModel(id, settings_, hooks);
  if (!model.ok()) return ForClients(relative_.In(model.status()));
  Log(LogLevel::kInfo, "downloaded a model",
      {{"hub", id.text()}, {"commit", model->commit}});
  return model->directory;
}

}  // namespace pot
