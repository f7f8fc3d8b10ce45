// Everything that a server tells Prometheus, in one place.
#ifndef POT_SERVER_SERVER_METRICS_H_
#define POT_SERVER_SERVER_METRICS_H_

#include <memory>

#include "engine/inference_engine.h"
#include "server/observability/metric_family.h"
#include "server/observability/rpc_metrics.h"
#include "server/observability/serving_metrics.h"
#include "server/serving/generation_scheduler.h"
#include "server/serving/model_repository.h"
#include "server/serving/version_metrics.h"
#include "server/training_backend.h"

namespace pot {

// Thread-safe once Watch() was called.
class ServerMetrics {
 public:
  ServerMetrics();

  // Calls and the scheduler record here, without a lock per token.
  RpcMetrics& rpc() { return rpc_; }
  ServingMetrics& serving() { return serving_; }

  // What Collect() asks; all outlive its calls. `training` may be null.
  // `engine_info`: labels of pot_engine_info.
  void Watch(ModelRepository* repository, const GenerationScheduler* scheduler,
             const InferenceEngine* engine, TrainingBackend* training,
             MetricLabels engine_info);

  // Before the repository goes.
  void Unwatch() { subscription_.reset(); }

  MetricFamilies Collect() const;

 private:
  RpcMetrics rpc_;
  ServingMetrics serving_;
  VersionMetrics versions_{&serving_};
  const GenerationScheduler* scheduler_ = nullptr;
  const InferenceEngine* engine_ = nullptr;
  TrainingBackend* training_ = nullptr;
  MetricLabels engine_info_;
  std::shared_ptr<ModelRepository::Subscription> subscription_;
};

}  // namespace pot

#endif  // POT_SERVER_SERVER_METRICS_H_
