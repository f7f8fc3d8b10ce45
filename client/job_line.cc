#include "client/job_line.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/enum_names.h"
#include "client/job_event.h"
#include "client/progress_bar.h"
#include "client/sparkline.h"
#include "client/text_format.h"

namespace pot {
namespace {

// From these widths on there is room for a longer bar and a longer sparkline.
constexpr int kLongBarColumns = 100;
constexpr int kLongSparklineColumns = 130;
constexpr char kGap[] = "  ";

struct Part {
  std::string text;
  // The greatest goes first.
  int dispensable;
};

std::string Count(int64_t count) {
  return FormatCount(static_cast<uint64_t>(std::max<int64_t>(0, count)));
}

}  // namespace

std::string FormatJobLine(const JobLine& line, int columns, bool utf8) {
  const v1::JobProgress& progress = line.progress;
  std::vector<Part> parts;
  const auto add = [&parts](int dispensable, std::string text) {
    if (!text.empty()) parts.push_back({std::move(text), dispensable});
  };
  const bool training = line.state == v1::QAT_JOB_STATE_RUNNING;
  if (line.state != v1::QAT_JOB_STATE_UNSPECIFIED &&
      !(training && progress.total_steps() > 0)) {
    add(0, JobStateName(line.state));
  }
  if (progress.total_steps() > 0) {
    const double share = static_cast<double>(progress.step()) /
                         static_cast<double>(progress.total_steps());
    add(0, absl::StrFormat("%s %3.0f %%",
                           DrawBar(share, columns >= kLongBarColumns ? 20 : 10),
                           100 * share));
    add(3, absl::StrCat(Count(progress.step()), "/",
                        Count(progress.total_steps())));
  }
  if (progress.step() > 0) {
    add(1, absl::StrFormat("loss %.4f", progress.smoothed_train_loss()));
  }
  add(4,
      Sparkline(line.losses, columns >= kLongSparklineColumns ? 24 : 12, utf8));
  // Afterwards it says nothing.
  if (training && progress.has_eta_seconds()) {
    add(2, absl::StrCat("ETA ", FormatSeconds(progress.eta_seconds())));
  }
  if (training) add(6, FormatSpeed(progress));
  if (line.best.has_value()) {
    add(5, absl::StrFormat("best %.4f at %s", line.best->perplexity(),
                           Count(line.best->step())));
  }
  for (;;) {
    const std::string text =
        absl::StrJoin(parts, kGap, [](std::string* out, const Part& part) {
          absl::StrAppend(out, part.text);
        });
    // The last column stays empty (status_line.h).
    if (static_cast<int>(CountColumns(text)) < columns || parts.size() < 2) {
      return text;
    }
    parts.erase(std::max_element(parts.begin(), parts.end(),
                                 [](const Part& a, const Part& b) {
                                   return a.dispensable < b.dispensable;
                                 }));
  }
}

}  // namespace pot
