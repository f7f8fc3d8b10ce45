#include "server/serving/scheduled_score.h"

#include <algorithm>
#include <utility>

#include "engine/base/status_macros.h"
#include "server/serving/task_checks.h"

namespace pot {

ScheduledScore::ScheduledScore(std::unique_ptr<ScoreTask> task,
                               absl::Time submitted,
                               std::shared_ptr<ModelMetrics> metrics)
    : ScheduledTask(submitted, task->deadline, task->cancelled,
                    std::move(metrics)),
      task_(std::move(task)) {}

int64_t ScheduledScore::kv_bytes() const {
  int64_t bytes = KvCache::BytesFor(task_->model->config(),
                                    task_->model->kv_type, inputs());
  if (has_second_lane()) {
    bytes += KvCache::BytesFor(task_->reference->config(),
                               task_->reference->kv_type, inputs());
  }
  return bytes;
}

absl::Status ScheduledScore::Admit(InferenceEngine* engine,
                                   PrefixCache* prefixes) {
  // Without success there is an error below, or another gave memory back.
  static_cast<void>(prefixes->MakeRoom(kv_bytes()));
  POT_ASSIGN_OR_RETURN(auto model_cache,
                       engine->CreateCache(*task_->model, inputs()));
  if (has_second_lane()) {
    POT_ASSIGN_OR_RETURN(caches_[1],
                         engine->CreateCache(*task_->reference, inputs()));
  }
  caches_[0] = std::move(model_cache);
  return absl::OkStatus();
}

absl::Duration ScheduledScore::LeastTime(const CompletionPredictor& predictor,
                                         PrefixCache* /*prefixes*/,
                                         bool /*with_prompt*/) const {
  return predictor.ComputeTime(task_->model.get(), inputs(), 0);
}

void ScheduledScore::Plan(RoundPlan* plan) {
  // A chunk is all counted or all not: only counted ones need logits.
  const int64_t first_counted = task_->window.first_counted;
  const bool counted = computed_ >= first_counted;
  chunk_ = std::min((counted ? inputs() : first_counted) - computed_,
                    plan->ChunkLimit(task_->model.get(), counted));
  if (has_second_lane()) {
    chunk_ =
        std::min(chunk_, plan->ChunkLimit(task_->reference.get(), counted));
  }
  if (chunk_ == 0) return;
  lanes_computed_ = 0;
  AddChunk(plan, 0, counted);
  if (has_second_lane()) AddChunk(plan, 1, counted);
}

void ScheduledScore::AddChunk(RoundPlan* plan, int lane, bool counted) {
  const LoadedModel* model =
      lane == 0 ? task_->model.get() : task_->reference.get();
  plan->AddChunk(
      model, this, lane,
      {.cache = caches_[lane].get(),
       .tokens =
           absl::MakeConstSpan(task_->window.tokens).subspan(computed_, chunk_),
       .logits =
           counted ? ForwardSpan::Logits::kAll : ForwardSpan::Logits::kNone});
}

void ScheduledScore::Compute(int lane, absl::Span<const float> logits) {
  ++lanes_computed_;
  if (logits.empty() || !chunk_status_.ok()) return;
  chunk_status_ = CheckFinite(logits);
  if (!chunk_status_.ok()) return;
  if (!has_second_lane()) {
    Count(logits,
          task_->reference == nullptr ? absl::Span<const float>() : logits);
  } else if (lanes_computed_ == 1) {
    kept_rows_.assign(logits.begin(), logits.end());
  } else if (lane == 1) {
    Count(kept_rows_, logits);
  } else {
    Count(logits, kept_rows_);
  }
}

void ScheduledScore::Count(absl::Span<const float> logits,
                           absl::Span<const float> reference) {
  const int64_t vocab_size = task_->model->config().vocab_size;
  for (int64_t i = 0; i < chunk_; ++i) {
    const int32_t target = task_->window.tokens[computed_ + i + 1];
    const auto row = logits.subspan(i * vocab_size, vocab_size);
    AddPrediction(target, row,
                  reference.empty()
                      ? reference
                      : reference.subspan(i * vocab_size, vocab_size),
                  static_cast<int64_t>(
                      task_->model->tokenizer->TokenBytes(target).size()),
                  &result_.sums);
    if (task_->want_tokens) {
      result_.tokens.push_back(LogprobOf(row, target, task_->alternatives));
    }
  }
}

absl::Status ScheduledScore::Deliver(int /*lane*/, absl::Time now) {
  POT_RETURN_IF_ERROR(chunk_status_);
  if (lanes_computed_ < (has_second_lane() ? 2 : 1)) return absl::OkStatus();
  computed_ += chunk_;
  chunk_ = 0;
  if (complete()) MarkPrefilled(now);
  return absl::OkStatus();
}

void ScheduledScore::OnEnd(const absl::Status& status,
                           const TaskTimings& timings) {
  caches_[0].reset();
  caches_[1].reset();
  if (!status.ok()) {
    task_->done(status);
    return;
  }
  result_.timings = timings;
  task_->done(std::move(result_));
}

}  // namespace pot
