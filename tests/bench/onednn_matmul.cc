#include "tests/bench/onednn_matmul.h"

#include <random>

#include "absl/strings/str_cat.h"
#include "oneapi/dnnl/dnnl.hpp"

// Of oneDNN's own OpenMP runtime.
extern "C" void omp_set_num_threads(int);

namespace pot {
namespace {

using Tag = dnnl::memory::format_tag;
using Data = dnnl::memory::data_type;

// Small values of either sign, the same every time.
void Fill(const dnnl::memory& memory) {
  std::mt19937 random(1);
  const size_t bytes = memory.get_desc().get_size();
  if (memory.get_desc().data_type() == Data::f32) {
    auto* values = static_cast<float*>(memory.get_data_handle());
    for (size_t i = 0; i < bytes / sizeof(float); ++i) {
      values[i] = 0.04f * (static_cast<float>(random() >> 8) * 0x1p-24f - 0.5f);
    }
  } else {
    auto* values = static_cast<uint8_t*>(memory.get_data_handle());
    for (size_t i = 0; i < bytes; ++i) values[i] = random() & 0x3f;
  }
}

}  // namespace

void SetOnednnThreads(int threads) { omp_set_num_threads(threads); }

struct OnednnMatmul::Impl {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::matmul matmul;
  dnnl::memory x, weights, y;

  void Run() {
    matmul.execute(
        stream,
        {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, y}});
    stream.wait();
  }
};

OnednnMatmul::OnednnMatmul(Type type, int64_t rows, int64_t inputs,
                           int64_t outputs)
    : impl_(std::make_unique<Impl>()) {
  const bool floats = type == Type::kF32;
  const dnnl::memory::desc x({rows, inputs}, floats ? Data::f32 : Data::u8,
                             Tag::ab);
  const dnnl::memory::dims weight_dims = {inputs, outputs};
  const Data weight_type = floats ? Data::f32 : Data::s8;
  const dnnl::memory::desc y({rows, outputs}, floats ? Data::f32 : Data::s32,
                             Tag::ab);
  const dnnl::matmul::primitive_desc primitive(
      dnnl::matmul::desc(
          x, dnnl::memory::desc(weight_dims, weight_type, Tag::any), y),
      impl_->engine);
  impl_->matmul = dnnl::matmul(primitive);
  impl_->x = dnnl::memory(x, impl_->engine);
  impl_->y = dnnl::memory(y, impl_->engine);
  dnnl::memory plain({weight_dims, weight_type, Tag::ab}, impl_->engine);
  Fill(impl_->x);
  Fill(plain);
  impl_->weights = dnnl::memory(primitive.weights_desc(), impl_->engine);
  dnnl::reorder(plain, impl_->weights)
      .execute(impl_->stream, plain, impl_->weights);
  impl_->stream.wait();
}

OnednnMatmul::~OnednnMatmul() = default;

void OnednnMatmul::Run() { impl_->Run(); }

void OnednnMatmul::Run(const float* x, float* y) {
  impl_->x.set_data_handle(const_cast<float*>(x));
  impl_->y.set_data_handle(y);
  impl_->Run();
}

namespace {

class OnednnLinear : public Linear {
 public:
  OnednnLinear(int64_t rows, int64_t inputs, int64_t outputs)
      : rows_(rows),
        inputs_(inputs),
        outputs_(outputs),
        matmul_(OnednnMatmul::Type::kF32, rows, inputs, outputs) {}

  int64_t inputs() const override { return inputs_; }
  int64_t outputs() const override { return outputs_; }
  int64_t resident_bytes() const override { return 4 * inputs_ * outputs_; }

  absl::Status Forward(const float* x, int64_t rows, float* y,
                       ThreadPool*) const override {
    if (rows != rows_) {
      return absl::InvalidArgumentError(
          absl::StrCat(rows, " rows for a baseline that was made for ", rows_));
    }
    matmul_.Run(x, y);
    return absl::OkStatus();
  }

  void WeightRow(int64_t output, absl::Span<float> weights) const override {
    for (size_t i = 0; i < weights.size(); ++i) {
      weights[i] = 0.01f * static_cast<float>((output + 7 * i) % 9) - 0.04f;
    }
  }

 private:
  const int64_t rows_, inputs_, outputs_;
  mutable OnednnMatmul matmul_;
};

}  // namespace

std::unique_ptr<const Linear> MakeOnednnLinear(int64_t rows, int64_t inputs,
                                               int64_t outputs) {
  return std::make_unique<OnednnLinear>(rows, inputs, outputs);
}

}  // namespace pot
