// Quantization after training as the commands ask for it: flags in, a model
// directory out.
#ifndef POT_TRAINER_QUANTIZE_JOB_H_
#define POT_TRAINER_QUANTIZE_JOB_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/gpt2/quantize_model.h"
#include "trainer/calibrated_quantization.h"
#include "trainer/data/token_corpus.h"
#include "trainer/quantize_flags.h"

namespace pot {

struct QuantizeJob {
  std::string from;  // Hugging Face model directory
  QuantizeFlags quantize;
  CalibrationFlags calibration;
  // What `calibration` names, where it was read before; else nullptr.
  const TokenCorpus* calibration_text = nullptr;
  int threads = 1;
};

struct QuantizeOutcome {
  // None for kFloatFormat.
  std::optional<QuantizeModelReport> report;
  // Of all Hessians; 0 where the method needs none.
  double largest_damping = 0;
  // EqualizationResult's; empty without --equalize.
  std::vector<EqualizedProduct> equalized;
  // PotPtqModelResult's; empty for other methods.
  std::vector<double> error_ratios;
  // Weights by the name of their format, with --bits-budget.
  std::map<std::string, int64_t> mixed;
};

// The --method of `pot-trainer quantize`, each by one name.
std::vector<std::string> QuantizeMethods();

// Whether the method itself looks at what the model computes on a text.
bool NeedsCalibration(const std::string& method);

// INVALID_ARGUMENT naming flag, limit and given value. Reads no model.
absl::Status CheckQuantizeJob(const QuantizeJob& job);

// Writes the quantized model into the existing directory `to`, no manifest.
// `progress(done, total)`, which may be empty, is told how far it is; false
// ends the work as CANCELLED. Errors as CheckQuantizeJob and QuantizeModel.
absl::StatusOr<QuantizeOutcome> RunQuantizeJob(const QuantizeJob& job,
                                               const std::string& to,
                                               const DataProgress& progress);

}  // namespace pot

#endif  // POT_TRAINER_QUANTIZE_JOB_H_
