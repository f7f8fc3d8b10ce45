#include "trainer/gpt2/objective.h"

#include <cmath>
#include <new>
#include <utility>

#include "engine/base/status_macros.h"

namespace pot {

template <typename T>
absl::StatusOr<std::unique_ptr<Objective<T>>> Objective<T>::Create(
    const ParameterLayout* layout, const TrunkOptions& options,
    Precision precision, ActivationFakeQuantizer* quantizer,
    const ParameterLayout* teacher, absl::Span<const T> teacher_parameters) {
  POT_ASSIGN_OR_RETURN(auto products, Products<T>::Create(precision));
  std::unique_ptr<Products<T>> teacher_products;
  if (teacher != nullptr) {
    POT_ASSIGN_OR_RETURN(teacher_products, Products<T>::Create(precision));
  }
  std::unique_ptr<Objective> objective(
      new Objective(layout, options, std::move(products), quantizer, teacher,
                    teacher_parameters, std::move(teacher_products)));
  if (teacher != nullptr) {
    POT_RETURN_IF_ERROR(objective->teacher_products_->status());
  }
  return objective;
}

template <typename T>
Objective<T>::Objective(const ParameterLayout* layout,
                        const TrunkOptions& options,
                        std::unique_ptr<Products<T>> products,
                        ActivationFakeQuantizer* quantizer,
                        const ParameterLayout* teacher,
                        absl::Span<const T> teacher_parameters,
                        std::unique_ptr<Products<T>> teacher_products)
    : layout_(*layout),
      products_(std::move(products)),
      trunk_(layout->config(), options, products_.get(), quantizer),
      teacher_layout_(teacher),
      teacher_products_(std::move(teacher_products)),
      head_(layout->config().vocab_size, layout->config().n_embd,
            products_.get(), teacher_products_.get()) {
  if (teacher == nullptr) return;
  teacher_products_->Hold(teacher_parameters.data(),
                          static_cast<int64_t>(teacher_parameters.size()));
  teacher_ = std::make_unique<Trunk<T>>(teacher->config(), TrunkOptions{},
                                        teacher_products_.get(), nullptr);
  teacher_view_ = ViewParameters(*teacher, teacher_parameters.data());
}

template <typename T>
void Objective<T>::SetParameters(absl::Span<const T> parameters) {
  parameters_ = parameters;
  view_ = ViewParameters(layout_, parameters.data());
  products_->Hold(parameters.data(), static_cast<int64_t>(parameters.size()));
}

template <typename T>
HeadInput<T> Objective<T>::RunTeacher(const ObjectiveBatch& batch,
                                      const LossOptions& options) {
  if (teacher_ == nullptr || options.distillation_weight == 0) return {};
  TrunkPass pass = batch.pass;
  pass.training = false;
  return {teacher_->Forward(teacher_view_, pass).data(), teacher_view_.head};
}

template <typename T>
absl::StatusOr<LossSums> Objective<T>::Evaluate(const ObjectiveBatch& batch,
                                                const LossOptions& options) {
  try {
    const HeadInput<T> teacher = RunTeacher(batch, options);
    TrunkPass pass = batch.pass;
    pass.training = false;
    const absl::Span<const T> hidden = trunk_.Forward(view_, pass);
    return Checked(head_.Run(
        {hidden.data(), view_.head}, teacher,
        teacher_layout_ == nullptr ? 0 : teacher_layout_->config().n_embd,
        batch.targets, pass.rows(), pass.context, options, 0, nullptr,
        nullptr));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory for a forward pass");
  }
}

template <typename T>
absl::StatusOr<LossSums> Objective<T>::AddGradients(const ObjectiveBatch& batch,
                                                    const LossOptions& options,
                                                    double gradient_scale,
                                                    absl::Span<T> gradients) {
  try {
    const HeadInput<T> teacher = RunTeacher(batch, options);
    TrunkPass pass = batch.pass;
    pass.training = true;
    const absl::Span<const T> hidden = trunk_.Forward(view_, pass);
    const ModelParameters<T> gradient_view =
        ViewParameters(layout_, gradients.data());
    if (dhidden_.size() < hidden.size()) dhidden_.resize(hidden.size());
    const LossSums sums = head_.Run(
        {hidden.data(), view_.head}, teacher,
        teacher_layout_ == nullptr ? 0 : teacher_layout_->config().n_embd,
        batch.targets, pass.rows(), pass.context, options, gradient_scale,
        dhidden_.data(), gradient_view.head);
    trunk_.Backward(view_, pass, dhidden_.data(), gradient_view);
    return Checked(sums);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory for a training pass");
  }
}

template <typename T>
absl::StatusOr<LossSums> Objective<T>::Checked(const LossSums& sums) const {
  POT_RETURN_IF_ERROR(products_->status());
  if (teacher_products_ != nullptr) {
    POT_RETURN_IF_ERROR(teacher_products_->status());
  }
  if (!std::isfinite(sums.nats) || !std::isfinite(sums.kl)) {
    return absl::OutOfRangeError("the loss is not finite");
  }
  return sums;
}

template class Objective<float>;
template class Objective<double>;

}  // namespace pot
