// The head's product and the loss on its logits, in one: (rows, V) logits
// would be the largest buffer of all, so they are made and used up some rows
// at a time.
#ifndef POT_TRAINER_GPT2_HEAD_LOSS_H_
#define POT_TRAINER_GPT2_HEAD_LOSS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "trainer/math/products.h"

namespace pot {

struct LossOptions {
  // Of -log p(target).
  double cross_entropy_weight = 1;
  // Of temperature^2 KL(teacher || student), both at softmax(logits /
  // temperature); arXiv 1503.02531. Without a teacher there is no such term.
  double distillation_weight = 0;
  double temperature = 1;
  // Only the last position of each sequence counts, as in arXiv 2601.02298.
  bool last_position = false;
};

// Sums over the predictions that count. Nats are of the loss at temperature 1.
struct LossSums {
  int64_t predictions = 0;
  double nats = 0;
  double nats_squared = 0;
  double kl = 0;  // KL(teacher || student) at the loss's temperature
  int64_t top1_agreements = 0;  // with the teacher

  void Add(const LossSums& other);
  double mean_nats() const;
  // The weighted sum of both terms, per prediction: what is minimized.
  double mean_loss(const LossOptions& options) const;
};

// A prediction that does not count.
inline constexpr int32_t kNoTarget = -1;

// What comes into the head: logits = hidden head^T.
template <typename T>
struct HeadInput {
  const T* hidden = nullptr;  // (rows, C)
  const T* head = nullptr;    // (V, C)
};

template <typename T>
class HeadLoss {
 public:
  // `products`, of student and of teacher, must outlive this. The teacher's may
  // be null when there is none.
  HeadLoss(int64_t vocab_size, int64_t channels, Products<T>* products,
           Products<T>* teacher_products);

  // targets (rows), rows = sequences * context, each a token or kNoTarget. A teacher has hidden == nullptr
  // when there is none. When `dhidden` (rows, C) is not null it is set to the
  // gradient of gradient_scale * (sum of the losses of all predictions that
  // count), and the head's is added to `dhead` (V, C).
  LossSums Run(const HeadInput<T>& student, const HeadInput<T>& teacher,
               int64_t teacher_channels, const int32_t* targets, int64_t rows,
               int64_t context, const LossOptions& options,
               double gradient_scale, T* dhidden, T* dhead);

 private:
  // Of rows that lie one after the other.
  LossSums RunRows(const HeadInput<T>& student, const HeadInput<T>& teacher,
                   int64_t teacher_channels, const int32_t* targets,
                   int64_t rows, const LossOptions& options,
                   double gradient_scale, T* dhidden, T* dhead);

  const int64_t vocab_size_;
  const int64_t channels_;
  Products<T>* const products_;
  Products<T>* const teacher_products_;
  std::vector<T> logits_, teacher_logits_;  // (some rows, V)
  std::vector<T> gathered_, teacher_gathered_, dgathered_;
  std::vector<int32_t> gathered_targets_;
};

}  // namespace pot

#endif  // POT_TRAINER_GPT2_HEAD_LOSS_H_
