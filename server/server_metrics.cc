#include "server/server_metrics.h"

#include <map>
#include <string>
#include <utility>

#include "server/observability/process_metrics.h"
#include "server/rpc/rpc_methods.h"

namespace pot {
namespace {

void AddGauge(const char* name, const char* help, int64_t value,
              MetricFamilies* families) {
  families->push_back(
      SingleMetric(name, help, MetricType::kGauge, static_cast<double>(value)));
}

void CollectScheduler(const SchedulerStats& stats, MetricFamilies* families) {
  AddGauge("pot_requests_running", "Tasks being computed.", stats.running_tasks,
           families);
  AddGauge("pot_requests_waiting", "Tasks waiting for a slot or KV memory.",
           stats.waiting_tasks, families);
  AddGauge("pot_waiting_tokens", "Prompt tokens of waiting tasks.",
           stats.waiting_tokens, families);
  AddGauge("pot_sequences_running", "Sequences of running tasks.",
           stats.running_sequences, families);
  AddGauge("pot_sequences_parked", "Running sequences with a slow reader.",
           stats.parked_sequences, families);
  AddGauge("pot_prefix_cache_bytes", "KV memory of cached prompts.",
           stats.prefix_cache_bytes, families);
}

void CollectKvMemory(const KvBudget& budget, MetricFamilies* families) {
  const int64_t used = budget.used_bytes();
  const int64_t capacity = budget.capacity_bytes();
  AddGauge("pot_kv_cache_bytes", "KV memory reserved.", used, families);
  AddGauge("pot_kv_cache_capacity_bytes", "KV memory there is.", capacity,
           families);
  families->push_back(SingleMetric(
      "pot_kv_cache_usage_ratio", "KV memory reserved, over what there is.",
      MetricType::kGauge,
      capacity > 0 ? static_cast<double>(used) / static_cast<double>(capacity)
                   : 0));
}

}  // namespace

ServerMetrics::ServerMetrics() : rpc_(AllRpcMethods()) {}

void ServerMetrics::Watch(ModelRepository* repository,
                          const GenerationScheduler* scheduler,
                          const InferenceEngine* engine,
                          TrainingBackend* training, MetricLabels engine_info) {
  scheduler_ = scheduler;
  engine_ = engine;
  training_ = training;
  engine_info_ = std::move(engine_info);
  subscription_ = repository->Watch(
      "", [this](const ModelEvent& event) { versions_.OnEvent(event); });
}

MetricFamilies ServerMetrics::Collect() const {
  MetricFamilies families;
  rpc_.Collect(&families);
  serving_.Collect(&families);
  CollectScheduler(scheduler_->stats(), &families);
  CollectKvMemory(*engine_->kv_budget(), &families);
  MetricFamily info{
      "pot_engine_info", "What computes, and how.", MetricType::kGauge, {}};
  info.Add(engine_info_, 1);
  families.push_back(std::move(info));
  std::map<std::string, double> perplexities;
  if (training_ != nullptr) {
    perplexities = training_->PublishedPerplexities();
    training_->CollectMetrics(&families);
  }
  versions_.Collect(perplexities, &families);
  CollectProcessMetrics(&families);
  return families;
}

}  // namespace pot
