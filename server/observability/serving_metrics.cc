#include "server/observability/serving_metrics.h"

#include <vector>

namespace pot {
namespace {

struct HistogramSeries {
  const char* name;
  const char* help;
  const Histogram ModelMetrics::*histogram;
};
constexpr HistogramSeries kHistograms[] = {
    {"pot_time_to_first_token_seconds",
     "Generate: from the queue to the first token.",
     &ModelMetrics::time_to_first_token},
    {"pot_inter_token_latency_seconds",
     "Between two tokens of a sequence, but for pauses of its reader.",
     &ModelMetrics::inter_token_latency},
    {"pot_queue_time_seconds",
     "From the queue to a task's first step, or to its end in the queue.",
     &ModelMetrics::queue_time},
    {"pot_prefill_time_seconds",
     "From a task's first step to the end of its prompt or window.",
     &ModelMetrics::prefill_time},
    {"pot_decode_time_seconds",
     "Generate: from the end of the prompt to the last token.",
     &ModelMetrics::decode_time},
};

struct CounterSeries {
  const char* name;
  const char* help;
  const std::atomic<uint64_t> ModelMetrics::*counter;
};
constexpr CounterSeries kCounters[] = {
    {"pot_prompt_tokens_total",
     "Prompt and window tokens of tasks whose computation began.",
     &ModelMetrics::prompt_tokens},
    {"pot_cached_prompt_tokens_total",
     "Prompt tokens that were taken from the prefix cache.",
     &ModelMetrics::cached_prompt_tokens},
    {"pot_generated_tokens_total", "Tokens drawn.",
     &ModelMetrics::generated_tokens},
    {"pot_wasted_tokens_total",
     "Generated tokens of calls that ended with an error.",
     &ModelMetrics::wasted_tokens},
};

}  // namespace

void ModelMetrics::CountCall(const std::string& method,
                             const std::string& code) {
  MutexLock lock(&mutex);
  ++calls[{method, code}];
}

std::shared_ptr<ModelMetrics> ServingMetrics::Of(const std::string& model,
                                                 int64_t version) {
  MutexLock lock(&mutex_);
  std::shared_ptr<ModelMetrics>& metrics = models_[{model, version}];
  if (metrics == nullptr) metrics = std::make_shared<ModelMetrics>();
  return metrics;
}

void ServingMetrics::Drop(const std::string& model, int64_t version) {
  MutexLock lock(&mutex_);
  models_.erase({model, version});
}

void ServingMetrics::RecordStep(int64_t decode_sequences, int64_t chunk_tokens,
                                absl::Duration took) {
  if (decode_sequences > 0) {
    decode_sizes_.Observe(static_cast<double>(decode_sequences));
  }
  if (chunk_tokens > 0) {
    prefill_sizes_.Observe(static_cast<double>(chunk_tokens));
  }
  Histogram& steps = chunk_tokens == 0       ? decode_steps_
                     : decode_sequences == 0 ? prefill_steps_
                                             : mixed_steps_;
  steps.Observe(took);
}

void ServingMetrics::Collect(MetricFamilies* families) const {
  std::map<Key, std::shared_ptr<ModelMetrics>> models;
  {
    MutexLock lock(&mutex_);
    models = models_;
  }
  std::vector<std::pair<MetricLabels, const ModelMetrics*>> labelled;
  for (const auto& [key, metrics] : models) {
    labelled.emplace_back(MetricLabels{{"model", key.first},
                                       {"version", std::to_string(key.second)}},
                          metrics.get());
  }
  for (const HistogramSeries& series : kHistograms) {
    MetricFamily family{series.name, series.help, MetricType::kHistogram, {}};
    for (const auto& [labels, metrics] : labelled) {
      family.Add(labels, (metrics->*series.histogram).Read());
    }
    families->push_back(std::move(family));
  }
  for (const CounterSeries& series : kCounters) {
    MetricFamily family{series.name, series.help, MetricType::kCounter, {}};
    for (const auto& [labels, metrics] : labelled) {
      family.Add(labels,
                 static_cast<double>((metrics->*series.counter).load()));
    }
    families->push_back(std::move(family));
  }

  MetricFamily calls{"pot_requests_total",
                     "InferenceService calls that ended.",
                     MetricType::kCounter,
                     {}};
  labelled.emplace_back(MetricLabels{}, without_model_.get());
  for (const auto& [labels, metrics] : labelled) {
    MutexLock lock(&metrics->mutex);
    for (const auto& [key, count] : metrics->calls) {
      MetricLabels all = labels;
      all.emplace_back("method", key.first);
      all.emplace_back("code", key.second);
      calls.Add(std::move(all), static_cast<double>(count));
    }
  }
  families->push_back(std::move(calls));

  MetricFamily stops{"pot_cancel_to_stop_seconds",
                     "From a cancellation, or a deadline, to the call's end.",
                     MetricType::kHistogram,
                     {}};
  stops.Add({}, cancel_to_stop.Read());
  families->push_back(std::move(stops));

  MetricFamily sizes{
      "pot_batch_size",
      "Of each engine step: decode sequences, prefill prompt tokens.",
      MetricType::kHistogram,
      {}};
  sizes.Add({{"phase", "decode"}}, decode_sizes_.Read());
  sizes.Add({{"phase", "prefill"}}, prefill_sizes_.Read());
  families->push_back(std::move(sizes));

  MetricFamily steps{"pot_step_duration_seconds",
                     "Of each engine step, with sampling and delivery.",
                     MetricType::kHistogram,
                     {}};
  steps.Add({{"phase", "decode"}}, decode_steps_.Read());
  steps.Add({{"phase", "prefill"}}, prefill_steps_.Read());
  steps.Add({{"phase", "mixed"}}, mixed_steps_.Read());
  families->push_back(std::move(steps));
}

}  // namespace pot
