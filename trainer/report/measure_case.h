// Quantizes a model one way and measures the result.
#ifndef POT_TRAINER_REPORT_MEASURE_CASE_H_
#define POT_TRAINER_REPORT_MEASURE_CASE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/gpt2/evaluation.h"
#include "engine/gpt2/float_model.h"
#include "engine/kernels/kernel_table.h"
#include "engine/quant/activation.h"
#include "trainer/calibrated_quantization.h"
#include "trainer/data/token_corpus.h"
#include "trainer/report/report_case.h"
#include "trainer/report/report_row.h"

namespace pot {

// What all rows of a report have in common.
struct ReportInputs {
  std::string model;  // the float model's directory
  std::vector<int32_t> tokens;
  EvaluationProtocol protocol;
  ActivationMode activations = ActivationMode::kAffine;
  const KernelTable* kernels = nullptr;
  CalibrationFlags calibration;
  // What `calibration` names; nullptr when no method needs it.
  const TokenCorpus* calibration_text = nullptr;
};

// What `jobs` cases at a time need, roughly, against what the machine has:
// INVALID_ARGUMENT, naming both, when it is more. Where the machine does not
// say what it has, everything fits.
absl::Status CheckCaseMemory(const FloatModel& model, int jobs);

// Everything but the speed, on `threads` threads. The quantized model is
// written into the existing, empty directory `scratch`. `progress`, from 0 to
// 1, may be empty.
absl::StatusOr<ReportRow> MeasureCase(
    const ReportInputs& inputs, const ReportCase& which,
    const std::string& scratch, int threads,
    const std::function<void(double)>& progress);

// Tokens per second of one sequence in the model of `directory`: the median of
// several runs. Measure alone.
absl::StatusOr<double> MeasureDecodeSpeed(const std::string& directory,
                                          const ReportInputs& inputs,
                                          int threads);

}  // namespace pot

#endif  // POT_TRAINER_REPORT_MEASURE_CASE_H_
