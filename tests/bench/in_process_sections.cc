#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/inference_engine.h"
#include "engine/kernels/huge_page_buffer.h"
#include "tests/bench/generation.h"
#include "tests/bench/onednn_matmul.h"
#include "tests/bench/sections.h"
#include "tests/bench/timing.h"

namespace pot {
namespace {

constexpr int64_t kKvBytes = int64_t{2} << 30;

using Model = std::shared_ptr<const LoadedModel>;

absl::StatusOr<Model> LoadFastest(const BenchOptions& options,
                                  const std::string& name) {
  POT_ASSIGN_OR_RETURN(const KernelTable* kernels,
                       KernelTableFromEnvironment());
  return LoadBenchModel(options, name, kernels);
}

std::vector<const Linear*> LayerMatrices(const LoadedModel& model) {
  std::vector<const Linear*> matrices;
  for (const LayerWeights& layer : model.weights->layers) {
    for (const auto* linear : {&layer.attn_c_attn, &layer.attn_c_proj,
                               &layer.mlp_c_fc, &layer.mlp_c_proj}) {
      matrices.push_back(linear->get());
    }
  }
  return matrices;
}

// The matrices times rows of the same made-up activations.
class Products {
 public:
  Products(std::vector<const Linear*> matrices, int64_t rows, ThreadPool* pool)
      : matrices_(std::move(matrices)), rows_(rows), pool_(pool) {
    int64_t inputs = 0, outputs = 0;
    for (const Linear* matrix : matrices_) {
      inputs = std::max(inputs, matrix->inputs());
      outputs = std::max(outputs, matrix->outputs());
    }
    x_.resize(rows * inputs);
    y_.resize(rows * outputs);
    for (size_t i = 0; i < x_.size(); ++i) {
      x_[i] = 0.01f * static_cast<float>(i % 201) - 1.0f;
    }
  }

  void Run() {
    for (const Linear* matrix : matrices_) {
      status_.Update(matrix->Forward(x_.data(), rows_, y_.data(), pool_));
    }
  }

  const absl::Status& status() const { return status_; }

