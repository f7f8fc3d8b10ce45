#include "trainer/model_source.h"

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "engine/base/status_macros.h"
#include "engine/gpt2/engine_version.h"
#include "engine/hub/hub_id.h"
#include "engine/hub/hub_settings.h"
#include "engine/hub/model_download.h"
#include "trainer/progress_bar.h"

namespace pot {

absl::StatusOr<std::string> ResolveModelSource(const std::string& source) {
  if (!IsHubId(source)) return source;
  POT_ASSIGN_OR_RETURN(const HubId id, ParseHubId(source));
  POT_ASSIGN_OR_RETURN(HubSettings settings,
                       HubSettingsFromEnvironment(
                           [](const char* name) { return std::getenv(name); }));
  settings.user_agent = absl::StrReplaceAll(kEngineVersion, {{" ", "/"}});
  ProgressBar bar(id.text());
  HubHooks hooks;
  hooks.progress = [&](int64_t done, int64_t total, absl::string_view file) {
    bar.Update(done, total, file);
    return true;
  };
  hooks.note = [&](const std::string& line) {
    bar.Print(absl::StrCat("pot-trainer: ", line));
  };
  POT_ASSIGN_OR_RETURN(const HubModel model,
                       DownloadHubModel(id, settings, hooks));
  return model.directory;
}

}  // namespace pot
