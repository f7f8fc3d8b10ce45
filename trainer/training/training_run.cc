#include "trainer/training/training_run.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "trainer/training/evaluate_text.h"

namespace pot {
namespace {

constexpr char kFormKey[] = "form";

// What a snapshot must have in common with the run that goes on from it.
std::string FormOf(const ParameterLayout& layout,
                   const TrainingOptions& options) {
  return absl::StrCat(layout.config().ToJson(),
                      options.qat.has_value() ? " quantized" : " float");
}

ActivationFakeQuantizeOptions Served(ActivationFakeQuantizeOptions options) {
  if (options.mode == ActivationFakeQuantization::kObserved) {
    options.mode = ActivationFakeQuantization::kAffine;
  }
  return options;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TrainingRun>> TrainingRun::Create(
    const ParameterLayout* layout, const TrainingOptions& options,
    const TokenCorpus* corpus, std::vector<float> parameters,
    const ParameterLayout* teacher,
    absl::Span<const float> teacher_parameters) {
  if (options.batch.context > layout->config().n_positions) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a context of ", options.batch.context,
        " is more than the model's limit of ", layout->config().n_positions));
  }
  if (corpus->vocab_size() > layout->config().vocab_size) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the text's vocabulary of ", corpus->vocab_size(),
        " is larger than the model's of ", layout->config().vocab_size));
  }
  if (teacher != nullptr &&
      teacher->config().vocab_size != layout->config().vocab_size) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the teacher's vocabulary has ", teacher->config().vocab_size,
        " tokens, the model's ", layout->config().vocab_size));
  }
  if (teacher != nullptr &&
      options.batch.context > teacher->config().n_positions) {
    return absl::InvalidArgumentError(
        absl::StrCat("a context of ", options.batch.context,
                     " is more than the teacher's limit of ",
                     teacher->config().n_positions));
  }
  POT_ASSIGN_OR_RETURN(BatchSampler sampler,
                       BatchSampler::Create(corpus, options.batch));
  try {
    std::unique_ptr<TrainingRun> run(new TrainingRun(
        layout, options, std::move(sampler), std::move(parameters)));
    POT_RETURN_IF_ERROR(run->Init(teacher, teacher_parameters));
    return run;
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory for the training's state");
  }
}

TrainingRun::TrainingRun(const ParameterLayout* layout,
                         const TrainingOptions& options, BatchSampler sampler,
                         std::vector<float> parameters)
    : layout_(*layout),
      options_(options),
      sampler_(std::move(sampler)),
      parameters_(std::move(parameters)),
      m_(parameters_.size()),
      v_(parameters_.size()),
      gradients_(parameters_.size()),
      inputs_(options.batch.sequences * options.batch.context),
      targets_(inputs_.size()) {}

absl::Status TrainingRun::Init(const ParameterLayout* teacher,
                               absl::Span<const float> teacher_parameters) {
  if (options_.qat.has_value()) {
    std::vector<int64_t> offsets;
    for (size_t i = 0; i < layout_.tensors().size(); ++i) {
      offsets.push_back(layout_.offset(static_cast<int>(i)));
    }
    POT_ASSIGN_OR_RETURN(
        quantizer_,
        ModelFakeQuantizer::Create(layout_.config(), std::move(offsets),
                                   layout_.size(), options_.qat->weights));
    const int sites = NumActivationSites(layout_.config());
    POT_ASSIGN_OR_RETURN(activations_, ActivationFakeQuantizer::Create(
                                           sites, options_.qat->activations));
    POT_ASSIGN_OR_RETURN(served_activations_,
                         ActivationFakeQuantizer::Create(
                             sites, Served(options_.qat->activations)));
    effective_.resize(parameters_.size());
    scale_m_.resize(quantizer_->log_scales().size());
    scale_v_.resize(scale_m_.size());
  }
  POT_ASSIGN_OR_RETURN(objective_,
                       Objective<float>::Create(
                           &layout_, {options_.dropout}, options_.precision,
                           activations_.has_value() ? &*activations_ : nullptr,
                           teacher, teacher_parameters));
  return absl::OkStatus();
}

