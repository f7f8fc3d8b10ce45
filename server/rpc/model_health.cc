#include "server/rpc/model_health.h"

#include "absl/strings/str_cat.h"

namespace pot {

std::string ModelHealthName(const std::string& model) {
  return absl::StrCat("pot.model.", model);
}

void ModelHealth::OnEvent(const ModelEvent& event) {
  if (event.kind == ModelEvent::Kind::kSnapshotDone) return;
  std::set<int64_t>& available = available_[event.version.name];
  if (event.kind != ModelEvent::Kind::kDeleted &&
      event.version.state == ModelVersionState::kAvailable) {
    available.insert(event.version.version);
  } else {
    available.erase(event.version.version);
  }
  health_->SetServingStatus(ModelHealthName(event.version.name),
                            !available.empty());
}

}  // namespace pot