 private:
  const std::vector<const Linear*> matrices_;
  const int64_t rows_;
  ThreadPool* const pool_;
  std::vector<float> x_, y_;
  absl::Status status_;
};

uint64_t ReadAll(const uint64_t* words, int64_t count) {
  // Several sums, so that additions never wait for each other.
  uint64_t sums[8] = {};
  for (int64_t i = 0; i + 8 <= count; i += 8) {
    __builtin_prefetch(words + i + 1024);
    for (int j = 0; j < 8; ++j) sums[j] += words[i + j];
  }
  return std::accumulate(sums, sums + 8, uint64_t{0});
}

double Total(const std::vector<double>& seconds) {
  return std::accumulate(seconds.begin(), seconds.end(), 0.0);
}

// A generation, and the length from which its steps are timed.
struct TimedGeneration {
  Generation* generation;
  int64_t length;
};

// Median seconds of a step of either; they take turns, `steps` at a time.
absl::StatusOr<std::pair<double, double>> PairedStepSeconds(
    TimedGeneration first, TimedGeneration second, int64_t steps,
    int repetitions) {
  absl::Status status;
  const auto run = [&](const TimedGeneration& timed) {
    timed.generation->Truncate(timed.length);
    status.Update(timed.generation->TimeSteps(steps).status());
  };
  const auto [first_seconds, second_seconds] = PairedMedianSeconds(
      repetitions, [&] { run(first); }, [&] { run(second); });
  POT_RETURN_IF_ERROR(status);
  return std::make_pair(first_seconds / steps, second_seconds / steps);
}

}  // namespace

absl::Status MeasureGemv(const BenchOptions& options, int threads,
                         Report* report) {
  POT_ASSIGN_OR_RETURN(const Model model, LoadFastest(options, "gpt2"));
  std::vector<const Linear*> matrices = LayerMatrices(*model);
  matrices.push_back(model->weights->head.get());
  ThreadPool pool(threads);
  Products products(matrices, 1, &pool);

  // As many bytes as the matrices hold, codes and scales and sums, in as many
  // parts, on pages of the same kind.
  std::vector<HugePageBuffer<uint64_t>> bytes;
  for (const Linear* matrix : matrices) {
    bytes.emplace_back(matrix->resident_bytes() / 8);
    std::fill_n(bytes.back().data(), bytes.back().size(), 1);
  }
  volatile uint64_t sink = 0;
  const auto floor = [&] {
    for (const HugePageBuffer<uint64_t>& part : bytes) {
      pool.ParallelFor(part.size(), 512, [&](size_t begin, size_t end) {
        sink = ReadAll(part.data() + begin, end - begin);
      });
    }
  };
  const auto [floor_seconds, seconds] = PairedMedianSeconds(
      20 * options.repetitions, floor, [&] { products.Run(); });
  POT_RETURN_IF_ERROR(products.status());
  report->Add({"gemv.fraction_of_floor",
               threads,
               floor_seconds / seconds,
               "",
               0.90,
               {},
               absl::StrFormat("%.2f ms; reading alone %.2f ms", seconds * 1e3,
                               floor_seconds * 1e3)});
  return absl::OkStatus();
}

absl::Status MeasureDecode(const BenchOptions& options, int threads,
                           Report* report) {
  constexpr int64_t kTokens = 128, kShiftTokens = 8;
  POT_ASSIGN_OR_RETURN(const Model model, LoadFastest(options, "gpt2"));
  InferenceEngine engine(threads, kKvBytes);
  const auto time_steps =
      [&](const LoadedModel& of,
          int64_t steps) -> absl::StatusOr<std::vector<double>> {
    POT_ASSIGN_OR_RETURN(Generation generation,
                         Generation::Start(&engine, &of, 1, 256));
    return generation.TimeSteps(steps);
  };
  SetOnednnThreads(threads);
  const Model onednn = MakeOnednnModel(*model);
  std::vector<double> ours, theirs;
  for (int i = 0; i <= options.repetitions; ++i) {
    POT_ASSIGN_OR_RETURN(const std::vector<double> our_steps,
                         time_steps(*model, kTokens));
    POT_ASSIGN_OR_RETURN(const std::vector<double> their_steps,
                         time_steps(*onednn, kTokens));
    if (i == 0) continue;
    ours.push_back(Total(our_steps) / kTokens);
    theirs.push_back(Total(their_steps) / kTokens);
  }
  const double seconds = Median(ours), onednn_seconds = Median(theirs);
  report->Add({"decode.tokens_per_s",
               threads,
               1 / seconds,
               "tokens/s",
               {},
               {},
               absl::StrFormat("%.2f ms per step, %d new tokens, kernels %s",
                               seconds * 1e3, kTokens,
                               std::string(model->weights->kernels->name))});
  report->Add({"decode.vs_onednn_f32",
               threads,
               onednn_seconds / seconds,
               "",
               15,
               {},
               absl::StrFormat("oneDNN %.1f tokens/s", 1 / onednn_seconds)});

  POT_ASSIGN_OR_RETURN(const KernelTable* shift, FindKernelTable("shift"));
  POT_ASSIGN_OR_RETURN(const Model shift_model,
                       LoadBenchModel(options, "gpt2", shift));
  POT_ASSIGN_OR_RETURN(const std::vector<double> shift_steps,
                       time_steps(*shift_model, kShiftTokens));
  report->Add({"decode.vs_shift_kernel",
               threads,
               Median(shift_steps) / seconds,
               "",
               {},
               {},
               absl::StrFormat("shifts and adds alone: %.1f tokens/s",
                               1 / Median(shift_steps))});
  return absl::OkStatus();
}

absl::Status MeasureContext(const BenchOptions& options, int threads,
                            Report* report) {
  constexpr int64_t kSteps = 16;
  POT_ASSIGN_OR_RETURN(const Model model, LoadFastest(options, "gpt2"));
  InferenceEngine engine(threads, kKvBytes);
  POT_ASSIGN_OR_RETURN(Generation near,
                       Generation::Start(&engine, model.get(), 1, 256));
  POT_ASSIGN_OR_RETURN(Generation far,
                       Generation::Start(&engine, model.get(), 1, 1024));
  constexpr int64_t kNear = 128 - kSteps / 2, kFar = 1000 - kSteps / 2;
  POT_RETURN_IF_ERROR(near.Prefill(kNear));
  POT_RETURN_IF_ERROR(far.Prefill(kFar));
  POT_ASSIGN_OR_RETURN(const auto step_seconds,
                       PairedStepSeconds({&near, kNear}, {&far, kFar}, kSteps,
                                         4 * options.repetitions));
  const auto [at_128, at_1000] = step_seconds;
  report->Add(
      {"context.ratio_1000_vs_128",
       threads,
       at_128 / at_1000,
       "",
       0.60,
       {},
       absl::StrFormat("%.1f and %.1f tokens/s", 1 / at_1000, 1 / at_128)});
  return absl::OkStatus();
}

absl::Status MeasurePrefill(const BenchOptions& options, int threads,
                            Report* report) {
  constexpr int64_t kTokens = 512;
  POT_ASSIGN_OR_RETURN(const Model model, LoadFastest(options, "gpt2"));
  InferenceEngine engine(threads, kKvBytes);
  const std::vector<const Linear*> matrices = LayerMatrices(*model);
  Products products(matrices, kTokens, engine.pool());
  SetOnednnThreads(threads);
  std::vector<std::unique_ptr<OnednnMatmul>> onednn;
  for (const Linear* matrix : matrices) {
    onednn.push_back(
        std::make_unique<OnednnMatmul>(OnednnMatmul::Type::kU8S8S32, kTokens,
                                       matrix->inputs(), matrix->outputs()));
  }
  const auto [seconds, onednn_seconds] = PairedMedianSeconds(
      options.repetitions, [&] { products.Run(); },
      [&] {
        for (const auto& matmul : onednn) matmul->Run();
      });
  POT_RETURN_IF_ERROR(products.status());

  POT_ASSIGN_OR_RETURN(Generation generation,
                       Generation::Start(&engine, model.get(), 1, 1024));
  absl::Status status;
  const double whole = MedianSeconds(options.repetitions, [&] {
    generation.Truncate(0);
    status.Update(generation.Prefill(kTokens));
  });
  POT_RETURN_IF_ERROR(status);
  report->Add({"prefill512.tokens_per_s",
               threads,
               kTokens / whole,
               "tokens/s",
               {},
               {},
               absl::StrFormat("%.1f ms, of which matrices %.1f ms",
                               whole * 1e3, seconds * 1e3)});
  report->Add(
      {"prefill512.matmul_vs_onednn_u8s8s32",
       threads,
       seconds / onednn_seconds,
       "",
       {},
       0.7,
       absl::StrFormat("time with quantization and scales; oneDNN's bare int8 "
                       "products %.1f ms",
                       onednn_seconds * 1e3)});
  report->Add({"prefill512.vs_onednn_u8s8s32_matmuls",
               threads,
               onednn_seconds / whole,
               "",
               0.6,
               {},
               "whole run against oneDNN's bare int8 products"});
  return absl::OkStatus();
}

absl::Status MeasureBatch(const BenchOptions& options, int threads,
                          Report* report) {
  constexpr int kSequences = 16;
  constexpr int64_t kSteps = 32;
  POT_ASSIGN_OR_RETURN(const Model model, LoadFastest(options, "gpt2"));
  InferenceEngine engine(threads, kKvBytes);
  POT_ASSIGN_OR_RETURN(Generation one,
                       Generation::Start(&engine, model.get(), 1, 256));
  POT_ASSIGN_OR_RETURN(Generation many, Generation::Start(&engine, model.get(),
                                                          kSequences, 256));
  POT_RETURN_IF_ERROR(one.Prefill(64));
  POT_RETURN_IF_ERROR(many.Prefill(64));
  POT_ASSIGN_OR_RETURN(
      const auto step_seconds,
      PairedStepSeconds({&one, 64}, {&many, 64}, kSteps, options.repetitions));
  const auto [alone, together] = step_seconds;
  report->Add({"batch.ratio_16_vs_1",
               threads,
               kSequences * alone / together,
               "",
               6,
               {},
               absl::StrFormat("%.0f and %.1f tokens/s", kSequences / together,
                               1 / alone)});
  return absl::OkStatus();
}

absl::Status MeasureSmall(const BenchOptions& options, int threads,
                          Report* report) {
  constexpr int64_t kTokens = 48;
  POT_ASSIGN_OR_RETURN(const Model model, LoadFastest(options, "nano"));
  InferenceEngine engine(threads, kKvBytes);
  POT_ASSIGN_OR_RETURN(Generation generation,
                       Generation::Start(&engine, model.get(), 1, 64));
  std::vector<const Linear*> matrices = LayerMatrices(*model);
  matrices.push_back(model->weights->head.get());
  Products products(matrices, 1, engine.pool());
  absl::Status status;
  const auto [step, kernels] = PairedMedianSeconds(
      40 * options.repetitions,
      [&] {
        generation.Truncate(0);
        status.Update(generation.TimeSteps(kTokens).status());
      },
      [&] {
        for (int64_t i = 0; i < kTokens; ++i) products.Run();
      });
  POT_RETURN_IF_ERROR(status);
  POT_RETURN_IF_ERROR(products.status());
  report->Add({"small.overhead_us_per_token",
               threads,
               (step - kernels) / kTokens * 1e6,
               "us",
               {},
               30,
               absl::StrFormat("step %.1f us, its matrix products %.1f us",
                               step / kTokens * 1e6, kernels / kTokens * 1e6)});
  return absl::OkStatus();
}

}  // namespace pot
