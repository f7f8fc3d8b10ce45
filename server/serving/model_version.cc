#include "server/serving/model_version.h"

namespace pot {

absl::string_view ModelVersionStateName(ModelVersionState state) {
  switch (state) {
    case ModelVersionState::kRegistered:
      return "REGISTERED";
    case ModelVersionState::kVerifying:
      return "VERIFYING";
    case ModelVersionState::kLoading:
      return "LOADING";
    case ModelVersionState::kWarming:
      return "WARMING";
    case ModelVersionState::kAvailable:
      return "AVAILABLE";
    case ModelVersionState::kUnloading:
      return "UNLOADING";
    case ModelVersionState::kUnloaded:
      return "UNLOADED";
    case ModelVersionState::kFailed:
      return "FAILED";
  }
  return "UNKNOWN";
}

bool IsOnItsWay(ModelVersionState state) {
  return state == ModelVersionState::kVerifying ||
         state == ModelVersionState::kLoading ||
         state == ModelVersionState::kWarming;
}

bool TransitionAllowed(ModelVersionState from, ModelVersionState to) {
  switch (to) {
    case ModelVersionState::kRegistered:
      return false;
    case ModelVersionState::kVerifying:
      return from == ModelVersionState::kRegistered ||
             from == ModelVersionState::kUnloaded ||
             from == ModelVersionState::kFailed;
    case ModelVersionState::kLoading:
      return from == ModelVersionState::kVerifying;
    case ModelVersionState::kWarming:
      return from == ModelVersionState::kLoading;
    case ModelVersionState::kAvailable:
      return from == ModelVersionState::kWarming;
    case ModelVersionState::kUnloading:
      return from == ModelVersionState::kAvailable;
    case ModelVersionState::kUnloaded:
      return from == ModelVersionState::kUnloading;
    case ModelVersionState::kFailed:
      return IsOnItsWay(from);
  }
  return false;
}

}  // namespace pot
