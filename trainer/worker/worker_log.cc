#include "trainer/worker/worker_log.h"

#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace pot {

void LogWorker(absl::string_view text) {
  std::string line =
      absl::StrCat(absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", absl::Now(),
                                    absl::UTCTimeZone()),
                   " ", text);
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  }
  line += '\n';
  // One call, so that lines of threads do not mix.
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace pot
