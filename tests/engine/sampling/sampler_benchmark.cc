// Time per token of Sampler::Sample over GPT-2's vocabulary (50 257 logits,
// one thread). The floor is LogSumExp alone, which every token needs for its
// log-probability.
#include <cstdint>
#include <random>
#include <vector>

#include "benchmark/benchmark.h"
#include "engine/kernels/float_math.h"
#include "engine/sampling/sampler.h"

namespace pot {
namespace {

constexpr int kVocabSize = 50257;

std::vector<float> Logits() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(-40.0f, 3.0f);
  std::vector<float> logits(kVocabSize);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

void BM_LogSumExpFloor(benchmark::State& state) {
  const std::vector<float> logits = Logits();
  for (auto _ : state) {
    benchmark::DoNotOptimize(LogSumExp(logits.data(), kVocabSize));
  }
}
BENCHMARK(BM_LogSumExpFloor)->Unit(benchmark::kMicrosecond);

void BM_Sample(benchmark::State& state, const SamplingParams& params,
               int num_top) {
  const std::vector<float> logits = Logits();
  Sampler sampler(params, kVocabSize, 0);
  int64_t position = 0;
  for (auto _ : state) {
    auto token = sampler.Sample(logits, position++, num_top, {});
    benchmark::DoNotOptimize(token);
  }
}

void Register(const char* name, const SamplingParams& params, int num_top = 0) {
  benchmark::RegisterBenchmark(name, BM_Sample, params, num_top)
      ->Unit(benchmark::kMicrosecond);
}

}  // namespace
}  // namespace pot

int main(int argc, char** argv) {
  pot::SamplingParams greedy;
  greedy.temperature = 0.0f;
  pot::Register("greedy", greedy);
  pot::Register("greedy/top 20 logprobs", greedy, 20);
  greedy.repetition_penalty = 1.1f;
  pot::Register("greedy/repetition penalty", greedy);
  pot::SamplingParams plain, top_k, top_p, typical, min_p, usual;
  pot::Register("temperature 1", plain);
  top_k.top_k = 40;
  pot::Register("top_k 40", top_k);
  top_k.top_k = 20000;
  pot::Register("top_k 20000", top_k);
  top_p.top_p = 0.9f;
  pot::Register("top_p 0.9", top_p);
  typical.typical_p = 0.9f;
  pot::Register("typical_p 0.9", typical);
  min_p.min_p = 0.05f;
  pot::Register("min_p 0.05", min_p);
  usual.temperature = 0.8f;
  usual.top_k = 40;
  usual.top_p = 0.9f;
  pot::Register("temperature 0.8, top_k 40, top_p 0.9", usual);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
