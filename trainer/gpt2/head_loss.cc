#include "trainer/gpt2/head_loss.h"

#include <algorithm>
#include <cmath>

#include "trainer/base/multiversion.h"
#include "trainer/base/parallel.h"
#include "trainer/math/elementary.h"

namespace pot {
namespace {

// Logits of one call of the product: 80 MB, so that the head, which is read
// again for every call, is read twice for 768 rows of GPT-2.
constexpr int64_t kMaxLogits = 20000000;

// What one row adds to LossSums.
template <typename T>
struct RowLoss {
  T nats = 0;
  T kl = 0;
  bool agrees = false;
};

template <typename T>
POT_INLINE T LogSumExpScaled(const T* x, int64_t count, T scale, T most) {
  return most * scale + std::log(LaneSum<T>(count, [=](int64_t i) {
           return VectorExp((x[i] - most) * scale);
         }));
}

// One row: logits[V] become their gradient, unless `gradient_scale` is 0.
//   d CE / dz = softmax(z) - onehot(target)
//   d t^2 KL(u || z) / dz = t (softmax(z / t) - softmax(u / t))
template <typename T>
POT_INLINE RowLoss<T> LossRow(const T* teacher, int64_t vocab_size,
                              int32_t target, T cross_entropy_weight,
                              T distillation_weight, T temperature,
                              T gradient_scale, T* logits) {
  RowLoss<T> loss;
  const T most = LaneMax(logits, vocab_size);
  const T lse = LogSumExpScaled(logits, vocab_size, T{1}, most);
  loss.nats = lse - logits[target];
  const T ce = cross_entropy_weight * gradient_scale;
  if (teacher == nullptr) {
    if (gradient_scale != 0) {
      for (int64_t i = 0; i < vocab_size; ++i) {
        logits[i] = ce * VectorExp(logits[i] - lse);
      }
      logits[target] -= ce;
    }
    return loss;
  }
  const T cold = T{1} / temperature;
  const T teacher_most = LaneMax(teacher, vocab_size);
  const T teacher_lse =
      LogSumExpScaled(teacher, vocab_size, cold, teacher_most);
  const T cold_lse = temperature == T{1}
                         ? lse
                         : LogSumExpScaled(logits, vocab_size, cold, most);
  // Rounding may leave a sum of zeros a little below zero.
  loss.kl = std::max(T{0}, LaneSum<T>(vocab_size, [=](int64_t i) {
                       const T log_q = teacher[i] * cold - teacher_lse;
                       const T log_p = logits[i] * cold - cold_lse;
                       return VectorExp(log_q) * (log_q - log_p);
                     }));
  int64_t student_top = 0, teacher_top = 0;
  while (logits[student_top] != most && student_top + 1 < vocab_size) {
    ++student_top;
  }
  while (teacher[teacher_top] != teacher_most && teacher_top + 1 < vocab_size) {
    ++teacher_top;
  }
  loss.agrees = student_top == teacher_top;
  if (gradient_scale != 0) {
    const T kl = distillation_weight * temperature * gradient_scale;
    for (int64_t i = 0; i < vocab_size; ++i) {
      const T difference = VectorExp(logits[i] * cold - cold_lse) -
                           VectorExp(teacher[i] * cold - teacher_lse);
      logits[i] = ce * VectorExp(logits[i] - lse) + kl * difference;
    }
    logits[target] -= ce;
  }
  return loss;
}

POT_MULTIVERSION RowLoss<float> LossOfRow(const float* teacher,
                                          int64_t vocab_size, int32_t target,
                                          float cross_entropy_weight,
                                          float distillation_weight,
                                          float temperature,
                                          float gradient_scale, float* logits) {
  return LossRow(teacher, vocab_size, target, cross_entropy_weight,
                 distillation_weight, temperature, gradient_scale, logits);
}
RowLoss<double> LossOfRow(const double* teacher, int64_t vocab_size,
                          int32_t target, double cross_entropy_weight,
                          double distillation_weight, double temperature,
                          double gradient_scale, double* logits) {
  return LossRow(teacher, vocab_size, target, cross_entropy_weight,
                 distillation_weight, temperature, gradient_scale, logits);
}

// Row `context - 1` of each sequence of x (rows, width).
template <typename T>
void GatherLast(const T* x, int64_t rows, int64_t context, int64_t width,
                std::vector<T>* last) {
  last->resize(rows / context * width);
  for (int64_t b = 0; b < rows / context; ++b) {
    std::copy_n(x + ((b + 1) * context - 1) * width, width,
                last->begin() + b * width);
  }
}

}  // namespace

void LossSums::Add(const LossSums& other) {
  predictions += other.predictions;
  nats += other.nats;
  nats_squared += other.nats_squared;
  kl += other.kl;
  top1_agreements += other.top1_agreements;
}

double LossSums::mean_nats() const {
  return predictions == 0 ? 0 : nats / static_cast<double>(predictions);
}

double LossSums::mean_loss(const LossOptions& options) const {
  if (predictions == 0) return 0;
  return (options.cross_entropy_weight * nats + options.distillation_weight *
                                                    options.temperature *
                                                    options.temperature * kl) /
         static_cast<double>(predictions);
}

template <typename T>
HeadLoss<T>::HeadLoss(int64_t vocab_size, int64_t channels,
                      Products<T>* products, Products<T>* teacher_products)
    : vocab_size_(vocab_size),
      channels_(channels),
      products_(products),
      teacher_products_(teacher_products) {}

template <typename T>
LossSums HeadLoss<T>::Run(const HeadInput<T>& student,
                          const HeadInput<T>& teacher, int64_t teacher_channels,
                          const int32_t* targets, int64_t rows, int64_t context,
                          const LossOptions& options, double gradient_scale,
                          T* dhidden, T* dhead) {
  if (!options.last_position) {
    return RunRows(student, teacher, teacher_channels, targets, rows, options,
                   gradient_scale, dhidden, dhead);
  }
  HeadInput<T> last = student, teacher_last = teacher;
  GatherLast(student.hidden, rows, context, channels_, &gathered_);
  last.hidden = gathered_.data();
  if (teacher.hidden != nullptr) {
    GatherLast(teacher.hidden, rows, context, teacher_channels,
               &teacher_gathered_);
    teacher_last.hidden = teacher_gathered_.data();
  }
  GatherLast(targets, rows, context, 1, &gathered_targets_);
  const int64_t count = rows / context;
  if (dhidden != nullptr) dgathered_.resize(count * channels_);
  const LossSums sums =
      RunRows(last, teacher_last, teacher_channels, gathered_targets_.data(),
              count, options, gradient_scale,
              dhidden == nullptr ? nullptr : dgathered_.data(), dhead);
  if (dhidden != nullptr) {
    std::fill_n(dhidden, rows * channels_, T{0});
    for (int64_t b = 0; b < count; ++b) {
      std::copy_n(dgathered_.begin() + b * channels_, channels_,
                  dhidden + ((b + 1) * context - 1) * channels_);
    }
  }
  return sums;
}

template <typename T>
LossSums HeadLoss<T>::RunRows(const HeadInput<T>& student,
                              const HeadInput<T>& teacher,
                              int64_t teacher_channels, const int32_t* targets,
                              int64_t rows, const LossOptions& options,
                              double gradient_scale, T* dhidden, T* dhead) {
  const int64_t V = vocab_size_, C = channels_;
  const int64_t most = std::clamp<int64_t>(kMaxLogits / V, 1, rows);
  // Calls of about one size.
  const int64_t calls = (rows + most - 1) / most;
  const int64_t chunk = (rows + calls - 1) / calls;
  logits_.resize(std::max<size_t>(logits_.size(), chunk * V));
  if (teacher.hidden != nullptr) {
    teacher_logits_.resize(std::max<size_t>(teacher_logits_.size(), chunk * V));
  }
  std::vector<RowLoss<T>> losses(chunk);
  LossSums sums;
  for (int64_t first = 0; first < rows; first += chunk) {
    const int64_t count = std::min(chunk, rows - first);
    products_->Multiply({.m = count, .n = V, .k = C, .transpose_b = true},
                        student.hidden + first * C, student.head,
                        logits_.data());
    if (teacher.hidden != nullptr) {
      teacher_products_->Multiply(
          {.m = count, .n = V, .k = teacher_channels, .transpose_b = true},
          teacher.hidden + first * teacher_channels, teacher.head,
          teacher_logits_.data());
    }
    ParallelFor(count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        if (targets[first + row] == kNoTarget) {
          std::fill_n(logits_.begin() + row * V, V, T{0});
          continue;
        }
        losses[row] = LossOfRow(
            teacher.hidden == nullptr ? nullptr
                                      : teacher_logits_.data() + row * V,
            V, targets[first + row], T(options.cross_entropy_weight),
            T(options.distillation_weight), T(options.temperature),
            dhidden == nullptr ? T{0} : T(gradient_scale),
            logits_.data() + row * V);
      }
    });
    for (int64_t row = 0; row < count; ++row) {
      if (targets[first + row] == kNoTarget) continue;
      ++sums.predictions;
      const double nats = losses[row].nats;
      sums.nats += nats;
      sums.nats_squared += nats * nats;
      sums.kl += losses[row].kl;
      sums.top1_agreements += losses[row].agrees ? 1 : 0;
    }
    if (dhidden == nullptr) continue;
    products_->Multiply(
        {.m = V, .n = C, .k = count, .transpose_a = true, .accumulate = true},
        logits_.data(), student.hidden + first * C, dhead);
    products_->Multiply({.m = count, .n = C, .k = V}, logits_.data(),
                        student.head, dhidden + first * C);
  }
  return sums;
}

template class HeadLoss<float>;
template class HeadLoss<double>;

}  // namespace pot
