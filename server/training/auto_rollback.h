// Takes an alias back when the version it was moved to fails.
#ifndef POT_SERVER_TRAINING_AUTO_ROLLBACK_H_
#define POT_SERVER_TRAINING_AUTO_ROLLBACK_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "server/serving/model_repository.h"

namespace pot {

// A version that has to prove itself.
struct Probation {
  std::string job_id;
  std::string model;
  std::string alias;
  int64_t version = 0;
  absl::Time end = absl::InfiniteFuture();
  // Of calls that ended in INTERNAL, DATA_LOSS or UNKNOWN, once there were
  // min_calls of all kinds.
  double max_error_ratio = 0.05;
  int64_t min_calls = 20;
};

// How a probation ended.
struct ProbationEnd {
  Probation probation;
  bool rolled_back = false;
  std::string message;  // for people; empty when it was passed
};

// Thread-safe. Counts are in memory: after a restart they begin at 0.
class AutoRollback {
 public:
  // `on_breach` is called, on the thread of the call that was one too many and
  // without a lock, when Decide() has something to do.
  AutoRollback(ModelRepository* repository, std::function<void()> on_breach,
               std::function<absl::Time()> now = &absl::Now)
      : repository_(repository),
        on_breach_(std::move(on_breach)),
        now_(std::move(now)) {}

  // A further probation of the same job and version is ignored, for good.
  void Watch(const Probation& probation);

  // The end of a call that this version answered, or failed to. One non-finite
  // logit (NON_FINITE_LOGITS) is a breach. Cheap while nothing is on probation.
  void OnCallEnd(const std::string& model, int64_t version,
                 const absl::Status& status);

  // Moves the aliases of breached probations back, each once and only while
  // they still name the version, which may load the one before; takes passed
  // probations out. AliasChange.comment: "qat job <id>: " and the reason.
  std::vector<ProbationEnd> Decide();

  int64_t running() const { return running_; }

 private:
  struct State {
    Probation probation;
    int64_t calls = 0;
    int64_t errors = 0;
    std::string breach;  // why; empty: none so far
    bool over = false;
  };

  ProbationEnd RollBack(const Probation& probation, const std::string& breach);

  ModelRepository* const repository_;
  const std::function<void()> on_breach_;
  const std::function<absl::Time()> now_;
  std::atomic<int64_t> running_{0};
  Mutex mutex_;
  std::vector<State> states_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pot

#endif  // POT_SERVER_TRAINING_AUTO_ROLLBACK_H_
