#include "trainer/report/measure_case.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/base/thread_pool.h"
#include "engine/base/transpose.h"
#include "engine/checkpoint/exponent_checkpoint.h"
#include "engine/gpt2/float_model.h"
#include "engine/inference_engine.h"
#include "engine/loaded_model.h"
#include "engine/quant/pot_quantizer.h"
#include "trainer/quantize_job.h"

namespace pot {
namespace {

using Clock = std::chrono::steady_clock;

// The share of a row's progress that quantizing is given.
constexpr double kQuantizeShare = 0.5;

// Parameters as they are read, as the method changes them, as the reference
// for KL, and once more packed for oneDNN.
constexpr int64_t kBytesPerParameter = 16;

// Steps of a run, and runs, of which the median counts.
constexpr int64_t kDecodeSteps = 32;
constexpr int kDecodeRuns = 5;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// 0 when the kernel does not say.
int64_t AvailableMemory() {
  std::ifstream file("/proc/meminfo");
  std::string name;
  int64_t kilobytes = 0;
  // Lines are "MemAvailable:   12345 kB".
  while (file >> name >> kilobytes) {
    if (name == "MemAvailable:") return kilobytes * 1024;
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return 0;
}

absl::StatusOr<std::shared_ptr<const LoadedModel>> Load(
    const std::string& directory, const ReportInputs& inputs) {
  return LoadModel(directory, ModelIdentity{},
                   {inputs.kernels, inputs.activations});
}

absl::StatusOr<int64_t> WeightFileBytes(const std::string& directory) {
  int64_t bytes = 0;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(directory, error)) {
    if (entry.path().extension() != ".safetensors") continue;
    bytes += static_cast<int64_t>(entry.file_size(error));
    if (error) break;
  }
  if (error) {
    return absl::InternalError(
        absl::StrCat("cannot list ", directory, ": ", error.message()));
  }
  return bytes;
}

// "h.3.attn.c_attn.weight" -> "attn.c_attn".
std::string KindOf(const std::string& name) {
  static constexpr std::array<const char*, 4> kLayerKinds = {
      "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"};
  for (const char* const kind : kLayerKinds) {
    if (absl::StrContains(name, kind)) return kind;
  }
  return name.substr(0, name.find('.'));
}

absl::StatusOr<std::map<std::string, double>> SquaredErrors(
    const std::string& from, const std::string& quantized) {
  POT_ASSIGN_OR_RETURN(const FloatModel model, FloatModel::Open(from));
  POT_ASSIGN_OR_RETURN(const std::shared_ptr<const ExponentCheckpoint> file,
                       ExponentCheckpoint::Open(absl::StrCat(
                           quantized, "/", kExponentCheckpointFile)));
  struct Sums {
    double error = 0;
    double weight = 0;
  };
  std::map<std::string, Sums> sums;
  for (const TensorSpec& tensor : model.tensors()) {
    if (!tensor.quantized()) continue;
    POT_ASSIGN_OR_RETURN(std::vector<float> values, model.Read(tensor));
    if (tensor.kind == TensorKind::kConv1d) {
      std::vector<float> transposed(values.size());
      Transpose(values.data(), tensor.cols(), tensor.rows(), transposed.data());
      values = std::move(transposed);
    }
    POT_ASSIGN_OR_RETURN(
        const PotMatrix matrix,
        file->Matrix(tensor.name, tensor.rows(), tensor.cols()));
    double weight = 0;
    for (const float w : values) weight += static_cast<double>(w) * w;
    Sums& kind = sums[KindOf(tensor.name)];
    kind.error += NormalizedSquaredError(values, matrix) * weight;
    kind.weight += weight;
  }
  std::map<std::string, double> errors;
  for (const auto& [kind, sum] : sums) {
    errors[kind] = sum.weight > 0 ? sum.error / sum.weight : 0;
  }
  return errors;
}

std::map<std::string, double> Shares(
    const std::map<std::string, int64_t>& counts) {
  double total = 0;
  for (const auto& [name, count] : counts) total += static_cast<double>(count);
  std::map<std::string, double> shares;
  for (const auto& [name, count] : counts) {
    shares[name] = static_cast<double>(count) / total;
  }
  return shares;
}

absl::Status Quantize(const ReportInputs& inputs, const ReportCase& which,
                      const std::string& scratch, int threads,
                      const std::function<void(double)>& progress,
                      ReportRow* row) {
  POT_ASSIGN_OR_RETURN(QuantizeJob job, JobOf(which));
  const bool equalize = job.calibration.equalize || inputs.calibration.equalize;
  job.from = inputs.model;
  job.threads = threads;
  job.calibration = inputs.calibration;
  job.calibration.equalize = equalize;
  job.calibration.texts.clear();
  if (NeedsCalibration(which) || equalize) {
    job.calibration_text = inputs.calibration_text;
  }
  const Clock::time_point start = Clock::now();
  POT_ASSIGN_OR_RETURN(
      const QuantizeOutcome outcome,
      RunQuantizeJob(job, scratch, [&](int64_t done, int64_t total) {
        if (progress != nullptr && total > 0) {
          progress(kQuantizeShare * static_cast<double>(done) /
                   static_cast<double>(total));
        }
        return true;
      }));
  row->quantize_seconds = SecondsSince(start);
  row->bits_per_weight = outcome.report->bits_per_weight;
  row->format_shares = Shares(outcome.mixed);
  // Weights that were moved first are not those of the file.
  if (equalize) return absl::OkStatus();
  POT_ASSIGN_OR_RETURN(row->squared_error,
                       SquaredErrors(inputs.model, scratch));
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckCaseMemory(const FloatModel& model, int jobs) {
  int64_t parameters = 0;
  for (const TensorSpec& tensor : model.tensors()) {
    parameters += tensor.num_elements();
  }
  const int64_t needed = kBytesPerParameter * parameters * jobs;
  const int64_t available = AvailableMemory();
  if (available == 0 || needed <= available) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "--jobs ", jobs, " needs about ", needed / 1'000'000, " MB of memory; ",
      available / 1'000'000, " MB are available"));
}

absl::StatusOr<ReportRow> MeasureCase(
    const ReportInputs& inputs, const ReportCase& which,
    const std::string& scratch, int threads,
    const std::function<void(double)>& progress) {
  ReportRow row;
  row.which = which;
  std::string directory = inputs.model;
  double begun = 0;
  if (!which.is_float()) {
    POT_RETURN_IF_ERROR(
        Quantize(inputs, which, scratch, threads, progress, &row));
    directory = scratch;
    begun = kQuantizeShare;
  }
  POT_ASSIGN_OR_RETURN(row.file_bytes, WeightFileBytes(directory));
  POT_ASSIGN_OR_RETURN(const auto model, Load(directory, inputs));
  POT_ASSIGN_OR_RETURN(const auto reference, Load(inputs.model, inputs));
  row.resident_bytes = model->weights->resident_bytes();
  ThreadPool pool(threads);
  POT_ASSIGN_OR_RETURN(
      row.sums, Evaluate(
                    *model->weights, reference->weights.get(), inputs.tokens,
                    inputs.protocol,
                    [&model](int32_t id) {
                      return static_cast<int64_t>(
                          model->tokenizer->TokenBytes(id).size());
                    },
                    &pool,
                    [&](int64_t done, int64_t total) {
                      if (progress != nullptr) {
                        progress(begun + (1 - begun) *
                                             static_cast<double>(done) /
                                             static_cast<double>(total));
                      }
                      return true;
                    }));
  return row;
}

absl::StatusOr<double> MeasureDecodeSpeed(const std::string& directory,
                                          const ReportInputs& inputs,
                                          int threads) {
  POT_ASSIGN_OR_RETURN(const auto model, Load(directory, inputs));
  const int64_t steps = std::min(kDecodeSteps, model->config().n_positions - 1);
  InferenceEngine engine(threads, int64_t{1} << 32);
  POT_ASSIGN_OR_RETURN(const std::unique_ptr<KvCache> cache,
                       engine.CreateCache(*model, steps + 1));
  std::vector<double> rates;
  for (int run = 0; run <= kDecodeRuns; ++run) {
    cache->Truncate(0);
    int32_t token = inputs.tokens.front();
    Clock::time_point start;
    for (int64_t step = 0; step <= steps; ++step) {
      // The first step reads the prompt.
      if (step == 1) start = Clock::now();
      const ForwardSpan span{cache.get(), absl::MakeConstSpan(&token, 1),
                             ForwardSpan::Logits::kLast};
      POT_ASSIGN_OR_RETURN(const absl::Span<const float> logits,
                           engine.Step(*model, absl::MakeConstSpan(&span, 1)));
      token = static_cast<int32_t>(
          std::max_element(logits.begin(), logits.end()) - logits.begin());
    }
    // The first run warms up.
    if (run > 0 && steps > 0) {
      rates.push_back(static_cast<double>(steps) / SecondsSince(start));
    }
  }
  if (rates.empty()) return 0.0;
  std::nth_element(rates.begin(), rates.begin() + rates.size() / 2,
                   rates.end());
  return rates[rates.size() / 2];
}

}  // namespace pot
