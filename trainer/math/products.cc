#include "trainer/math/products.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <new>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "oneapi/dnnl/dnnl.hpp"
#include "trainer/base/multiversion.h"

namespace pot {
namespace {

auto Key(const ProductShape& s) {
  return std::make_tuple(s.m, s.n, s.k, s.batch, s.transpose_a, s.transpose_b,
                         s.accumulate);
}

dnnl::memory::desc MatrixDescription(const ProductShape& shape, int64_t rows,
                                     int64_t columns, bool transposed,
                                     dnnl::memory::data_type type) {
  return {{shape.batch, rows, columns},
          type,
          transposed ? dnnl::memory::dims{rows * columns, 1, rows}
                     : dnnl::memory::dims{rows * columns, columns, 1}};
}

class OneDnnProducts : public Products<float> {
 public:
  explicit OneDnnProducts(Precision precision)
      : precision_(precision),
        engine_(dnnl::engine::kind::cpu, 0),
        stream_(engine_) {}

  Precision precision() const override { return precision_; }
  const absl::Status& status() const override { return status_; }

  void Multiply(const ProductShape& shape, const float* a, const float* b,
                float* c) override {
    if (!status_.ok()) return;
    try {
      Primitive& product = FindOrCreate(shape);
      void* left = const_cast<float*>(a);
      void* right = const_cast<float*>(b);
      if (precision_ == Precision::kBf16) {
        left = Operand(a, shape.batch * shape.m * shape.k, &left_);
        right = Operand(b, shape.batch * shape.k * shape.n, &right_);
      }
      product.a.set_data_handle(left);
      product.b.set_data_handle(right);
      product.c.set_data_handle(c);
      if (scratch_.size() < product.scratch.get_desc().get_size()) {
        scratch_.resize(product.scratch.get_desc().get_size());
      }
      product.scratch.set_data_handle(scratch_.data());
      product.primitive.execute(stream_,
                                {{DNNL_ARG_SRC, product.a},
                                 {DNNL_ARG_WEIGHTS, product.b},
                                 {DNNL_ARG_DST, product.c},
                                 {DNNL_ARG_SCRATCHPAD, product.scratch}});
      stream_.wait();
    } catch (const dnnl::error& error) {
      const std::string what = absl::StrCat("oneDNN: ", error.what());
      status_ = error.status == dnnl_out_of_memory
                    ? absl::ResourceExhaustedError(what)
                    : absl::InternalError(what);
    } catch (const std::bad_alloc&) {
      status_ = absl::ResourceExhaustedError("no memory for a matrix product");
    }
  }

  void Hold(const float* begin, int64_t count) override {
    if (precision_ != Precision::kBf16) return;
    try {
      held_.resize(count);
    } catch (const std::bad_alloc&) {
      status_ = absl::ResourceExhaustedError("no memory for rounded weights");
      return;
    }
    RoundToBf16(begin, count, held_.data());
    held_begin_ = begin;
    held_end_ = begin + count;
  }

  void Release() override { held_begin_ = held_end_ = nullptr; }

 private:
  struct Primitive {
    dnnl::matmul primitive;
    dnnl::memory a, b, c, scratch;
  };

  Primitive& FindOrCreate(const ProductShape& shape) {
    const auto found = primitives_.find(Key(shape));
    if (found != primitives_.end()) return found->second;
    const auto operand = precision_ == Precision::kBf16
                             ? dnnl::memory::data_type::bf16
                             : dnnl::memory::data_type::f32;
    const auto a =
        MatrixDescription(shape, shape.m, shape.k, shape.transpose_a, operand);
    const auto b =
        MatrixDescription(shape, shape.k, shape.n, shape.transpose_b, operand);
    const auto c = MatrixDescription(shape, shape.m, shape.n, false,
                                     dnnl::memory::data_type::f32);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (shape.accumulate) {
      dnnl::post_ops sum;
      sum.append_sum(1.0f);
      attributes.set_post_ops(sum);
    }
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, c),
                                                   attributes, engine_);
    return primitives_
        .emplace(Key(shape), Primitive{dnnl::matmul(description),
                                       {a, engine_, DNNL_MEMORY_NONE},
                                       {b, engine_, DNNL_MEMORY_NONE},
                                       {c, engine_, DNNL_MEMORY_NONE},
                                       {description.scratchpad_desc(), engine_,
                                        DNNL_MEMORY_NONE}})
        .first->second;
  }

