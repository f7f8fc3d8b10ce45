// Figures of ways to quantize: outliers beside the grid, and what floats cost.
#include <bit>
#include <cmath>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/inference_engine.h"
#include "tests/bench/float_dequantize.h"
#include "tests/bench/generation.h"
#include "tests/bench/sections.h"
#include "tests/bench/timing.h"

namespace pot {
namespace {

constexpr int64_t kKvBytes = int64_t{2} << 30;

// Seconds of `sparse` and `dense`, each called by turns.
using Pair = std::pair<double, double>;

// What `generations` take for steps of all their sequences, after `length`
// positions.
absl::StatusOr<Pair> StepSeconds(Generation* sparse, Generation* dense,
                                 int64_t length, int64_t steps,
                                 int repetitions) {
  absl::Status status;
  const auto run = [&](Generation* generation) {
    generation->Truncate(length);
    status.Update(generation->TimeSteps(steps).status());
  };
  const Pair seconds = PairedMedianSeconds(
      repetitions, [&] { run(sparse); }, [&] { run(dense); });
  POT_RETURN_IF_ERROR(status);
  return seconds;
}

absl::StatusOr<Pair> PromptSeconds(Generation* sparse, Generation* dense,
                                   int64_t tokens, int repetitions) {
  absl::Status status;
  const auto run = [&](Generation* generation) {
    generation->Truncate(0);
    status.Update(generation->Prefill(tokens));
  };
  const Pair seconds = PairedMedianSeconds(
      repetitions, [&] { run(sparse); }, [&] { run(dense); });
  POT_RETURN_IF_ERROR(status);
  return seconds;
}

// Words of random codes, and a scale for each group.
struct Codes {
  explicit Codes(int64_t groups) : words(16 * groups), scales(groups) {
    std::mt19937 random(1);
    for (uint32_t& word : words) word = random();
    for (float& scale : scales) {
      scale = 0.001f + 1e-5f * static_cast<float>(random() % 1000);
    }
  }
  int64_t groups() const { return static_cast<int64_t>(scales.size()); }

