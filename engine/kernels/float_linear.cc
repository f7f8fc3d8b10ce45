#include <algorithm>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/base/transpose.h"
#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/linear.h"
#include "engine/kernels/linear_arguments.h"
#include "oneapi/dnnl/dnnl.h"

// Of the OpenMP runtime that oneDNN is linked to; omp.h would be the
// compiler's, which for clang is another runtime.
extern "C" {
int omp_get_max_threads(void);
void omp_set_num_threads(int);
}

namespace pot {
namespace {

// Outputs per part of a product: whole tiles of every sgemm kernel.
constexpr int64_t kGrainOutputs = 64;

// Keeps oneDNN on the calling thread: our pool splits the work, since OpenMP's
// spinning barriers collapse when another process takes a core.
class SingleOmpThread {
 public:
  SingleOmpThread() : previous_(omp_get_max_threads()) {
    omp_set_num_threads(1);
  }
  ~SingleOmpThread() { omp_set_num_threads(previous_); }
  SingleOmpThread(const SingleOmpThread&) = delete;
  SingleOmpThread& operator=(const SingleOmpThread&) = delete;

 private:
  const int previous_;
};

class FloatLinear : public Linear {
 public:
  // weights[outputs][inputs].
  FloatLinear(AlignedBuffer<float> weights, int64_t outputs, int64_t inputs,
              std::vector<float> bias)
      : weights_(std::move(weights)),
        outputs_(outputs),
        inputs_(inputs),
        bias_(std::move(bias)) {}

  int64_t inputs() const override { return inputs_; }
  int64_t outputs() const override { return outputs_; }
  int64_t resident_bytes() const override {
    return static_cast<int64_t>((weights_.size() + bias_.size()) *
                                sizeof(float));
  }

  void WeightRow(int64_t output, absl::Span<float> weights) const override {
    std::memcpy(weights.data(), weights_.data() + output * inputs_,
                inputs_ * sizeof(float));
  }

  absl::Status Forward(const float* x, int64_t rows, float* y,
                       ThreadPool* pool) const override {
    POT_RETURN_IF_ERROR(CheckForward(rows));
    if (rows == 0) return absl::OkStatus();
    std::vector<dnnl_status_t> results(
        static_cast<size_t>((outputs_ + kGrainOutputs - 1) / kGrainOutputs),
        dnnl_success);
    ParallelFor(pool, outputs_, kGrainOutputs, [&](size_t begin, size_t end) {
      results[begin / kGrainOutputs] = ForwardOutputs(x, rows, begin, end, y);
    });
    for (const dnnl_status_t result : results) {
      if (result == dnnl_out_of_memory) {
        return absl::ResourceExhaustedError("oneDNN: no memory for sgemm");
      }
      if (result != dnnl_success) {
        return absl::InternalError(absl::StrCat(
            "oneDNN: sgemm failed with status ", static_cast<int>(result)));
      }
    }
    return absl::OkStatus();
  }

 private:
  // y[:, begin:end] = x W[begin:end]^T + bias.
  dnnl_status_t ForwardOutputs(const float* x, int64_t rows, int64_t begin,
                               int64_t end, float* y) const {
    for (int64_t row = 0; row < rows && !bias_.empty(); ++row) {
      std::copy(bias_.begin() + begin, bias_.begin() + end,
                y + row * outputs_ + begin);
    }
    const SingleOmpThread single_thread;
    return dnnl_sgemm('N', 'T', rows, end - begin, inputs_, 1.0f, x, inputs_,
                      weights_.data() + begin * inputs_, inputs_,
                      bias_.empty() ? 0.0f : 1.0f, y + begin, outputs_);
  }

  const AlignedBuffer<float> weights_;
  const int64_t outputs_;
  const int64_t inputs_;
  const std::vector<float> bias_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<const Linear>> MakeFloatLinear(
    absl::Span<const float> weights, int64_t outputs, int64_t inputs,
    bool transposed, std::vector<float> bias) {
  if (outputs < 1 || outputs > kMaxMatrixRows || inputs < 1 ||
      inputs > kMaxMatrixCols) {
    return absl::InvalidArgumentError(absl::StrCat(
        "linear layer of ", outputs, " outputs and ", inputs, " inputs; 1 to ",
        kMaxMatrixRows, " and 1 to ", kMaxMatrixCols, " are supported"));
  }
  if (weights.size() != static_cast<uint64_t>(outputs * inputs)) {
    return absl::InvalidArgumentError(
        absl::StrCat(weights.size(), " weights for ", outputs, " outputs of ",
                     inputs, " inputs"));
  }
  POT_RETURN_IF_ERROR(CheckBias(bias.size(), outputs));
  try {
    AlignedBuffer<float> rows(weights.size());
    if (transposed) {
      Transpose(weights.data(), inputs, outputs, rows.data());
    } else {
      std::copy(weights.begin(), weights.end(), rows.data());
    }
    return std::make_unique<const FloatLinear>(std::move(rows), outputs, inputs,
                                               std::move(bias));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "no memory for a float layer of ", outputs, " x ", inputs, " weights"));
  }
}

}  // namespace pot
