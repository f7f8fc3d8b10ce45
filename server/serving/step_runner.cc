#include "server/serving/step_runner.h"

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "server/serving/error_details.h"
#include "server/serving/scheduled_task.h"

namespace pot {
namespace {

using Items = std::vector<RoundPlan::Item>;

Items AliveItems(const Items& items, absl::Time now) {
  Items alive;
  for (const RoundPlan::Item& item : items) {
    if (item.task->ended()) continue;
    const absl::Status status = item.task->CheckAlive(now);
    if (status.ok()) {
      alive.push_back(item);
    } else {
      item.task->End(status, now);
    }
  }
  return alive;
}

int64_t LogitRows(const ForwardSpan& span) {
  switch (span.logits) {
    case ForwardSpan::Logits::kNone:
      return 0;
    case ForwardSpan::Logits::kLast:
      return 1;
    case ForwardSpan::Logits::kAll:
      return static_cast<int64_t>(span.tokens.size());
  }
  return 0;
}

// Tasks are checked before they run, so whatever the engine finds wrong with a
// request is a bug, and not the caller's.
absl::Status EngineError(const absl::Status& status) {
  if (absl::IsResourceExhausted(status)) {
    return WithDetails(status, {.reason = "KV_MEMORY"});
  }
  if (absl::IsDataLoss(status)) return status;
  return WithDetails(
      absl::InternalError(absl::StrCat("engine step: ", status.message())),
      {.reason = "INTERNAL"});
}

absl::StatusOr<absl::Span<const float>> Step(
    InferenceEngine* engine, const LoadedModel& model,
    absl::Span<const RoundPlan::Item> items) {
  std::vector<ForwardSpan> spans;
  spans.reserve(items.size());
  for (const RoundPlan::Item& item : items) spans.push_back(item.span);
  return engine->Step(model, spans);
}

void HandOut(InferenceEngine* engine, int64_t vocab_size,
             absl::Span<const RoundPlan::Item> items,
             absl::Span<const float> logits,
             const std::function<absl::Time()>& now) {
  std::vector<absl::Span<const float>> rows;
  size_t offset = 0;
  for (const RoundPlan::Item& item : items) {
    const size_t size = static_cast<size_t>(LogitRows(item.span) * vocab_size);
    rows.push_back(logits.subspan(offset, size));
    offset += size;
  }
  engine->pool()->ParallelFor(items.size(), 1, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      items[i].task->Compute(items[i].lane, rows[i]);
    }
  });
  const absl::Time computed = now();
  for (const RoundPlan::Item& item : items) {
    if (item.task->ended()) continue;
    const absl::Status status = item.task->Deliver(item.lane, computed);
    if (!status.ok() || item.task->complete()) {
      item.task->End(status, computed);
    }
  }
}

}  // namespace

bool RunModelStep(InferenceEngine* engine, const RoundPlan::ModelStep& step,
                  const std::function<absl::Time()>& now) {
  const absl::Time start = now();
  const Items items = AliveItems(step.items, start);
  if (items.empty()) return false;
  for (const RoundPlan::Item& item : items) item.task->MarkStarted(start);

  const int64_t vocab_size = step.model->config().vocab_size;
  const auto logits = Step(engine, *step.model, items);
  if (logits.ok()) {
    HandOut(engine, vocab_size, items, *logits, now);
    return true;
  }
  for (const RoundPlan::Item& item : items) {
    if (item.task->ended()) continue;
    const auto alone = absl::MakeConstSpan(&item, 1);
    const auto rows =
        items.size() == 1 ? logits : Step(engine, *step.model, alone);
    if (rows.ok()) {
      HandOut(engine, vocab_size, alone, *rows, now);
    } else {
      item.task->End(EngineError(rows.status()), now());
    }
  }
  return true;
}

}  // namespace pot
