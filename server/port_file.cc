#include "server/port_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"

namespace pot {

absl::Status WritePortFile(const std::string& path, int port) {
  const std::string fresh = absl::StrCat(path, ".", getpid());
  POT_RETURN_IF_ERROR(WriteFile(fresh, absl::StrCat(port, "\n")));
  if (std::rename(fresh.c_str(), path.c_str()) == 0) return absl::OkStatus();
  const absl::Status status = absl::UnknownError(absl::StrCat(
      "cannot rename ", fresh, " to ", path, ": ", std::strerror(errno)));
  std::remove(fresh.c_str());
  return status;
}

}  // namespace pot
