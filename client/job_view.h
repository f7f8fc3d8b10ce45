#ifndef POT_CLIENT_JOB_VIEW_H_
#define POT_CLIENT_JOB_VIEW_H_

#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "client/job_line.h"
#include "client/session.h"
#include "client/sparkline.h"
#include "client/status_line.h"
#include "pot/v1/training.pb.h"

namespace pot {

// Shows a job's events as they come: what happened as lines on standard output
// (one JSON object each with --output jsonl, nothing with json), how it stands
// as a line that moves on the error stream's terminal. Without a terminal,
// progress is a line for every twentieth of the steps.
class JobView {
 public:
  explicit JobView(Session* session);

  absl::Status OnEvent(const v1::WatchJobResponse& response);
  // The connection is gone and is tried again.
  void OnLost(const absl::Status& why);
  // A message on the error stream, above the moving line.
  void Note(const std::string& text);
  // Erases the moving line.
  void Finish() { status_line_.Hide(); }

 private:
  // Whether it is the best so far.
  bool AddEvaluation(const v1::CheckpointEvaluation& evaluation);
  // Whether the event is worth a line.
  bool IsWorthALine(const v1::JobEvent& event);
  void Redraw();

  Session* const session_;
  StatusLine status_line_;
  JobLine line_;
  ValueHistory losses_;
  double lowest_nats_ = std::numeric_limits<double>::infinity();
  // Of the last progress that had a line.
  int64_t twentieth_ = 0;
};

}  // namespace pot

#endif  // POT_CLIENT_JOB_VIEW_H_
