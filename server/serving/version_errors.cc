#include "server/serving/version_errors.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/base/quote.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

constexpr absl::Duration kRetryAfter = absl::Seconds(1);

std::string Describe(const ModelVersionInfo& info) {
  return absl::StrCat("version ", info.version, " of model ", info.name, " is ",
                      ModelVersionStateName(info.state));
}

ErrorDetails StateDetails(absl::string_view reason,
                          const ModelVersionInfo& info) {
  return {
      .reason = std::string(reason),
      .metadata = {{"value", std::string(ModelVersionStateName(info.state))}}};
}

}  // namespace

absl::Status ModelNotFound(absl::string_view name) {
  return WithDetails(
      absl::NotFoundError(absl::StrCat("no model is called ", Quote(name))),
      {.reason = "MODEL_NOT_FOUND",
       .metadata = {{"value", std::string(name)}}});
}

absl::Status VersionNotFound(absl::string_view name, int64_t version) {
  return WithDetails(absl::NotFoundError(absl::StrCat(
                         "model ", name, " has no version ", version)),
                     {.reason = "VERSION_NOT_FOUND",
                      .metadata = {{"value", absl::StrCat(version)}}});
}

absl::Status DigestNotFound(absl::string_view name, absl::string_view digest) {
  return WithDetails(
      absl::NotFoundError(absl::StrCat(
          "model ", name, " has no version of digest ", Quote(digest))),
      {.reason = "VERSION_NOT_FOUND",
       .metadata = {{"value", std::string(digest)}}});
}

absl::Status AliasNotFound(absl::string_view name, absl::string_view alias) {
  return WithDetails(absl::NotFoundError(absl::StrCat(
                         "model ", name, " has no alias ", Quote(alias))),
                     {.reason = "ALIAS_NOT_FOUND",
                      .metadata = {{"value", std::string(alias)}}});
}

absl::Status NotServing(const ModelVersionInfo& info) {
  if (IsOnItsWay(info.state)) {
    ErrorDetails details = StateDetails("MODEL_LOADING", info);
    details.retry_after = kRetryAfter;
    return WithDetails(absl::UnavailableError(Describe(info)), details);
  }
  if (info.state == ModelVersionState::kUnloading) {
    ErrorDetails details = StateDetails("DRAINING", info);
    details.retry_after = kRetryAfter;
    return WithDetails(absl::UnavailableError(Describe(info)), details);
  }
  if (info.state == ModelVersionState::kFailed) {
    return WithDetails(absl::FailedPreconditionError(absl::StrCat(
                           Describe(info), ": ", info.state_message)),
                       StateDetails("VERSION_FAILED", info));
  }
  return WithDetails(absl::FailedPreconditionError(
                         absl::StrCat(Describe(info), ", not loaded")),
                     StateDetails("VERSION_UNLOADED", info));
}

absl::Status WaitedTooLong(const ModelVersionInfo& info) {
  return WithDetails(absl::DeadlineExceededError(absl::StrCat(
                         "the deadline passed while ", Describe(info))),
                     StateDetails("DEADLINE_PASSED", info));
}

absl::Status StillLoaded(const ModelVersionInfo& info) {
  return WithDetails(absl::FailedPreconditionError(
                         absl::StrCat(Describe(info), "; unload it first")),
                     StateDetails("VERSION_LOADED", info));
}

absl::Status InvalidField(const absl::Status& status, absl::string_view field) {
  if (!absl::IsInvalidArgument(status)) return status;
  return WithDetails(status,
                     {.reason = "INVALID_FIELD", .field = std::string(field)});
}

}  // namespace pot
