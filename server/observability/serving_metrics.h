// What calls and the scheduler record of models at work.
#ifndef POT_SERVER_OBSERVABILITY_SERVING_METRICS_H_
#define POT_SERVER_OBSERVABILITY_SERVING_METRICS_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "server/observability/histogram.h"
#include "server/observability/metric_family.h"

namespace pot {

// Of one version of a model, or of calls that found none. Thread-safe, without
// a lock but at the end of a call.
struct ModelMetrics {
  // The method and code of an InferenceService call that ended.
  void CountCall(const std::string& method, const std::string& code);

  Histogram time_to_first_token{kCallSeconds};
  Histogram inter_token_latency{kStepSeconds};
  Histogram queue_time{kCallSeconds};
  Histogram prefill_time{kCallSeconds};
  Histogram decode_time{kCallSeconds};
  std::atomic<uint64_t> prompt_tokens = 0;
  std::atomic<uint64_t> cached_prompt_tokens = 0;
  std::atomic<uint64_t> generated_tokens = 0;
  std::atomic<uint64_t> wasted_tokens = 0;

  mutable Mutex mutex;
  // Method and code.
  std::map<std::pair<std::string, std::string>, uint64_t> calls
      ABSL_GUARDED_BY(mutex);
};

// Thread-safe.
class ServingMetrics {
 public:
  // The version's, as long as it is loaded; for whoever pins it. What is
  // recorded after Drop() is not shown.
  std::shared_ptr<ModelMetrics> Of(const std::string& model, int64_t version);
  // Of calls that ended before a version was found.
  const std::shared_ptr<ModelMetrics>& without_model() const {
    return without_model_;
  }
  // The version was unloaded: its series end.
  void Drop(const std::string& model, int64_t version);

  // An engine step for so many sequences and so many prompt or window tokens.
  void RecordStep(int64_t decode_sequences, int64_t chunk_tokens,
                  absl::Duration took);

  // From the moment when nobody waits for a call any more to its end.
  Histogram cancel_to_stop{kStepSeconds};

  void Collect(MetricFamilies* families) const;

 private:
  using Key = std::pair<std::string, int64_t>;

  const std::shared_ptr<ModelMetrics> without_model_ =
      std::make_shared<ModelMetrics>();
  Histogram decode_sizes_{kBatchSizes};
  Histogram prefill_sizes_{kBatchSizes};
  Histogram decode_steps_{kStepSeconds};
  Histogram prefill_steps_{kStepSeconds};
  Histogram mixed_steps_{kStepSeconds};
  mutable Mutex mutex_;
  std::map<Key, std::shared_ptr<ModelMetrics>> models_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pot

#endif  // POT_SERVER_OBSERVABILITY_SERVING_METRICS_H_
