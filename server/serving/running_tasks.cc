#include "server/serving/running_tasks.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "server/serving/scheduler_errors.h"
#include "server/serving/step_runner.h"

namespace pot {
namespace {

// What `steps` decode, by model.
std::vector<ChunkPacer::Decoding> DecodingOf(
    const std::vector<RoundPlan::ModelStep>& steps) {
  std::vector<ChunkPacer::Decoding> decoding;
  for (const RoundPlan::ModelStep& step : steps) {
    const int64_t sequences =
        std::count_if(step.items.begin(), step.items.end(),
                      [](const RoundPlan::Item& item) { return item.decode; });
    if (sequences > 0) decoding.push_back({step.model, sequences});
  }
  return decoding;
}

}  // namespace

RunningTasks::RunningTasks(InferenceEngine* engine,
                           const SchedulerOptions* options)
    : engine_(engine),
      options_(*options),
      pacer_(options->prefill_chunk_tokens),
      prefixes_(options->prefix_cache_bytes, engine->kv_budget()) {}

int64_t RunningTasks::sequences() const {
  int64_t sequences = 0;
  for (const auto& task : tasks_) {
    if (!task->ended()) sequences += task->live_sequences();
  }
  return sequences;
}

absl::Time RunningTasks::NearestDeadline() const {
  absl::Time nearest = absl::InfiniteFuture();
  for (const auto& task : tasks_) {
    nearest = std::min(nearest, task->deadline());
  }
  return nearest;
}

bool RunningTasks::HasSlotsFor(const ScheduledTask& task) const {
  return sequences() + task.live_sequences() <= options_.max_running_sequences;
}

absl::Status RunningTasks::CheckFeasible(const ScheduledTask& task,
                                         int64_t tasks_before,
                                         absl::Duration queue_time,
                                         absl::Time now) {
  if (task.deadline() == absl::InfiniteFuture()) return absl::OkStatus();
  // What another task computes of a prompt may be shared by the time.
  const bool alone =
      tasks_before == 0 &&
      std::all_of(tasks_.begin(), tasks_.end(),
                  [](const auto& other) { return other->decoding(); });
  const absl::Duration predicted =
      queue_time + task.LeastTime(predictor_, &prefixes_,
                                  alone || options_.prefix_cache_bytes == 0);
  const absl::Duration left = task.deadline() - now;
  if (predicted <= left) return absl::OkStatus();
  return InfeasibleError(predicted, queue_time, left);
}

absl::Status RunningTasks::Admit(ScheduledTask* task) {
  return task->Admit(engine_, &prefixes_);
}

void RunningTasks::Add(std::unique_ptr<ScheduledTask> task) {
  tasks_.push_back(std::move(task));
}

void RunningTasks::EndAll(const absl::Status& status, absl::Time now) {
  for (const auto& task : tasks_) task->End(status, now);
}

bool RunningTasks::EndDead(absl::Time now) {
  bool ended = false;
  for (const auto& task : tasks_) {
    const absl::Status status = task->CheckAlive(now);
    if (status.ok()) continue;
    task->End(status, now);
    ended = true;
  }
  return ended;
}

bool RunningTasks::RunSteps() {
  RoundPlan plan(
      [&](const LoadedModel* model) {
        return pacer_.ChunkTokens(model, DecodingOf(plan.steps()));
      },
      options_.max_logit_bytes);
  Plan(&plan);
  bool worked = false;
  for (const RoundPlan::ModelStep& step : plan.steps()) {
    if (step.items.empty()) continue;
    RunStep(step);
    worked = true;
  }
  return worked;
}

void RunningTasks::Plan(RoundPlan* plan) {
  parked_sequences_ = 0;
  std::vector<ScheduledTask*> computing;
  for (const auto& task : tasks_) {
    if (!task->ReadyForMore()) {
      parked_sequences_ += task->live_sequences();
    } else if (task->decoding()) {
      task->Plan(plan);
    } else {
      computing.push_back(task.get());
    }
  }
  for (ScheduledTask* task : computing) task->Plan(plan);
}

void RunningTasks::RunStep(const RoundPlan::ModelStep& step) {
  const absl::Time start = options_.now();
  StepReport report;
  report.model = &step.model->identity;
  for (const RoundPlan::Item& item : step.items) {
    if (item.decode) {
      ++report.decode_sequences;
    } else {
      report.chunk_tokens += static_cast<int64_t>(item.span.tokens.size());
    }
  }
  if (!RunModelStep(engine_, step, options_.now)) return;
  report.duration = options_.now() - start;
  pacer_.Record(step.model, report.decode_sequences, report.chunk_tokens,
                report.duration);
  predictor_.RecordStep(step.model, report.decode_sequences,
                        report.chunk_tokens, report.duration);
  if (options_.metrics != nullptr) {
    options_.metrics->RecordStep(report.decode_sequences, report.chunk_tokens,
                                 report.duration);
  }
  if (options_.on_step) options_.on_step(report);
}

std::vector<std::unique_ptr<ScheduledTask>> RunningTasks::TakeEnded() {
  const auto first_ended =
      std::stable_partition(tasks_.begin(), tasks_.end(),
                            [](const auto& task) { return !task->ended(); });
  std::vector<std::unique_ptr<ScheduledTask>> ended(
      std::make_move_iterator(first_ended),
      std::make_move_iterator(tasks_.end()));
  tasks_.erase(first_ended, tasks_.end());
  return ended;
}

}  // namespace pot
