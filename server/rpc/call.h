// What every call has, whatever it asks for.
#ifndef POT_SERVER_RPC_CALL_H_
#define POT_SERVER_RPC_CALL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "engine/loaded_model.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"
#include "server/observability/log.h"
#include "server/observability/rpc_metrics.h"
#include "server/observability/serving_metrics.h"
#include "server/security/access_control.h"
#include "server/serving/generate_task.h"
#include "server/serving/generation_scheduler.h"
#include "server/serving/model_repository.h"

namespace pot {

// Counts running calls and refuses new ones while the server drains.
class CallTracker {
 public:
  // UNAVAILABLE (DRAINING) after BeginDrain().
  absl::Status Enter();
  void Leave();

  void BeginDrain();
  // Waits until no call is running; false when `deadline` came first.
  bool WaitUntilIdle(absl::Time deadline);

  int64_t running() const;

  // Who may call what, from now on; null, as in the beginning: everybody
  // everything. Before the first call; it outlives the last.
  void SetAccess(AccessControl* access) { access_ = access; }
  AccessControl* access() const { return access_; }

  // How long a stream's client may send nothing; 0: for ever. Before the first
  // call.
  void SetReadTimeout(absl::Duration limit) { read_timeout_ = limit; }
  absl::Duration read_timeout() const { return read_timeout_; }

  // Where calls are counted; null, as in the beginning: nowhere. Before the
  // first call; they outlive the last.
  void SetMetrics(RpcMetrics* rpc, ServingMetrics* serving) {
    rpc_metrics_ = rpc;
    serving_metrics_ = serving;
  }
  RpcMetrics* rpc_metrics() const { return rpc_metrics_; }
  ServingMetrics* serving_metrics() const { return serving_metrics_; }

  // Told of the end of every call that a version was to answer, on any thread,
  // one at a time; must not block. Once another one is set, or none, the one
  // before is not being called any more.
  using OutcomeObserver = std::function<void(
      const std::string& model, int64_t version, const absl::Status& status)>;
  void SetOutcomeObserver(OutcomeObserver observer) {
    MutexLock lock(&observer_mutex_);
    outcome_observer_ = std::move(observer);
  }
  void ReportOutcome(const std::string& model, int64_t version,
                     const absl::Status& status) const {
    MutexLock lock(&observer_mutex_);
    if (outcome_observer_ != nullptr) {
      outcome_observer_(model, version, status);
    }
  }

 private:
  AccessControl* access_ = nullptr;
  absl::Duration read_timeout_;
  RpcMetrics* rpc_metrics_ = nullptr;
  ServingMetrics* serving_metrics_ = nullptr;
  mutable Mutex mutex_;
  CondVar idle_;
  int64_t running_ ABSL_GUARDED_BY(mutex_) = 0;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  mutable Mutex observer_mutex_;
  OutcomeObserver outcome_observer_ ABSL_GUARDED_BY(observer_mutex_);
};

// What the services work with. All outlive the gRPC server.
struct ServiceContext {
  ModelRepository* repository = nullptr;
  GenerationScheduler* scheduler = nullptr;
  CallTracker* calls = nullptr;
  // ModelIdentity.engine of quantized models: "pot/0.1.0 avx2 affine".
  std::string engine;
  // How long a stream's client may take for one message; 0: for ever.
  absl::Duration write_timeout;
  // Prompts are part of the calls' lines in the log.
  bool log_prompts = false;
};

// How long a client waits, in the scheduler's terms. Copies are the same.
class Patience {
 public:
  // `scheduler` outlives the call.
  Patience(GenerationScheduler* scheduler,
           const grpc::CallbackServerContext& rpc);

  // From the reactor's OnCancel, which gRPC also calls when the deadline
  // passes: the scheduler tells the two apart.
  void OnCancel();

  // InfiniteFuture when the client set none.
  absl::Time deadline() const { return deadline_; }
  const std::shared_ptr<std::atomic<bool>>& cancelled() const {
    return cancelled_;
  }
  // When OnCancel() was called, or else the deadline passed; InfiniteFuture
  // before.
  absl::Time given_up() const;

 private:
  GenerationScheduler* const scheduler_;
  const absl::Time deadline_;
  const std::shared_ptr<std::atomic<bool>> cancelled_;
  // Since the epoch; 0: not yet.
  const std::shared_ptr<std::atomic<int64_t>> given_up_nanos_;
};

// One call, from its beginning to its line in the log.
class Call {
 public:
  // `method` as the log shows it: its name without its service's. `rpc` is
  // used until Enter() returns.
  Call(CallTracker* calls, absl::string_view method,
       const grpc::CallbackServerContext& rpc);
  // Ends it as CANCELLED if nobody did.
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // First, before anything of the request is looked at: may this caller do
  // this, and does the server take new calls? After an error only End() may
  // follow.
  absl::Status Enter();
  // The same for a call that waits for news and holds up no server that
  // drains.
  absl::Status EnterWatch();

  void SetRequestId(const std::string& request_id);
  // For the log, which cuts it.
  void SetPrompt(const std::string& prompt);
  // Of a call that the scheduler works on.
  void SetPatience(const Patience& patience) { patience_.emplace(patience); }
  // While the model is pinned.
  void SetModel(const LoadedModel& model);
  void SetUsage(const TaskUsage& usage, const TaskTimings& timings);

  // Since the call began.
  absl::Duration elapsed() const { return absl::Now() - start_; }

  // Logs the call, counts it as over, also in metrics, and gives the status to
  // finish with. Once.
  grpc::Status End(const absl::Status& status);

 private:
  absl::Status Admit();
  void CountOutcome(const absl::Status& status);

  CallTracker* const calls_;
  const grpc::CallbackServerContext& rpc_;
  const absl::Time start_;
  std::unique_ptr<Admission> admission_;  // null: none is needed
  bool entered_ = false;
  bool ended_ = false;
  RpcMetrics::Method* const metrics_;  // null: nobody counts
  std::shared_ptr<ModelMetrics> model_metrics_;
  std::optional<Patience> patience_;
  RequestRecord record_;
};

}  // namespace pot

#endif  // POT_SERVER_RPC_CALL_H_
