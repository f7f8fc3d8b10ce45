#include "server/rpc/score_pipeline.h"

#include <utility>

namespace pot {

ScorePipeline::ScorePipeline(GenerationScheduler* scheduler,
                             ScoreTask prototype, Hooks hooks)
    : scheduler_(scheduler),
      prototype_(std::move(prototype)),
      hooks_(std::move(hooks)) {}

void ScorePipeline::Pump() {
  {
    MutexLock lock(&mutex_);
    pump_again_ = true;
    if (pumping_) return;
    pumping_ = true;
  }
  for (;;) {
    {
      MutexLock lock(&mutex_);
      if (!std::exchange(pump_again_, false)) {
        pumping_ = false;
        break;
      }
    }
    while (SubmitOne()) {
    }
  }
  MaybeEnd();
}

bool ScorePipeline::SubmitOne() {
  auto task = std::make_unique<ScoreTask>(prototype_);
  WindowCutter::Window window;
  int64_t index = 0;
  {
    MutexLock lock(&mutex_);
    if (!status_.ok() || source_ended_ || outstanding_ >= kMaxOutstanding) {
      return false;
    }
    if (refused_.has_value()) {
      window = *std::exchange(refused_, std::nullopt);
    } else {
      switch (hooks_.next(&window)) {
        case Source::kWindow:
          break;
        case Source::kNotYet:
          return false;
        case Source::kEnd:
          source_ended_ = true;
          return false;
      }
    }
    ++outstanding_;
    index = next_index_++;
  }
  task->window = window;
  task->done = [self = shared_from_this(),
                index](absl::StatusOr<ScoreTask::Result> result) {
    self->OnResult(index, std::move(result));
  };
  const absl::Status status = scheduler_->Submit(std::move(task));
  if (status.ok()) return true;

  MutexLock lock(&mutex_);
  --outstanding_;
  // One of ours that ends makes room and pumps again.
  if (absl::IsResourceExhausted(status) && outstanding_ > 0) {
    --next_index_;
    refused_ = std::move(window);
  } else if (status_.ok()) {
    status_ = status;
    prototype_.cancelled->store(true);
  }
  return false;
}

void ScorePipeline::OnResult(int64_t index,
                             absl::StatusOr<ScoreTask::Result> result) {
  if (result.ok()) {
    {
      MutexLock lock(&mutex_);
      early_.emplace(index, *std::move(result));
    }
    for (;;) {
      ScoreTask::Result ready;
      {
        MutexLock lock(&mutex_);
        const auto first = early_.find(next_result_);
        if (first == early_.end() || !status_.ok()) break;
        ready = std::move(first->second);
        early_.erase(first);
        ++next_result_;
      }
      hooks_.result(std::move(ready));
    }
  } else {
    Fail(result.status());
  }
  {
    MutexLock lock(&mutex_);
    --outstanding_;
  }
  Pump();
}

void ScorePipeline::Fail(const absl::Status& status) {
  {
    MutexLock lock(&mutex_);
    if (!status_.ok()) return;
    status_ = status;
  }
  prototype_.cancelled->store(true);
  scheduler_->Wake();
  Pump();
}

void ScorePipeline::MaybeEnd() {
  absl::Status status;
  {
    MutexLock lock(&mutex_);
    if (ended_ || pumping_ || outstanding_ > 0 ||
        (status_.ok() && !source_ended_)) {
      return;
    }
    ended_ = true;
    status = status_;
  }
  hooks_.end(status);
}

}  // namespace pot
