// `pot-trainer quantize` by methods that look at what the model computes on a
// calibration text.
#ifndef POT_TRAINER_CALIBRATED_QUANTIZATION_H_
#define POT_TRAINER_CALIBRATED_QUANTIZATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "engine/gpt2/quantize_model.h"
#include "trainer/data/token_corpus.h"
#include "trainer/ptq/gptq_model.h"

namespace pot {

struct CalibrationFlags {
  std::vector<std::string> texts;  // files, or "self" alone
  int64_t tokens = 1 << 16;
  uint64_t seed = 0;
  GptqOptions gptq;
  bool keep_biases = false;
};

void AddCalibrationFlags(CLI::App* command, CalibrationFlags* flags);

// Sequences of tokens for the model in `from`, at most
// `flags.tokens` in all, from all over the texts; or the model's own writing.
// Shows its progress. INVALID_ARGUMENT naming flag, limit and given value.
absl::StatusOr<TokenCorpus> ReadCalibrationText(const std::string& from,
                                                const CalibrationFlags& flags,
                                                int threads);

// GPTQ for the float model in `from`. Errors as QuantizeModelGptq.
absl::StatusOr<GptqModelResult> QuantizeByGptq(
    const std::string& from, const TokenCorpus& calibration,
    const CalibrationFlags& flags, const QuantizeModelOptions& options,
    const DataProgress& progress);

}  // namespace pot

#endif  // POT_TRAINER_CALIBRATED_QUANTIZATION_H_
