// What the tests of fake quantization share.
#ifndef POT_TESTS_TRAINER_QUANTIZATION_FAKE_QUANTIZER_TESTING_H_
#define POT_TESTS_TRAINER_QUANTIZATION_FAKE_QUANTIZER_TESTING_H_

#include <bit>
#include <cstdint>
#include <random>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/quant/pot_matrix.h"
#include "gtest/gtest.h"
#include "tests/engine/gpt2/model_testing.h"
#include "trainer/quantization/state_tensors.h"
#include "trainer/quantization/weight_fake_quantizer.h"

namespace pot {

// The same bits, so that also -0 and 0 differ.
inline void ExpectSameBits(absl::Span<const float> a,
                           absl::Span<const float> b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(a[i]), std::bit_cast<uint32_t>(b[i]))
        << "element " << i << ": " << a[i] << " and " << b[i];
  }
}

inline std::vector<float> Dequantize(const PotMatrix& matrix) {
  const int64_t cols = matrix.cols();
  std::vector<float> weights(matrix.rows() * cols);
  for (int64_t row = 0; row < matrix.rows(); ++row) {
    matrix.DequantizeRow(row,
                         absl::MakeSpan(weights).subspan(row * cols, cols));
  }
  return weights;
}

inline std::vector<float> Gauss(int64_t count, float deviation, int seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// A copy of a state in memory of its own, as a file would give it back.
class StoredState {
 public:
  explicit StoredState(const StateTensors& state) {
    bytes_.reserve(state.size());
    for (const auto& [name, view] : state) {
      bytes_.emplace_back(view.bytes.begin(), view.bytes.end());
      tensors_[name] = TensorView{view.type, view.shape, bytes_.back()};
    }
  }

  TensorMap& tensors() { return tensors_; }

 private:
  std::vector<std::vector<uint8_t>> bytes_;
  TensorMap tensors_;
};

// A quantizer with memory for its log-scales.
struct Fake {
  Fake(int64_t rows, int64_t cols, const FakeQuantizeOptions& options)
      : log_scales(WeightFakeQuantizer::NumScales(
            rows, cols, options.quantize.granularity)),
        gradients(log_scales.size()),
        quantizer(*WeightFakeQuantizer::Create(
            rows, cols, options, {log_scales.data(), gradients.data()})) {}

  std::vector<float> Forward(const std::vector<float>& w) {
    std::vector<float> effective(w.size(), -7.0f);
    quantizer.Forward(w.data(), effective.data());
    return effective;
  }
  std::vector<float> Backward(const std::vector<float>& w,
                              std::vector<float> grad) {
    quantizer.Backward(w.data(), grad.data());
    return grad;
  }
  StateTensors State() const {
    StateTensors state;
    quantizer.AppendState("m.", &state);
    return state;
  }

  std::vector<float> log_scales, gradients;
  WeightFakeQuantizer quantizer;
};

inline FakeQuantizeOptions Options(absl::string_view format,
                                   absl::string_view granularity,
                                   QuantizeMode mode = QuantizeMode::kNearest) {
  FakeQuantizeOptions options;
  options.quantize = MakeQuantizeOptions(format, granularity, mode);
  return options;
}

inline FakeQuantizeOptions Learned(absl::string_view format,
                                   absl::string_view granularity) {
  FakeQuantizeOptions options = Options(format, granularity);
  options.learned_scales = true;
  return options;
}

}  // namespace pot

#endif  // POT_TESTS_TRAINER_QUANTIZATION_FAKE_QUANTIZER_TESTING_H_
