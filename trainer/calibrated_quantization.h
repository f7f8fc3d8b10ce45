// `pot-trainer quantize` by methods that look at what the model computes on a
// calibration text.
#ifndef POT_TRAINER_CALIBRATED_QUANTIZATION_H_
#define POT_TRAINER_CALIBRATED_QUANTIZATION_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/command.h"
#include "engine/base/thread_pool.h"
#include "engine/gpt2/quantize_model.h"
#include "trainer/data/token_corpus.h"
#include "trainer/float_parameters.h"
#include "trainer/ptq/equalization.h"
#include "trainer/ptq/gptq_model.h"
#include "trainer/ptq/potptq_model.h"
#include "trainer/ptq/sensitivity.h"

namespace pot {

struct CalibrationFlags {
  std::vector<std::string> texts;  // files, or "self" alone
  int64_t tokens = 1 << 16;
  uint64_t seed = 0;
  GptqOptions gptq;
  bool keep_biases = false;
  PotPtqOptions potptq;
  bool equalize = false;
  // Of the parameters; empty: memory.
  std::string spill_directory;
};

void AddCalibrationFlags(const Command& command, CalibrationFlags* flags);

// Sequences of tokens for the model in `from`, at most
// `flags.tokens` in all, from all over the texts; or the model's own writing.
// Shows its progress. INVALID_ARGUMENT naming flag, limit and given value.
absl::StatusOr<TokenCorpus> ReadCalibrationText(const std::string& from,
                                                const CalibrationFlags& flags,
                                                int threads);

// The flags beside the text that change a result: "damping 0.01, act-order".
std::string DescribeCalibration(const CalibrationFlags& flags);

// What quantizing each matrix of the model in `from` alone does to it on
// `text`. Errors as MeasureSensitivity.
absl::StatusOr<std::vector<TensorSensitivity>> MeasureModelSensitivity(
    const std::string& from, const TokenCorpus& text,
    const QuantizeModelOptions& options,
    const std::vector<const PotFormat*>& formats, const DataProgress& progress);

// --equalize. `text` may be null. Errors as EqualizeModel.
absl::StatusOr<EqualizationResult> EqualizeParameters(
    const TokenCorpus* text, const QuantizeModelOptions& options,
    const DataProgress& progress, FloatParameters* parameters);

// What quantizes them; `parameters` end as the quantized ones. Errors as
// QuantizeModelGptq.
absl::StatusOr<GptqModelResult> QuantizeByGptq(
    const TokenCorpus& calibration, const CalibrationFlags& flags,
    const QuantizeModelOptions& options, const DataProgress& progress,
    FloatParameters* parameters);
// Scales trained block by block. Errors as QuantizeModelPotPtq.
absl::StatusOr<PotPtqModelResult> QuantizeByPotPtq(
    const TokenCorpus& calibration, const CalibrationFlags& flags,
    const QuantizeModelOptions& options, const DataProgress& progress,
    FloatParameters* parameters);
// Each weight for itself: the matrices of the layers.
absl::StatusOr<std::map<std::string, PotMatrix>> QuantizeLayers(
    const QuantizeModelOptions& options, ThreadPool* pool,
    const FloatParameters& parameters);

}  // namespace pot

#endif  // POT_TRAINER_CALIBRATED_QUANTIZATION_H_
