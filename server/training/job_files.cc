#include "server/training/job_files.h"

#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "server/training/qat_job_store.h"

namespace pot {

namespace fs = std::filesystem;

std::string JobDatabasePath(const std::string& root) {
  return absl::StrCat(root, "/jobs.sqlite");
}

std::string DatasetsDirectory(const std::string& root) {
  return absl::StrCat(root, "/datasets");
}

std::string JobsDirectory(const std::string& root) {
  return absl::StrCat(root, "/jobs");
}

std::string JobDirectory(const std::string& root, absl::string_view directory) {
  return absl::StrCat(root, "/jobs/", directory);
}

absl::Status MakeJobDirectories(const std::string& root) {
  for (const std::string& path :
       {root, DatasetsDirectory(root), JobsDirectory(root)}) {
    std::error_code error;
    fs::create_directories(path, error);
    if (error) {
      return absl::ErrnoToStatus(error.value(),
                                 absl::StrCat("cannot make ", path));
    }
  }
  return absl::OkStatus();
}

absl::Status SweepJobGarbage(QatJobStore* store, const std::string& root) {
  POT_ASSIGN_OR_RETURN(const std::vector<std::string> garbage,
                       store->Garbage());
  absl::Status result;
  for (const std::string& directory : garbage) {
    std::error_code error;
    fs::remove_all(JobDirectory(root, directory), error);
    if (error) {
      result.Update(absl::ErrnoToStatus(
          error.value(), absl::StrCat("cannot remove ", directory)));
      continue;
    }
    result.Update(store->ForgetGarbage(directory));
  }
  return result;
}

}  // namespace pot
