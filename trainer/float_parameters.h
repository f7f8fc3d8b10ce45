// The parameters of a float model: in memory, or in a file of which only what
// is in use is in memory.
#ifndef POT_TRAINER_FLOAT_PARAMETERS_H_
#define POT_TRAINER_FLOAT_PARAMETERS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/gpt2/parameter_layout.h"

namespace pot {

class FloatParameters {
 public:
  // Reads the float model of the directory `from`. With a `spill_directory`
  // they are kept there, in a file without a name, 4 bytes a parameter, that
  // ends with this object. RESOURCE_EXHAUSTED, naming the size, without the
  // memory or the disk for them; errors as FloatModel::Open.
  static absl::StatusOr<std::unique_ptr<FloatParameters>> Read(
      const std::string& from, const std::string& spill_directory);
  ~FloatParameters();

  FloatParameters(const FloatParameters&) = delete;
  FloatParameters& operator=(const FloatParameters&) = delete;

  const ParameterLayout& layout() const { return layout_; }
  absl::Span<float> values() {
    return {values_, static_cast<size_t>(layout_.size())};
  }
  absl::Span<const float> values() const {
    return {values_, static_cast<size_t>(layout_.size())};
  }

  // The layer is not needed for now: its memory is given back where a file
  // keeps what it holds.
  void ReleaseLayer(int64_t layer) const;

 private:
  explicit FloatParameters(const Gpt2Config& config) : layout_(config) {}

  absl::Status Allocate(const std::string& spill_directory);
  // Pages that lie between two offsets.
  void Release(int64_t begin, int64_t end) const;

  const ParameterLayout layout_;
  float* values_ = nullptr;
  bool spilled_ = false;
};

}  // namespace pot

#endif  // POT_TRAINER_FLOAT_PARAMETERS_H_
