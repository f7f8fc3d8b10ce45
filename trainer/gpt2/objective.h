// The loss of a batch and its gradient: trunk, head and, with distillation, a
// teacher.
#ifndef POT_TRAINER_GPT2_OBJECTIVE_H_
#define POT_TRAINER_GPT2_OBJECTIVE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/gpt2/head_loss.h"
#include "trainer/gpt2/parameter_layout.h"
#include "trainer/gpt2/trunk.h"
#include "trainer/math/products.h"

namespace pot {

// targets (B T): the tokens one later, or kNoTarget.
struct ObjectiveBatch {
  TrunkPass pass;
  const int32_t* targets = nullptr;
};

template <typename T>
class Objective {
 public:
  // `layout`, and `quantizer` unless null, must outlive this; so must `teacher`
  // and its parameters, unless null: a model of the same vocabulary, as it is,
  // without quantization. Errors as Products::Create.
  static absl::StatusOr<std::unique_ptr<Objective>> Create(
      const ParameterLayout* layout, const TrunkOptions& options,
      Precision precision, ActivationFakeQuantizer* quantizer,
      const ParameterLayout* teacher, absl::Span<const T> teacher_parameters);

  // Parameters for the calls that follow, until the next of these. Their values
  // must not change between.
  void SetParameters(absl::Span<const T> parameters);

  // Forward only.
  absl::StatusOr<LossSums> Evaluate(const ObjectiveBatch& batch,
                                    const LossOptions& options);

  // Forward and backward: adds the gradient of gradient_scale * (sum of the
  // losses of all predictions) to `gradients`.
  absl::StatusOr<LossSums> AddGradients(const ObjectiveBatch& batch,
                                        const LossOptions& options,
                                        double gradient_scale,
                                        absl::Span<T> gradients);

 private:
  Objective(const ParameterLayout* layout, const TrunkOptions& options,
            std::unique_ptr<Products<T>> products,
            ActivationFakeQuantizer* quantizer, const ParameterLayout* teacher,
            absl::Span<const T> teacher_parameters,
            std::unique_ptr<Products<T>> teacher_products);
  HeadInput<T> RunTeacher(const ObjectiveBatch& batch,
                          const LossOptions& options);
  absl::StatusOr<LossSums> Checked(const LossSums& sums) const;

  const ParameterLayout& layout_;
  std::unique_ptr<Products<T>> products_;
  Trunk<T> trunk_;
  absl::Span<const T> parameters_;
  ModelParameters<const T> view_;

  const ParameterLayout* const teacher_layout_;  // null without a teacher
  std::unique_ptr<Products<T>> teacher_products_;
  std::unique_ptr<Trunk<T>> teacher_;
  ModelParameters<const T> teacher_view_;

  HeadLoss<T> head_;
  std::vector<T> dhidden_;
};

}  // namespace pot

#endif  // POT_TRAINER_GPT2_OBJECTIVE_H_
