#include "server/training/qat_job_state.h"

#include <utility>

namespace pot {
namespace {

using v1::QatJobState;

constexpr std::pair<QatJobState, QatJobState> kMoves[] = {
    {v1::QAT_JOB_STATE_VALIDATING, v1::QAT_JOB_STATE_QUEUED},
    {v1::QAT_JOB_STATE_VALIDATING, v1::QAT_JOB_STATE_FAILED},
    {v1::QAT_JOB_STATE_VALIDATING, v1::QAT_JOB_STATE_CANCELLED},
    {v1::QAT_JOB_STATE_QUEUED, v1::QAT_JOB_STATE_RUNNING},
    {v1::QAT_JOB_STATE_QUEUED, v1::QAT_JOB_STATE_PAUSED},
    {v1::QAT_JOB_STATE_QUEUED, v1::QAT_JOB_STATE_FAILED},
    {v1::QAT_JOB_STATE_QUEUED, v1::QAT_JOB_STATE_CANCELLED},
    {v1::QAT_JOB_STATE_RUNNING, v1::QAT_JOB_STATE_QUEUED},
    {v1::QAT_JOB_STATE_RUNNING, v1::QAT_JOB_STATE_PAUSED},
    {v1::QAT_JOB_STATE_RUNNING, v1::QAT_JOB_STATE_EVALUATING},
    {v1::QAT_JOB_STATE_RUNNING, v1::QAT_JOB_STATE_FAILED},
    {v1::QAT_JOB_STATE_RUNNING, v1::QAT_JOB_STATE_CANCELLED},
    {v1::QAT_JOB_STATE_PAUSED, v1::QAT_JOB_STATE_QUEUED},
    {v1::QAT_JOB_STATE_PAUSED, v1::QAT_JOB_STATE_FAILED},
    {v1::QAT_JOB_STATE_PAUSED, v1::QAT_JOB_STATE_CANCELLED},
    {v1::QAT_JOB_STATE_EVALUATING, v1::QAT_JOB_STATE_PUBLISHING},
    {v1::QAT_JOB_STATE_EVALUATING, v1::QAT_JOB_STATE_SUCCEEDED},
    {v1::QAT_JOB_STATE_EVALUATING, v1::QAT_JOB_STATE_GATE_REJECTED},
    {v1::QAT_JOB_STATE_EVALUATING, v1::QAT_JOB_STATE_FAILED},
    {v1::QAT_JOB_STATE_EVALUATING, v1::QAT_JOB_STATE_CANCELLED},
    {v1::QAT_JOB_STATE_PUBLISHING, v1::QAT_JOB_STATE_SUCCEEDED},
    {v1::QAT_JOB_STATE_PUBLISHING, v1::QAT_JOB_STATE_FAILED},
    {v1::QAT_JOB_STATE_PUBLISHING, v1::QAT_JOB_STATE_CANCELLED},
};

}  // namespace

bool IsAllowedMove(QatJobState from, QatJobState to) {
  for (const auto& move : kMoves) {
    if (move.first == from && move.second == to) return true;
  }
  return false;
}

bool IsFinalState(QatJobState state) {
  return state == v1::QAT_JOB_STATE_SUCCEEDED ||
         state == v1::QAT_JOB_STATE_GATE_REJECTED ||
         state == v1::QAT_JOB_STATE_FAILED ||
         state == v1::QAT_JOB_STATE_CANCELLED;
}

absl::string_view QatJobStateName(QatJobState state) {
  constexpr absl::string_view kPrefix = "QAT_JOB_STATE_";
  absl::string_view name = v1::QatJobState_Name(state);
  return name.size() > kPrefix.size() ? name.substr(kPrefix.size())
                                      : absl::string_view("UNSPECIFIED");
}

}  // namespace pot
