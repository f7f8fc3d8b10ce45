#ifndef POT_SERVER_RPC_SCORE_PIPELINE_H_
#define POT_SERVER_RPC_SCORE_PIPELINE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/mutex.h"
#include "server/rpc/call.h"
#include "server/serving/generate_task.h"
#include "server/serving/generation_scheduler.h"

namespace pot {

// Sends the windows of one call to the scheduler, a few at a time, and hands
// their results out in order, whatever order they end in: sums then do not
// depend on what else the server does.
class ScorePipeline : public std::enable_shared_from_this<ScorePipeline> {
 public:
  // Windows of one call in the scheduler: enough to keep a batch busy while
  // the next one is cut, few enough to leave the queue to others.
  static constexpr int kMaxOutstanding = 4;

  enum class Source { kWindow, kNotYet, kEnd };

  struct Hooks {
    // The next window. Any thread, one call at a time, under the pipeline's
    // lock: must not call back.
    std::function<Source(WindowCutter::Window*)> next;
    // In the order of the windows, one call at a time, without a lock.
    std::function<void(ScoreTask::Result)> result;
    // Once, last, without a lock: OK when every window was handed out.
    std::function<void(const absl::Status&)> end;
  };

  // `prototype` has everything but window and done.
  ScorePipeline(GenerationScheduler* scheduler, ScoreTask prototype,
                Hooks hooks);

  // Submits what can be; to be called whenever `next` has more to give. Any
  // thread, but none that holds a lock that `next` takes.
  void Pump();

  // Ends the call with `status` when no window is left in the scheduler. The
  // first error counts.
  void Fail(const absl::Status& status);

 private:
  // One round of Pump(): false when there is nothing more to submit now.
  bool SubmitOne();
  void OnResult(int64_t index, absl::StatusOr<ScoreTask::Result> result);
  void MaybeEnd();

  GenerationScheduler* const scheduler_;
  const ScoreTask prototype_;
  const Hooks hooks_;

  Mutex mutex_;
  bool pumping_ ABSL_GUARDED_BY(mutex_) = false;
  bool pump_again_ ABSL_GUARDED_BY(mutex_) = false;
  bool source_ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  int outstanding_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t next_index_ ABSL_GUARDED_BY(mutex_) = 0;
  // A window that the full queue refused.
  std::optional<WindowCutter::Window> refused_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  // Results that wait for earlier ones. Only the scheduler's thread delivers.
  std::map<int64_t, ScoreTask::Result> early_ ABSL_GUARDED_BY(mutex_);
  int64_t next_result_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace pot

#endif  // POT_SERVER_RPC_SCORE_PIPELINE_H_