  // x[count] as bfloat16: what is held of it, or rounded into `buffer`.
  void* Operand(const float* x, int64_t count, std::vector<uint16_t>* buffer) {
    const std::less_equal<const float*> not_after;
    if (not_after(held_begin_, x) && not_after(x + count, held_end_)) {
      return held_.data() + (x - held_begin_);
    }
    if (static_cast<int64_t>(buffer->size()) < count) buffer->resize(count);
    RoundToBf16(x, count, buffer->data());
    return buffer->data();
  }

  const Precision precision_;
  dnnl::engine engine_;
  dnnl::stream stream_;
  std::map<decltype(Key({})), Primitive> primitives_;
  const float* held_begin_ = nullptr;
  const float* held_end_ = nullptr;
  std::vector<uint16_t> held_, left_, right_;
  std::vector<uint8_t> scratch_;
  absl::Status status_;
};

class PlainProducts : public Products<double> {
 public:
  Precision precision() const override { return Precision::kF32; }
  const absl::Status& status() const override { return status_; }

  void Multiply(const ProductShape& s, const double* a, const double* b,
                double* c) override {
    const int64_t a_row = s.transpose_a ? 1 : s.k;
    const int64_t a_column = s.transpose_a ? s.m : 1;
    const int64_t b_row = s.transpose_b ? 1 : s.n;
    const int64_t b_column = s.transpose_b ? s.k : 1;
    for (int64_t batch = 0; batch < s.batch; ++batch) {
      for (int64_t i = 0; i < s.m; ++i) {
        for (int64_t j = 0; j < s.n; ++j) {
          double sum = 0;
          for (int64_t k = 0; k < s.k; ++k) {
            sum += a[i * a_row + k * a_column] * b[k * b_row + j * b_column];
          }
          c[i * s.n + j] = sum + (s.accumulate ? c[i * s.n + j] : 0);
        }
      }
      a += s.m * s.k;
      b += s.k * s.n;
      c += s.m * s.n;
    }
  }

  void Hold(const double*, int64_t) override {}
  void Release() override {}

 private:
  const absl::Status status_;
};

// Asks oneDNN for a product of bfloat16, as it knows the CPU best.
bool OneDnnHasBf16() {
  try {
    const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    const auto description = [](dnnl::memory::data_type type) {
      return dnnl::memory::desc({64, 64}, type, dnnl::memory::dims{64, 1});
    };
    const dnnl::matmul::primitive_desc probe(
        dnnl::matmul::desc(description(dnnl::memory::data_type::bf16),
                           description(dnnl::memory::data_type::bf16),
                           description(dnnl::memory::data_type::f32)),
        engine);
    return absl::string_view(probe.impl_info_str()).find("ref") ==
           absl::string_view::npos;
  } catch (const dnnl::error&) {
    return false;
  }
}

}  // namespace

bool HasNativeBf16() {
  static const bool has = [] {
    switch (dnnl::get_effective_cpu_isa()) {
      case dnnl::cpu_isa::avx512_core_bf16:
      case dnnl::cpu_isa::avx512_core_amx:
        return OneDnnHasBf16();
      default:
        return false;
    }
  }();
  return has;
}

template <>
absl::StatusOr<std::unique_ptr<Products<float>>> Products<float>::Create(
    Precision precision) {
  if (precision == Precision::kBf16 && !OneDnnHasBf16()) {
    return absl::FailedPreconditionError(
        "this CPU has no products of bfloat16; f32 is the precision left");
  }
  try {
    return std::make_unique<OneDnnProducts>(precision);
  } catch (const dnnl::error& error) {
    return absl::InternalError(absl::StrCat("oneDNN: ", error.what()));
  }
}

template <>
absl::StatusOr<std::unique_ptr<Products<double>>> Products<double>::Create(
    Precision precision) {
  if (precision == Precision::kBf16) {
    return absl::FailedPreconditionError("no bfloat16 products of doubles");
  }
  return std::make_unique<PlainProducts>();
}

POT_MULTIVERSION void RoundToBf16(const float* x, int64_t count,
                                  uint16_t* out) {
#pragma omp parallel for schedule(static) if (count > 1 << 14)
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, x + i, sizeof bits);
    out[i] = static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
}

}  // namespace pot
