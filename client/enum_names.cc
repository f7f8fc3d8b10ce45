#include "client/enum_names.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace pot {
namespace {

// `name` is empty for a number that the .proto does not have.
std::string Strip(absl::string_view name, absl::string_view prefix,
                  int number) {
  if (name.empty()) return absl::StrCat(number);
  return std::string(absl::StripPrefix(name, prefix));
}

std::string Lower(const std::string& name) {
  return absl::StrReplaceAll(absl::AsciiStrToLower(name), {{"_", " "}});
}

}  // namespace

std::string FinishReasonName(v1::FinishReason reason) {
  return Lower(Strip(v1::FinishReason_Name(reason), "FINISH_REASON_", reason));
}

std::string StateName(v1::ModelVersionState state) {
  return Strip(v1::ModelVersionState_Name(state), "MODEL_VERSION_STATE_",
               state);
}

std::string EventKindName(v1::ModelEventKind kind) {
  return Strip(v1::ModelEventKind_Name(kind), "MODEL_EVENT_KIND_", kind);
}

std::string StageName(v1::ImportStage stage) {
  return Lower(Strip(v1::ImportStage_Name(stage), "IMPORT_STAGE_", stage));
}

std::string CauseName(v1::AliasChangeCause cause) {
  return Lower(
      Strip(v1::AliasChangeCause_Name(cause), "ALIAS_CHANGE_CAUSE_", cause));
}

std::string ActivationsName(v1::ActivationQuantization activations) {
  return Lower(Strip(v1::ActivationQuantization_Name(activations),
                     "ACTIVATION_QUANTIZATION_", activations));
}

std::string JobStateName(v1::QatJobState state) {
  return Strip(v1::QatJobState_Name(state), "QAT_JOB_STATE_", state);
}

std::string SeverityName(v1::LogSeverity severity) {
  return Lower(
      Strip(v1::LogSeverity_Name(severity), "LOG_SEVERITY_", severity));
}

}  // namespace pot