absl::Span<const float> TrainingRun::Effective() {
  if (quantizer_ == nullptr) return parameters_;
  quantizer_->Forward(parameters_, absl::MakeSpan(effective_));
  return effective_;
}

absl::StatusOr<StepReport> TrainingRun::Step() {
  exportable_ = false;
  if (quantizer_ != nullptr && !quantizer_->frozen() &&
      static_cast<double>(step_) >=
          (1 - options_.qat->freeze_ratio) *
              static_cast<double>(options_.schedule.steps)) {
    quantizer_->FreezeCodes(parameters_);
  }
  objective_->SetParameters(Effective());
  std::fill(gradients_.begin(), gradients_.end(), 0.0f);

  const BatchOptions& batch = options_.batch;
  const int64_t positions = options_.loss.last_position ? 1 : batch.context;
  const auto predictions =
      static_cast<double>(batch.sequences * positions * batch.micro_batches);
  LossSums sums;
  for (int64_t micro = 0; micro < batch.micro_batches; ++micro) {
    sampler_.Fill(step_, micro, absl::MakeSpan(inputs_),
                  absl::MakeSpan(targets_));
    POT_ASSIGN_OR_RETURN(
        const LossSums part,
        objective_->AddGradients(
            {{.sequences = batch.sequences,
              .context = batch.context,
              .tokens = inputs_.data(),
              .dropout_seed = options_.seed,
              .dropout_step =
                  static_cast<uint64_t>(step_ * batch.micro_batches + micro)},
             targets_.data()},
            options_.loss, 1 / predictions, absl::MakeSpan(gradients_)));
    sums.Add(part);
  }
  if (quantizer_ != nullptr) {
    const absl::Span<float> scales = quantizer_->log_scale_gradients();
    std::fill(scales.begin(), scales.end(), 0.0f);
    quantizer_->Backward(parameters_, absl::MakeSpan(gradients_));
  }

  const double norm = std::sqrt(SumOfSquares(gradients_));
  if (!std::isfinite(norm)) {
    return absl::OutOfRangeError(
        absl::StrCat("the gradient of step ", step_ + 1, " is not finite"));
  }
  // 1e-6 as torch.nn.utils.clip_grad_norm_.
  const double scale = options_.clip_norm > 0
                           ? std::min(1.0, options_.clip_norm / (norm + 1e-6))
                           : 1.0;
  const double rate = options_.schedule.Rate(step_);
  ++step_;
  UpdateParameters(rate, scale);
  return StepReport{step_, sums.mean_loss(options_.loss), sums.mean_nats(),
                    rate, norm};
}

void TrainingRun::UpdateParameters(double rate, double gradient_scale) {
  for (size_t i = 0; i < layout_.tensors().size(); ++i) {
    const TensorSpec& tensor = layout_.tensors()[i];
    AdamWOptions optimizer = options_.optimizer;
    if (tensor.shape.size() < 2) optimizer.weight_decay = 0;
    const auto part = [&](std::vector<float>& x) {
      return absl::MakeSpan(x).subspan(layout_.offset(static_cast<int>(i)),
                                       tensor.num_elements());
    };
    AdamWStep(optimizer, rate, step_, gradient_scale, part(gradients_),
              part(m_), part(v_), part(parameters_));
  }
  if (scale_m_.empty()) return;
  AdamWOptions optimizer = options_.optimizer;
  optimizer.weight_decay = 0;
  AdamWStep(optimizer, rate * options_.qat->scale_rate_ratio, step_,
            gradient_scale, quantizer_->log_scale_gradients(),
            absl::MakeSpan(scale_m_), absl::MakeSpan(scale_v_),
            quantizer_->log_scales());
}

