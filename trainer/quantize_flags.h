// The command line flags that choose a quantization, and a place for it.
#ifndef POT_TRAINER_QUANTIZE_FLAGS_H_
#define POT_TRAINER_QUANTIZE_FLAGS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/command.h"
#include "engine/gpt2/quantize_model.h"

namespace pot {

// As a --format, floats.
inline constexpr char kFloatFormat[] = "f32";

// What QuantizeFlags::bits_budget may be, if not 0.
inline constexpr double kMinBitsBudget = 1;
inline constexpr double kMaxBitsBudget = 32;

struct QuantizeFlags {
  std::string format = "pot4";
  std::string granularity = "row";
  std::string method = "nearest";
  std::string embedding_format;
  std::string embedding_granularity;
  float paper_eps = 0.0f;
  bool float_positions = false;
  std::string outliers = "0%";
  // Of a quantized weight, scales included, on average; 0: --format for all.
  double bits_budget = 0;
  std::vector<std::string> mixed_formats = {"pot2", "pot3", "twohot4"};
};

void AddQuantizeFlags(const Command& command, QuantizeFlags* flags);
// --outliers, which training knows nothing of.
void AddOutliersFlag(const Command& command, QuantizeFlags* flags);

// --bits-budget and --mixed-formats; after AddQuantizeFlags.
void AddMixedPrecisionFlags(const Command& command, QuantizeFlags* flags);
// The formats to mix. INVALID_ARGUMENT for less than two, or an unknown one.
absl::StatusOr<std::vector<const PotFormat*>> ParseMixedFormats(
    const QuantizeFlags& flags);

// INVALID_ARGUMENT, also for kFloatFormat.
absl::StatusOr<QuantizeModelOptions> ParseQuantizeFlags(
    const QuantizeFlags& flags);

// REPO/NAME.
struct ModelPath {
  std::string root;
  std::string name;
};
absl::StatusOr<ModelPath> ParseModelPath(const std::string& path);

}  // namespace pot

#endif  // POT_TRAINER_QUANTIZE_FLAGS_H_
