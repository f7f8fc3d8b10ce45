#include "server/serving/scheduled_generation.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <numeric>
#include <utility>

#include "engine/base/status_macros.h"
#include "server/serving/task_checks.h"

namespace pot {
namespace {

constexpr int64_t kBlock = KvCache::kBlockPositions;

}  // namespace

ScheduledGeneration::ScheduledGeneration(std::unique_ptr<GenerateTask> task,
                                         absl::Time submitted,
                                         std::shared_ptr<ModelMetrics> metrics,
                                         LatencyHistogram* latencies)
    : ScheduledTask(submitted, task->deadline, task->cancelled,
                    std::move(metrics)),
      task_(std::move(task)),
      rules_(*task_),
      live_sequences_(task_->best_of),
      latencies_(latencies) {}

int64_t ScheduledGeneration::prompt_size() const {
  return static_cast<int64_t>(task_->prompt.size());
}

int64_t ScheduledGeneration::positions() const {
  return prompt_size() + rules_.max_new_tokens() - 1;
}

int64_t ScheduledGeneration::queued_tokens() const { return prompt_size(); }

int64_t ScheduledGeneration::kv_bytes() const {
  const auto bytes = [this](int64_t positions) {
    return KvCache::BytesFor(task_->model->config(), task_->model->kv_type,
                             positions);
  };
  const int64_t shared = prompt_size() / kBlock * kBlock;
  return bytes(positions()) +
         (task_->best_of - 1) * bytes(positions() - shared);
}

absl::Status ScheduledGeneration::Admit(InferenceEngine* engine,
                                        PrefixCache* prefixes) {
  prefixes_ = prefixes;
  const PrefixCache::Blocks cached = FindCached(prefixes);
  int64_t bytes = kv_bytes();
  for (const auto& block : cached) bytes -= block->bytes();
  // Without success there is an error below, or another gave memory back.
  static_cast<void>(prefixes->MakeRoom(bytes));
  std::vector<std::unique_ptr<KvCache>> caches;
  for (int i = 0; i < task_->best_of; ++i) {
    const int64_t shared =
        i == 0 ? static_cast<int64_t>(cached.size()) : prompt_size() / kBlock;
    POT_ASSIGN_OR_RETURN(
        caches.emplace_back(),
        engine->CreateCache(*task_->model, positions(), shared));
  }
  POT_RETURN_IF_ERROR(TakeCached(cached, caches[0].get()));
  for (int i = 0; i < task_->best_of; ++i) {
    sequences_.push_back(
        std::make_unique<GenerationSequence>(&rules_, i, std::move(caches[i])));
  }
  if (task_->n < task_->best_of) withheld_.resize(task_->best_of);
  return absl::OkStatus();
}

absl::Duration ScheduledGeneration::LeastTime(
    const CompletionPredictor& predictor, PrefixCache* prefixes,
    bool with_prompt) const {
  int64_t prompt = 0;
  if (with_prompt) {
    prompt = prompt_size() -
             static_cast<int64_t>(FindCached(prefixes).size()) * kBlock;
  }
  return predictor.ComputeTime(task_->model.get(), prompt,
                               rules_.least_new_tokens() - 1);
}

PrefixCache::Blocks ScheduledGeneration::FindCached(
    PrefixCache* prefixes) const {
  if (task_->prompt_logprobs.has_value()) return {};
  return prefixes->Find(
      task_->model,
      absl::MakeConstSpan(task_->prompt).first(task_->prompt.size() - 1));
}

absl::Status ScheduledGeneration::TakeCached(const PrefixCache::Blocks& blocks,
                                             KvCache* cache) {
  const int64_t cached = static_cast<int64_t>(blocks.size()) * kBlock;
  if (cached <= prompt_computed_) return absl::OkStatus();
  POT_RETURN_IF_ERROR(cache->Adopt(blocks));
  prompt_cached_ += cached - prompt_computed_;
  prompt_computed_ = cached;
  return absl::OkStatus();
}

bool ScheduledGeneration::ReadyForMore() const {
  if (task_->sink->ReadyForMore()) return true;
  latest_tokens_ = absl::InfinitePast();
  return false;
}

void ScheduledGeneration::Plan(RoundPlan* plan) {
  if (!prefilled()) return PlanPrompt(plan);
  for (size_t i = 0; i < sequences_.size(); ++i) {
    GenerationSequence& sequence = *sequences_[i];
    if (sequence.finished()) continue;
    plan->AddDecode(task_->model.get(), this, static_cast<int>(i),
                    {.cache = sequence.cache(),
                     .tokens = absl::MakeConstSpan(&sequence.last_token(), 1),
                     .logits = ForwardSpan::Logits::kLast});
  }
}

void ScheduledGeneration::PlanPrompt(RoundPlan* plan) {
  // Another task may have computed more of it since. Without the memory to take
  // it over, this one computes on.
  static_cast<void>(TakeCached(FindCached(prefixes_), sequences_[0]->cache()));
  const bool all_logits = task_->prompt_logprobs.has_value();
  const int64_t left = prompt_size() - prompt_computed_;
  chunk_ = std::min(left, plan->ChunkLimit(task_->model.get(), all_logits));
  if (chunk_ == 0) return;
  ForwardSpan::Logits logits = ForwardSpan::Logits::kNone;
  if (all_logits) {
    logits = ForwardSpan::Logits::kAll;
  } else if (chunk_ == left) {
    logits = ForwardSpan::Logits::kLast;
  }
  plan->AddChunk(
      task_->model.get(), this, /*lane=*/0,
      {.cache = sequences_[0]->cache(),
       .tokens =
           absl::MakeConstSpan(task_->prompt).subspan(prompt_computed_, chunk_),
       .logits = logits});
}

void ScheduledGeneration::Compute(int lane, absl::Span<const float> logits) {
  if (!prefilled()) return ComputePrompt(logits);
  sequences_[lane]->Draw(logits);
}

void ScheduledGeneration::ComputePrompt(absl::Span<const float> logits) {
  const int64_t vocab_size = task_->model->config().vocab_size;
  if (task_->prompt_logprobs.has_value()) {
    prompt_status_ = CheckFinite(logits);
    if (!prompt_status_.ok()) return;
    for (int64_t i = 0; i < chunk_; ++i) {
      const int64_t target = prompt_computed_ + i + 1;
      if (target == prompt_size()) break;
      prompt_logprobs_.push_back(
          LogprobOf(logits.subspan(i * vocab_size, vocab_size),
                    task_->prompt[target], *task_->prompt_logprobs));
    }
  }
  if (prompt_computed_ + chunk_ < prompt_size()) return;
  for (const auto& sequence : sequences_) {
    sequence->Draw(logits.last(vocab_size));
  }
}

absl::Status ScheduledGeneration::Deliver(int lane, absl::Time now) {
  if (prefilled()) return DeliverToken(sequences_[lane].get(), now);
  POT_RETURN_IF_ERROR(prompt_status_);
  prompt_computed_ += chunk_;
  chunk_ = 0;
  return prefilled() ? DeliverPrompt(now) : absl::OkStatus();
}

absl::Status ScheduledGeneration::DeliverPrompt(absl::Time now) {
  MarkPrefilled(now);
  prefixes_->Insert(task_->model, task_->prompt, sequences_[0]->cache());
  // Before the first token of any sequence can free the cache of the prompt.
  for (size_t i = 1; i < sequences_.size(); ++i) {
    POT_RETURN_IF_ERROR(sequences_[i]->cache()->CopyFrom(
        *sequences_[0]->cache(), prompt_size()));
  }
  if (task_->prompt_logprobs.has_value()) {
    task_->sink->OnPrompt(std::move(prompt_logprobs_));
  }
  for (const auto& sequence : sequences_) {
    POT_RETURN_IF_ERROR(DeliverToken(sequence.get(), now));
  }
  return absl::OkStatus();
}

absl::Status ScheduledGeneration::DeliverToken(GenerationSequence* sequence,
                                               absl::Time now) {
  POT_ASSIGN_OR_RETURN(TokenEvent event, sequence->Take());
  MarkToken(now);
  metrics()->generated_tokens.fetch_add(1, std::memory_order_relaxed);
  RecordLatency(now);
  if (sequence->finished()) {
    sequence->ReleaseCache();
    --live_sequences_;
  }
  Emit(std::move(event));
  return absl::OkStatus();
}

void ScheduledGeneration::RecordLatency(absl::Time now) {
  if (now != latest_tokens_) {
    previous_tokens_ = latest_tokens_;
    latest_tokens_ = now;
  }
  if (previous_tokens_ == absl::InfinitePast()) return;
  const absl::Duration latency = now - previous_tokens_;
  metrics()->inter_token_latency.Observe(latency);
  if (latencies_ != nullptr) latencies_->Record(latency);
}

void ScheduledGeneration::Emit(TokenEvent event) {
  if (withheld_.empty()) {
    task_->sink->OnToken(std::move(event));
    return;
  }
  TokenEvent& all = withheld_[event.index];
  all.text += event.text;
  all.ids.insert(all.ids.end(), event.ids.begin(), event.ids.end());
  std::move(event.logprobs.begin(), event.logprobs.end(),
            std::back_inserter(all.logprobs));
  all.logits_checksums.insert(all.logits_checksums.end(),
                              event.logits_checksums.begin(),
                              event.logits_checksums.end());
  all.finish = event.finish;
  all.stop_string = event.stop_string;
  all.stop_token_id = event.stop_token_id;
  all.cumulative_logprob = event.cumulative_logprob;
  if (live_sequences_ == 0) EmitRanked();
}

void ScheduledGeneration::EmitRanked() {
  const auto mean = [this](int i) {
    return withheld_[i].cumulative_logprob /
           static_cast<double>(withheld_[i].ids.size());
  };
  std::vector<int> order(withheld_.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return mean(a) > mean(b); });
  for (int rank = 0; rank < task_->n; ++rank) {
    TokenEvent& event = withheld_[order[rank]];
    event.index = rank;
    task_->sink->OnToken(std::move(event));
  }
}

bool ScheduledGeneration::complete() const { return live_sequences_ == 0; }

void ScheduledGeneration::OnEnd(const absl::Status& status,
                                const TaskTimings& timings) {
  TaskUsage usage;
  usage.prompt_tokens = prompt_size();
  usage.cached_prompt_tokens = prompt_cached_;
  for (const auto& sequence : sequences_) {
    usage.generated_tokens += sequence->generated();
    sequence->ReleaseCache();
  }
  metrics()->cached_prompt_tokens.fetch_add(
      static_cast<uint64_t>(usage.cached_prompt_tokens),
      std::memory_order_relaxed);
  if (!status.ok()) {
    metrics()->wasted_tokens.fetch_add(
        static_cast<uint64_t>(usage.generated_tokens),
        std::memory_order_relaxed);
  }
  task_->sink->OnDone(status, usage, timings);
}

}  // namespace pot
