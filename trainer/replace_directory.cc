#include "trainer/replace_directory.h"

#include <fcntl.h>
#include <stdio.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"

namespace pot {

absl::Status ReplaceDirectory(
    const std::string& directory,
    absl::FunctionRef<absl::Status(const std::string&)> fill) {
  const std::string staging = directory + ".partial";
  std::error_code error;
  std::filesystem::remove_all(staging, error);
  if (!std::filesystem::create_directories(staging, error)) {
    return absl::UnavailableError(
        absl::StrCat("cannot create '", staging, "': ", error.message()));
  }
  POT_RETURN_IF_ERROR(fill(staging));
  if (!std::filesystem::exists(directory, error)) {
    return RenameDirectory(staging, directory);
  }
  if (renameat2(AT_FDCWD, staging.c_str(), AT_FDCWD, directory.c_str(),
                RENAME_EXCHANGE) != 0) {
    return absl::InternalError(absl::StrCat("cannot replace '", directory,
                                            "': ", std::strerror(errno)));
  }
  // The old one now.
  std::filesystem::remove_all(staging, error);
  return absl::OkStatus();
}

}  // namespace pot
