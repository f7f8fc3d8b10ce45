#include "trainer/gpt2/parameter_layout.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "engine/base/transpose.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/gpt2/float_model.h"

namespace pot {
ParameterLayout::ParameterLayout(const Gpt2Config& config)
    : config_(config), tensors_(Gpt2Tensors(config)) {
  for (const TensorSpec& tensor : tensors_) {
    offsets_.push_back(size_);
    size_ += (tensor.num_elements() + kAlignment - 1) / kAlignment * kAlignment;
  }
}

int ParameterLayout::Find(const std::string& name) const {
  const auto found =
      std::find_if(tensors_.begin(), tensors_.end(),
                   [&](const TensorSpec& t) { return t.name == name; });
  return static_cast<int>(found - tensors_.begin());
}

absl::Status ParameterLayout::Read(const std::string& directory,
                                   absl::Span<float> parameters) const {
  POT_ASSIGN_OR_RETURN(const FloatModel model, FloatModel::Open(directory));
  if (model.config().ToJson() != config_.ToJson()) {
    return absl::FailedPreconditionError(
        absl::StrCat(directory, ": config.json is not that of the model"));
  }
  std::fill(parameters.begin(), parameters.end(), 0.0f);
  for (size_t i = 0; i < tensors_.size(); ++i) {
    POT_RETURN_IF_ERROR(ReadTensor(model, static_cast<int>(i), parameters));
  }
  return absl::OkStatus();
}

absl::Status ParameterLayout::ReadTensor(const FloatModel& model, int index,
                                         absl::Span<float> parameters) const {
  const TensorSpec& tensor = tensors_[index];
  POT_ASSIGN_OR_RETURN(const std::vector<float> values, model.Read(tensor));
  float* const out = parameters.data() + offsets_[index];
  if (tensor.kind == TensorKind::kConv1d) {
    Transpose(values.data(), tensor.cols(), tensor.rows(), out);
  } else {
    std::copy(values.begin(), values.end(), out);
  }
  return absl::OkStatus();
}

absl::Status ParameterLayout::Write(const std::string& directory,
                                    absl::Span<const float> parameters) const {
  // Conv1d matrices in the file's order; the others are written from where
  // they are.
  std::vector<std::vector<float>> transposed;
  transposed.reserve(tensors_.size());
  std::vector<std::pair<std::string, TensorView>> views;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const TensorSpec& tensor = tensors_[i];
    const float* values = parameters.data() + offsets_[i];
    if (tensor.kind == TensorKind::kConv1d) {
      transposed.emplace_back(tensor.num_elements());
      Transpose(values, tensor.rows(), tensor.cols(), transposed.back().data());
      values = transposed.back().data();
    }
    views.emplace_back(tensor.name,
                       TensorView{TensorType::kF32,
                                  tensor.shape,
                                  {reinterpret_cast<const uint8_t*>(values),
                                   tensor.num_elements() * sizeof(float)}});
  }
  POT_RETURN_IF_ERROR(
      WriteFile(absl::StrCat(directory, "/", kConfigFile), config_.ToJson()));
  return WriteSafetensors(directory + "/model.safetensors", views,
                          {{"format", "pt"}});
}

template <typename T>
ModelParameters<T> ViewParameters(const ParameterLayout& layout, T* buffer) {
  // The order of Gpt2Tensors().
  int next = 0;
  const auto take = [&] { return buffer + layout.offset(next++); };
  ModelParameters<T> view;
  view.wte = take();
  view.wpe = take();
  view.layers.resize(layout.config().n_layer);
  for (LayerParameters<T>& layer : view.layers) {
    for (T** pointer :
         {&layer.ln1_gain, &layer.ln1_bias, &layer.attn_w, &layer.attn_b,
          &layer.proj_w, &layer.proj_b, &layer.ln2_gain, &layer.ln2_bias,
          &layer.fc_w, &layer.fc_b, &layer.mlp_w, &layer.mlp_b}) {
      *pointer = take();
    }
  }
  view.lnf_gain = take();
  view.lnf_bias = take();
  view.head = layout.config().tie_word_embeddings ? view.wte : take();
  return view;
}

template ModelParameters<float> ViewParameters(const ParameterLayout&, float*);
template ModelParameters<const float> ViewParameters(const ParameterLayout&,
                                                     const float*);
template ModelParameters<double> ViewParameters(const ParameterLayout&,
                                                double*);
template ModelParameters<const double> ViewParameters(const ParameterLayout&,
                                                      const double*);

}  // namespace pot
