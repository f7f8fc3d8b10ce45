#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "test_paths.h"
#include "tests/bench/onednn_matmul.h"
#include "tests/bench/sections.h"
#include "tests/bench/timing.h"
#include "trainer/math/products.h"
#include "trainer/random_model.h"
#include "trainer/training/training_run.h"

namespace pot {
namespace {

constexpr int64_t kSequences = 12;
constexpr int64_t kContext = 64;

// A line of /proc/self/status, in bytes.
int64_t ProcessBytes(const char* key) {
  std::ifstream file("/proc/self/status");
  std::string line;
  while (std::getline(file, line)) {
    if (!absl::StartsWith(line, key)) continue;
    int64_t kilobytes = 0;
    std::sscanf(line.c_str() + std::string(key).size(), ": %ld", &kilobytes);
    return kilobytes * 1024;
  }
  return 0;
}

// Makes VmHWM start again from what is resident now.
void ResetPeak() { std::ofstream("/proc/self/clear_refs") << "5"; }

// Multiplications and additions of a step's matrix products: each weight meets
// each token once forward and twice back, each pair of positions each channel
// twice forward, and five times back as the probabilities are computed again.
double StepOperations(const ParameterLayout& layout) {
  const Gpt2Config& config = layout.config();
  double weights = static_cast<double>(config.vocab_size * config.n_embd);
  for (const TensorSpec& tensor : layout.tensors()) {
    if (tensor.kind == TensorKind::kConv1d) {
      weights += static_cast<double>(tensor.num_elements());
    }
  }
  const double attention =
      7.0 * static_cast<double>(config.n_layer * config.n_embd * kContext);
  return 2.0 * (3.0 * weights + attention) *
         static_cast<double>(kSequences * kContext);
}

// Seconds of an unquantized step of the same shape in PyTorch, or 0 without it.
double TorchStepSeconds(int threads, int repetitions) {
  const std::string command =
      absl::StrFormat("/usr/bin/python3 %s/tests/bench/torch_step.py %d %d",
                      POT_SOURCE_DIR, threads, repetitions);
  std::FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return 0;
  char line[64] = "";
  const bool read = std::fgets(line, sizeof line, pipe) != nullptr;
  double seconds = 0;
  if (pclose(pipe) != 0 || !read || !absl::SimpleAtod(line, &seconds)) return 0;
  return seconds;
}

// Operations per second of one large product, its operands rounded before.
absl::StatusOr<double> ProductRate(Precision precision, int repetitions) {
  constexpr int64_t kM = 768, kN = 3072, kK = 768;
  POT_ASSIGN_OR_RETURN(const auto products, Products<float>::Create(precision));
  std::vector<float> operands(kM * kK + kK * kN, 0.01f), result(kM * kN);
  products->Hold(operands.data(), static_cast<int64_t>(operands.size()));
  const double seconds = MedianSeconds(10 * repetitions, [&] {
    products->Multiply({.m = kM, .n = kN, .k = kK, .transpose_b = true},
                       operands.data(), operands.data() + kM * kK,
                       result.data());
  });
  POT_RETURN_IF_ERROR(products->status());
  return 2.0 * kM * kN * kK / seconds;
}

}  // namespace

absl::Status MeasureTrain(const BenchOptions& options, int threads,
                          Report* report) {
  SetOnednnThreads(threads);
  const Precision precision =
      HasNativeBf16() ? Precision::kBf16 : Precision::kF32;
  const char* const precision_name =
      precision == Precision::kBf16 ? "bf16" : "f32";
  POT_ASSIGN_OR_RETURN(const Gpt2Config config, NamedGpt2Config("gpt2"));
  const int64_t before = ProcessBytes("VmRSS");
  ResetPeak();
  std::vector<double> step_seconds, rates;
  int64_t peak = 0;
  double operations = 0;
  {
    const ParameterLayout layout(config);
    operations = StepOperations(layout);
    TokenCorpus corpus(config.vocab_size);
    std::vector<int32_t> tokens(1 << 16);
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = static_cast<int32_t>(i * 2654435761u % config.vocab_size);
    }
    POT_RETURN_IF_ERROR(corpus.Append(tokens));
    TrainingOptions training;
    training.batch = {.sequences = kSequences, .context = kContext};
    training.precision = precision;
    training.qat.emplace();
    for (FakeQuantizeOptions* weights :
         {&training.qat->weights.layers, &training.qat->weights.embedding}) {
      POT_ASSIGN_OR_RETURN(weights->quantize.format, FindPotFormat("pot4"));
      weights->learned_scales = true;
    }
    POT_ASSIGN_OR_RETURN(
        const std::unique_ptr<TrainingRun> run,
        TrainingRun::Create(&layout, training, &corpus,
                            RandomParameters(layout, 1), nullptr, {}));
    // The first step searches the scales that training starts from.
    POT_RETURN_IF_ERROR(run->Step().status());
    for (int i = 0; i < options.repetitions; ++i) {
      const Stopwatch stopwatch;
      POT_RETURN_IF_ERROR(run->Step().status());
      step_seconds.push_back(stopwatch.Seconds());
      POT_ASSIGN_OR_RETURN(const double rate, ProductRate(precision, 1));
      rates.push_back(rate);
    }
    peak = ProcessBytes("VmHWM");
  }
  const double step = Median(step_seconds);
  const double rate = Median(rates);
  report->Add({"train.step_seconds",
               threads,
               step,
               "s",
               {},
               {},
               absl::StrFormat("QAT, pot4 per row, learned scales, %s, batch "
                               "%d x %d",
                               precision_name, kSequences, kContext)});
  report->Add(
      {"train.fraction_of_product_rate",
       threads,
       operations / step / rate,
       "",
       0.45,
       {},
       absl::StrFormat("%.0f of oneDNN's %.0f Gflop/s in %s",
                       operations / step * 1e-9, rate * 1e-9, precision_name)});
  report->Add({"train.peak_memory_gb",
               threads,
               static_cast<double>(peak - before) * 1e-9,
               "GB",
               {},
               3.5,
               "resident, above what the process had before"});
  const double torch = TorchStepSeconds(threads, options.repetitions);
  if (torch > 0) {
    report->Add(
        {"train.vs_torch",
         threads,
         torch / step,
         "",
         3.5,
         {},
         absl::StrFormat("PyTorch's unquantized step in fp32: %.2f s", torch)});
  } else {
    std::fprintf(stderr,
                 "train.vs_torch is left out: it needs /usr/bin/python3 with "
                 "python3-torch and libopenblas0-pthread\n");
  }
  return absl::OkStatus();
}

}  // namespace pot
