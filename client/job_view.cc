#include "client/job_view.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/job_event.h"
#include "client/text_format.h"

namespace pot {
namespace {

// Far more than a line has columns.
constexpr size_t kMaxLosses = 1024;
constexpr int64_t kProgressLines = 20;

}  // namespace

JobView::JobView(Session* session)
    : session_(session),
      status_line_(&session->console()),
      losses_(kMaxLosses) {}

absl::Status JobView::OnEvent(const v1::WatchJobResponse& response) {
  const v1::JobEvent& event = response.event();
  bool best = false;
  if (event.has_state_change()) line_.state = event.state_change().to();
  if (event.has_progress()) {
    line_.progress = event.progress();
    losses_.Add(event.progress().smoothed_train_loss());
  }
  if (event.has_evaluation()) best = AddEvaluation(event.evaluation());
  if (event.has_checkpoint() && event.checkpoint().has_evaluation()) {
    AddEvaluation(event.checkpoint().evaluation());
  }
  absl::Status written;
  switch (session_->flags().output) {
    case OutputFormat::kText:
      if (!IsWorthALine(event)) break;
      status_line_.Hide();
      written = session_->console().Write(
          absl::StrCat(FormatJobEvent(event, best), "\n"));
      break;
    case OutputFormat::kJsonLines:
      status_line_.Hide();
      written = session_->console().Write(ToJson(response, /*indented=*/false));
      break;
    case OutputFormat::kJson:
      break;
  }
  Redraw();
  return written;
}

void JobView::OnLost(const absl::Status& why) {
  // What follows tells how to reach a server; this one was reached.
  const absl::string_view reason =
      why.message().substr(0, why.message().find(" ("));
  Note(absl::StrCat("pot-client: lost the connection to ",
                    Printable(session_->flags().server), " (", reason,
                    "); trying again, the job goes on\n"));
}

void JobView::Note(const std::string& text) {
  status_line_.Hide();
  session_->console().WriteError(text);
  status_line_.Show();
}

bool JobView::AddEvaluation(const v1::CheckpointEvaluation& evaluation) {
  if (!(evaluation.nats_per_token() < lowest_nats_)) return false;
  lowest_nats_ = evaluation.nats_per_token();
  line_.best = evaluation;
  return true;
}

bool JobView::IsWorthALine(const v1::JobEvent& event) {
  if (!event.has_progress()) return true;
  if (session_->console().err_is_terminal()) return false;
  const int64_t total = event.progress().total_steps();
  if (total <= 0) return true;
  // In doubles: the product could overflow.
  const auto twentieth = static_cast<int64_t>(
      std::clamp(static_cast<double>(event.progress().step()) /
                     static_cast<double>(total),
                 0.0, 1.0) *
      kProgressLines);
  if (twentieth == twentieth_) return false;
  twentieth_ = twentieth;
  return true;
}

void JobView::Redraw() {
  if (!status_line_.due()) return;
  line_.losses = losses_.values();
  status_line_.Set(FormatJobLine(line_, session_->console().err_columns(),
                                 session_->utf8_locale()));
}

}  // namespace pot
