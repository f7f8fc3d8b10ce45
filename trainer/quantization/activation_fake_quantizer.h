// Fake quantization of the inputs of quantized products to 8 bits.
#ifndef POT_TRAINER_QUANTIZATION_ACTIVATION_FAKE_QUANTIZER_H_
#define POT_TRAINER_QUANTIZATION_ACTIVATION_FAKE_QUANTIZER_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/quant/activation.h"
#include "trainer/quantization/state_tensors.h"

namespace pot {

enum class ActivationFakeQuantization {
  kFloat,      // left alone
  kAffine,     // per token, ActivationMode::kAffine
  kSymmetric,  // per token, ActivationMode::kSymmetric
  // Affine over one range per site, an exponential moving average of the
  // minima and maxima that training batches had (the observers of the papers'
  // code). The engine has no such mode: a model trained like this is served
  // with kAffine, whose range is each token's own. So it is a regularization of
  // the training only, and what evaluation in the trainer prints with it is not
  // what is served; evaluate with kAffine.
  kObserved,
};

struct ActivationFakeQuantizeOptions {
  ActivationFakeQuantization mode = ActivationFakeQuantization::kAffine;
  // Of kObserved: range += rate * (batch - range). (0, 1]; the default is that
  // of PyTorch's MovingAverageMinMaxObserver.
  float observer_rate = 0.01f;
};

// A "site" is one product's input in the model, [0, num_sites). Not
// thread-safe; its loops run on OpenMP's threads, and the results do not depend
// on their number.
class ActivationFakeQuantizer {
 public:
  // INVALID_ARGUMENT for num_sites below 1 or an observer_rate outside its
  // range.
  static absl::StatusOr<ActivationFakeQuantizer> Create(
      int num_sites, const ActivationFakeQuantizeOptions& options);

  // x[tokens][width] becomes scale * (a - zero_point), bit for bit what the
  // engine multiplies. With kObserved, `training` first lets the range follow
  // x (the first time, it becomes that of x), `inside[tokens][width]` becomes 1
  // where x lies in the range and 0 where it was clipped, and a site that has
  // seen no training batch leaves x alone. `inside` may be null in any other
  // mode, or when there will be no Backward.
  void Forward(int site, bool training, float* x, int64_t tokens, int64_t width,
               uint8_t* inside);
  // In double nothing is rounded, in any mode: what finite differences check is
  // the function whose gradient the straight-through estimator takes.
  void Forward(int, bool, double*, int64_t, int64_t, uint8_t*) {}

  // Whether Backward needs `inside`.
  bool needs_mask() const {
    return options_.mode == ActivationFakeQuantization::kObserved;
  }

  // grad[count] of Forward's result becomes that of its input: unchanged per
  // token, whose range holds every x, and 0 where `inside` is.
  void Backward(const uint8_t* inside, float* grad, int64_t count) const;
  void Backward(const uint8_t*, double*, int64_t) const {}

  // Low (<= 0) and high (>= 0) end of a site's range; both 0 if it has none.
  std::pair<float, float> Range(int site) const;

  // Appends "<prefix>ranges", F32 (num_sites, 2), and "<prefix>observed", U8
  // (num_sites); nothing unless kObserved.
  void AppendState(const std::string& prefix, StateTensors* state) const;
  // The reverse. INVALID_ARGUMENT names a tensor that is missing or does not
  // fit, and leaves the object as it was.
  absl::Status Restore(const std::string& prefix, const TensorMap& tensors);

 private:
  ActivationFakeQuantizer() = default;

  void RoundTokens(ActivationMode mode, float* x, int64_t tokens,
                   int64_t width);
  // Lets the site's range follow x.
  void Observe(int site, const float* x, int64_t tokens, int64_t width);

  ActivationFakeQuantizeOptions options_;
  std::vector<float> ranges_;      // (num_sites, 2): low, high
  std::vector<uint8_t> observed_;  // (num_sites)
};

}  // namespace pot

#endif  // POT_TRAINER_QUANTIZATION_ACTIVATION_FAKE_QUANTIZER_H_
