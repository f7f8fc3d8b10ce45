#include "server/observability/process_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace pot {
namespace {

std::string Content(const char* path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// Fields of /proc/self/stat from the third on, "state"; proc(5) counts from 1.
// The second, the program's name in parentheses, may hold anything.
std::vector<std::string> StatFields() {
  const std::string text = Content("/proc/self/stat");
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return {};
  return absl::StrSplit(text.substr(name_end + 1), ' ', absl::SkipEmpty());
}
constexpr size_t kUserTime = 14 - 3;
constexpr size_t kSystemTime = 15 - 3;
constexpr size_t kThreads = 20 - 3;
constexpr size_t kStartTime = 22 - 3;
constexpr size_t kVirtualBytes = 23 - 3;
constexpr size_t kResidentPages = 24 - 3;

double Number(const std::vector<std::string>& fields, size_t index) {
  int64_t value = 0;
  return absl::SimpleAtoi(fields[index], &value) ? static_cast<double>(value)
                                                 : 0;
}

// Since the epoch; 0 when it is not known.
double BootTime() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    int64_t seconds = 0;
    if (words.size() == 2 && words[0] == "btime" &&
        absl::SimpleAtoi(words[1], &seconds)) {
      return static_cast<double>(seconds);
    }
  }
  return 0;
}

int64_t OpenFiles() {
  DIR* const directory = opendir("/proc/self/fd");
  if (directory == nullptr) return -1;
  // "." and "..", and the directory itself.
  int64_t count = -3;
  while (readdir(directory) != nullptr) ++count;
  closedir(directory);
  return count;
}

}  // namespace

void CollectProcessMetrics(MetricFamilies* families) {
  const auto add = [families](const char* name, const char* help,
                              MetricType type, double value) {
    families->push_back(SingleMetric(name, help, type, value));
  };
  const std::vector<std::string> fields = StatFields();
  if (fields.size() > kResidentPages) {
    const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
    add("process_cpu_seconds_total", "User and system CPU time.",
        MetricType::kCounter,
        (Number(fields, kUserTime) + Number(fields, kSystemTime)) / ticks);
    add("process_resident_memory_bytes", "Resident memory.", MetricType::kGauge,
        Number(fields, kResidentPages) *
            static_cast<double>(sysconf(_SC_PAGESIZE)));
    add("process_virtual_memory_bytes", "Virtual memory.", MetricType::kGauge,
        Number(fields, kVirtualBytes));
    add("process_threads", "Threads.", MetricType::kGauge,
        Number(fields, kThreads));
    const double boot = BootTime();
    if (boot > 0) {
      add("process_start_time_seconds",
          "When the process started, since the epoch.", MetricType::kGauge,
          boot + Number(fields, kStartTime) / ticks);
    }
  }
  const int64_t open_files = OpenFiles();
  if (open_files >= 0) {
    add("process_open_fds", "Open file descriptors.", MetricType::kGauge,
        static_cast<double>(open_files));
  }
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    add("process_max_fds", "The most file descriptors that may be open.",
        MetricType::kGauge, static_cast<double>(limit.rlim_cur));
  }
}

}  // namespace pot