absl::StatusOr<LossSums> TrainingRun::Evaluate(
    const TokenCorpus& tokens, EvaluationProtocol protocol, int64_t max_tokens,
    const std::function<bool()>& stop) {
  POT_RETURN_IF_ERROR(ValidateProtocol(protocol, layout_.config().n_positions));
  if (evaluation_ == nullptr) {
    POT_ASSIGN_OR_RETURN(
        evaluation_,
        Objective<float>::Create(
            &layout_, TrunkOptions{}, Precision::kF32,
            served_activations_.has_value() ? &*served_activations_ : nullptr,
            nullptr, {}));
  }
  if (quantizer_ != nullptr) quantizer_->RequestSearch();
  evaluation_->SetParameters(Effective());

  POT_ASSIGN_OR_RETURN(
      const LossSums sums,
      EvaluateText(tokens, protocol, max_tokens, stop, evaluation_.get()));
  exportable_ = true;
  return sums;
}

absl::StatusOr<std::string> TrainingRun::Save(
    const std::string& directory, const SnapshotMetadata& notes) const {
  SnapshotTensors tensors = {{"parameters", ViewOf(parameters_)},
                             {"adamw.m", ViewOf(m_)},
                             {"adamw.v", ViewOf(v_)}};
  if (quantizer_ != nullptr) {
    tensors.emplace_back("scales.m", ViewOf(scale_m_));
    tensors.emplace_back("scales.v", ViewOf(scale_v_));
    StateTensors state = quantizer_->State();
    activations_->AppendState("activations.", &state);
    tensors.insert(tensors.end(), state.begin(), state.end());
  }
  SnapshotMetadata metadata = notes;
  metadata[kFormKey] = FormOf(layout_, options_);
  return WriteSnapshot(directory, step_, tensors, metadata);
}

absl::Status TrainingRun::Restore(const Snapshot& snapshot) {
  const auto form = snapshot.metadata().find(kFormKey);
  if (form == snapshot.metadata().end() ||
      form->second != FormOf(layout_, options_)) {
    return absl::FailedPreconditionError(absl::StrCat(
        snapshot.path(), ": a snapshot of another model or training"));
  }
  std::vector<SnapshotTarget> targets = {
      TargetOf("parameters", absl::MakeSpan(parameters_)),
      TargetOf("adamw.m", absl::MakeSpan(m_)),
      TargetOf("adamw.v", absl::MakeSpan(v_))};
  // The quantizer's tensors depend on what it has gone through.
  std::map<std::string, std::vector<uint8_t>> state;
  if (quantizer_ != nullptr) {
    targets.push_back(TargetOf("scales.m", absl::MakeSpan(scale_m_)));
    targets.push_back(TargetOf("scales.v", absl::MakeSpan(scale_v_)));
    for (const auto& [name, tensor] : snapshot.tensors()) {
      if (std::any_of(targets.begin(), targets.end(),
                      [&](const auto& t) { return t.name == name; })) {
        continue;
      }
      state[name].resize(tensor.num_bytes);
      targets.push_back(
          {name, tensor.type, tensor.shape, absl::MakeSpan(state[name])});
    }
  }
  POT_RETURN_IF_ERROR(snapshot.Read(targets));
  if (quantizer_ != nullptr) {
    TensorMap views;
    for (const auto& [name, tensor] : snapshot.tensors()) {
      if (state.contains(name)) {
        views[name] = TensorView{tensor.type, tensor.shape, state[name]};
      }
    }
    POT_RETURN_IF_ERROR(quantizer_->Restore(views));
    POT_RETURN_IF_ERROR(activations_->Restore("activations.", views));
  }
  step_ = snapshot.step();
  exportable_ = false;
  return absl::OkStatus();
}

absl::Status TrainingRun::ExportQuantized(
    const std::map<std::string, std::string>& files,
    const CheckpointProvenance& provenance,
    const std::string& directory) const {
  if (quantizer_ == nullptr) {
    return absl::FailedPreconditionError(
        "a training without quantization has no exponents to export");
  }
  if (!exportable_) {
    return absl::FailedPreconditionError(
        "only what the last evaluation saw can be exported");
  }
  return quantizer_->Export(parameters_, files, provenance, directory);
}

}  // namespace pot