  std::vector<uint32_t> words;
  std::vector<float> scales;
};

absl::Status CheckDequantization(const DequantizeKernel& kernel) {
  const Codes codes(64);
  std::vector<float> weights(codes.groups() * kDequantizeGroup);
  kernel.dequantize(codes.words.data(), codes.scales.data(), codes.groups(),
                    weights.data());
  double exact = 0, magnitude = 0;
  std::vector<float> x(weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    const size_t group = i / kDequantizeGroup, at = i % kDequantizeGroup;
    const uint32_t code =
        codes.words[16 * group + at % 16] >> (4 * (at / 16)) & 15;
    const float expected =
        DequantizeCode(kernel.kind, code, codes.scales[group]);
    if (std::bit_cast<uint32_t>(weights[i]) !=
        std::bit_cast<uint32_t>(expected)) {
      return absl::InternalError(absl::StrCat(kernel.isa, " ", kernel.method,
                                              ": weight ", i, " is ",
                                              weights[i], ", not ", expected));
    }
    x[i] = 0.01f * static_cast<float>(i % 201) - 1.0f;
    exact += double{x[i]} * expected;
    magnitude += std::fabs(double{x[i]} * expected);
  }
  const float sum = kernel.dot(codes.words.data(), codes.scales.data(),
                               codes.groups(), x.data());
  // Less than 256 roundings on the way of any product, 2^-24 each.
  if (std::fabs(sum - exact) > 256 * 0x1p-24 * magnitude) {
    return absl::InternalError(absl::StrCat(kernel.isa, " ", kernel.method,
                                            ": sum ", sum, ", not ", exact));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status MeasureOutliers(const BenchOptions& options, int threads,
                             Report* report) {
  constexpr int64_t kSteps = 32, kTokens = 512;
  constexpr int kSequences = 16;
  POT_ASSIGN_OR_RETURN(const KernelTable* kernels,
                       KernelTableFromEnvironment());
  POT_ASSIGN_OR_RETURN(const auto dense_model,
                       LoadBenchModel(options, "gpt2", kernels));
  POT_ASSIGN_OR_RETURN(const auto sparse_model,
                       LoadBenchModel(options, "gpt2-outliers", kernels));
  InferenceEngine engine(threads, kKvBytes);
  const auto start = [&](const auto& model, int count) {
    return Generation::Start(&engine, model.get(), count, 1024);
  };
  POT_ASSIGN_OR_RETURN(Generation dense, start(dense_model, 1));
  POT_ASSIGN_OR_RETURN(Generation sparse, start(sparse_model, 1));
  POT_RETURN_IF_ERROR(dense.Prefill(1));
  POT_RETURN_IF_ERROR(sparse.Prefill(1));
  const auto add = [&](const char* key, std::optional<double> at_least,
                       const Pair& seconds, int64_t tokens) {
    report->Add(
        {key,
         threads,
         seconds.second / seconds.first,
         "",
         at_least,
         {},
         absl::StrFormat("0.1 %% of all weights; %.1f and %.1f tokens/s",
                         tokens / seconds.first, tokens / seconds.second)});
  };
  POT_ASSIGN_OR_RETURN(const Pair steps, StepSeconds(&sparse, &dense, 1, kSteps,
                                                     8 * options.repetitions));
  add("outliers.decode_vs_dense", 0.95, steps, kSteps);
  POT_ASSIGN_OR_RETURN(
      const Pair prompts,
      PromptSeconds(&sparse, &dense, kTokens, 2 * options.repetitions));
  add("outliers.prefill512_vs_dense", {}, prompts, kTokens);
  POT_ASSIGN_OR_RETURN(Generation dense_batch, start(dense_model, kSequences));
  POT_ASSIGN_OR_RETURN(Generation sparse_batch,
                       start(sparse_model, kSequences));
  POT_RETURN_IF_ERROR(dense_batch.Prefill(1));
  POT_RETURN_IF_ERROR(sparse_batch.Prefill(1));
  POT_ASSIGN_OR_RETURN(const Pair batches,
                       StepSeconds(&sparse_batch, &dense_batch, 1, kSteps / 4,
                                   2 * options.repetitions));
  add("outliers.batch16_vs_dense", {}, batches, kSteps / 4 * kSequences);
  return absl::OkStatus();
}

absl::Status MeasureDequantization(const BenchOptions& options, int threads,
                                   Report* report) {
  // One thread says it all: there is no memory to share.
  if (threads != 1) return absl::OkStatus();
  // 1 KB of codes to 8 KB of floats, and 1.1 MB of codes of 3072 x 768 weights.
  constexpr int64_t kGroups = 16, kInputGroups = 6, kOutputs = 3072;
  constexpr int kPasses = 2000;
  const Codes small(kGroups), matrix(kInputGroups * kOutputs);
  std::vector<float> weights(kGroups * kDequantizeGroup);
  std::vector<float> x(kInputGroups * kDequantizeGroup, 0.5f);
  const std::vector<DequantizeKernel> kernels = DequantizeKernels();
  // By turns, round after round; seconds per weight of conversion and product.
  std::map<std::string, std::pair<std::vector<double>, std::vector<double>>>
      seconds;
  double total = 0;
  for (const DequantizeKernel& kernel : kernels) {
    POT_RETURN_IF_ERROR(CheckDequantization(kernel));
  }
  for (int round = 0; round < 20 * options.repetitions; ++round) {
    for (const DequantizeKernel& kernel : kernels) {
      auto& [conversion, product] =
          seconds[absl::StrCat(kernel.isa, " ", kernel.method)];
      const Stopwatch conversion_watch;
      for (int pass = 0; pass < kPasses; ++pass) {
        kernel.dequantize(small.words.data(), small.scales.data(), kGroups,
                          weights.data());
        asm volatile("" ::: "memory");
      }
      conversion.push_back(conversion_watch.Seconds() /
                           (kPasses * kGroups * kDequantizeGroup));
      const Stopwatch product_watch;
      for (int64_t n = 0; n < kOutputs; ++n) {
        total += kernel.dot(
            matrix.words.data() + n * kInputGroups * kDequantizeWords,
            matrix.scales.data() + n * kInputGroups, kInputGroups, x.data());
      }
      product.push_back(product_watch.Seconds() /
                        (kOutputs * kInputGroups * kDequantizeGroup));
    }
  }
  if (!std::isfinite(total)) return absl::InternalError("sum is not finite");
  for (const char* isa : {"avx512", "avx2"}) {
    const auto int4 = seconds.find(absl::StrCat(isa, " int4"));
    if (int4 == seconds.end()) continue;
    for (const char* method : {"pot", "lookup"}) {
      const auto found = seconds.find(absl::StrCat(isa, " ", method));
      if (found == seconds.end()) continue;
      const auto add = [&](const std::string& key, double ours, double theirs) {
        report->Add({key,
                     threads,
                     theirs / ours,
                     "",
                     {},
                     {},
                     absl::StrFormat("%s: %.1f and %.1f G weights/s", isa,
                                     1e-9 / ours, 1e-9 / theirs)});
      };
      add(absl::StrCat("dequant.", method, "_vs_int4_", isa),
          Median(found->second.first), Median(int4->second.first));
      add(absl::StrCat("dequant.", method, "_vs_int4_product_", isa),
          Median(found->second.second), Median(int4->second.second));
    }
  }
  return absl::OkStatus();
}

}  // namespace pot
