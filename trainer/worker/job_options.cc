#include "trainer/worker/job_options.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/quant/pot_quantizer.h"
#include "pot/v1/qat_job.pb.h"

namespace pot {
namespace {

constexpr int64_t kMaxSteps = 10000000;
constexpr int64_t kMaxBatch = 4096;
constexpr int64_t kMaxSelfTokens = int64_t{1} << 32;
constexpr int64_t kMaxInt64 = std::numeric_limits<int64_t>::max();

absl::Status Require(bool holds, absl::string_view field,
                     absl::string_view limit, const absl::AlphaNum& value) {
  if (holds) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("spec.", field, " must be in ", limit, "; it is ", value));
}

// In [low, high].
absl::Status RequireCount(absl::string_view field, int64_t value, int64_t low,
                          int64_t high) {
  return Require(value >= low && value <= high, field,
                 absl::StrCat("[", low, ", ", high, "]"), value);
}

absl::Status UnknownValue(absl::string_view field, int value) {
  return absl::InvalidArgumentError(absl::StrCat(
      "spec.", field, " has a value that this worker does not know: ", value));
}

absl::Status In(absl::string_view field, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat("spec.", field, ": ", status.message()));
}

absl::Status ScheduleOf(const v1::QatJobSpec& spec, Schedule* schedule) {
  const v1::Schedule& given = spec.schedule();
  schedule->peak = spec.optimizer().has_learning_rate()
                       ? spec.optimizer().learning_rate()
                       : 2e-4;
  schedule->steps = given.has_steps() ? given.steps() : 2000;
  schedule->final_ratio = given.final_ratio();
  POT_RETURN_IF_ERROR(Require(schedule->peak > 0 && schedule->peak <= 1,
                              "optimizer.learning_rate", "(0, 1]",
                              schedule->peak));
  POT_RETURN_IF_ERROR(
      RequireCount("schedule.steps", schedule->steps, 1, kMaxSteps));
  schedule->warmup_steps =
      given.has_warmup_steps() ? given.warmup_steps() : schedule->steps / 50;
  POT_RETURN_IF_ERROR(RequireCount("schedule.warmup_steps",
                                   schedule->warmup_steps, 0, schedule->steps));
  POT_RETURN_IF_ERROR(
      Require(schedule->final_ratio >= 0 && schedule->final_ratio <= 1,
              "schedule.final_ratio", "[0, 1]", schedule->final_ratio));
  switch (given.shape()) {
    case v1::SCHEDULE_SHAPE_UNSPECIFIED:
    case v1::SCHEDULE_SHAPE_COSINE:
      schedule->shape = ScheduleShape::kCosine;
      return absl::OkStatus();
    case v1::SCHEDULE_SHAPE_LINEAR:
      schedule->shape = ScheduleShape::kLinear;
      return absl::OkStatus();
    case v1::SCHEDULE_SHAPE_CONSTANT:
      schedule->shape = ScheduleShape::kConstant;
      return absl::OkStatus();
    default:
      return UnknownValue("schedule.shape", given.shape());
  }
}

absl::Status OptimizerOf(const v1::Optimizer& given, TrainingOptions* options) {
  AdamWOptions& adamw = options->optimizer;
  if (given.has_beta1()) adamw.beta1 = given.beta1();
  if (given.has_beta2()) adamw.beta2 = given.beta2();
  if (given.has_epsilon()) adamw.epsilon = given.epsilon();
  adamw.weight_decay = given.weight_decay();
  if (given.has_clip_norm()) options->clip_norm = given.clip_norm();
  POT_RETURN_IF_ERROR(Require(adamw.beta1 >= 0 && adamw.beta1 < 1,
                              "optimizer.beta1", "[0, 1)", adamw.beta1));
  POT_RETURN_IF_ERROR(Require(adamw.beta2 >= 0 && adamw.beta2 < 1,
                              "optimizer.beta2", "[0, 1)", adamw.beta2));
  POT_RETURN_IF_ERROR(Require(adamw.epsilon > 0 && std::isfinite(adamw.epsilon),
                              "optimizer.epsilon", "(0, inf)", adamw.epsilon));
  POT_RETURN_IF_ERROR(
      Require(adamw.weight_decay >= 0 && adamw.weight_decay <= 1,
              "optimizer.weight_decay", "[0, 1]", adamw.weight_decay));
  return Require(options->clip_norm >= 0 && std::isfinite(options->clip_norm),
                 "optimizer.clip_norm", "[0, inf)", options->clip_norm);
}

absl::Status BatchOf(const v1::BatchShape& given, int64_t n_positions,
                     BatchOptions* batch) {
  batch->sequences = given.has_sequences() ? given.sequences() : 12;
  batch->micro_batches = given.has_accumulation() ? given.accumulation() : 1;
  batch->context = given.has_context() ? given.context() : n_positions;
  POT_RETURN_IF_ERROR(
      RequireCount("batch.sequences", batch->sequences, 1, kMaxBatch));
  POT_RETURN_IF_ERROR(
      RequireCount("batch.accumulation", batch->micro_batches, 1, kMaxBatch));
  return RequireCount("batch.context", batch->context, 2, n_positions);
}

absl::Status LossOf(const v1::QatJobSpec& spec, LossOptions* loss) {
  switch (spec.loss().positions()) {
    case v1::LOSS_POSITIONS_UNSPECIFIED:
    case v1::LOSS_POSITIONS_ALL:
      loss->last_position = false;
      break;
    case v1::LOSS_POSITIONS_LAST:
      loss->last_position = true;
      break;
    default:
      return UnknownValue("loss.positions", spec.loss().positions());
  }
  if (spec.loss().has_cross_entropy_weight()) {
    loss->cross_entropy_weight = spec.loss().cross_entropy_weight();
  }
  POT_RETURN_IF_ERROR(Require(loss->cross_entropy_weight >= 0 &&
                                  std::isfinite(loss->cross_entropy_weight),
                              "loss.cross_entropy_weight", "[0, inf)",
                              loss->cross_entropy_weight));
  loss->distillation_weight = 0;
  if (spec.has_distillation()) {
    const v1::Distillation& given = spec.distillation();
    loss->distillation_weight = given.has_weight() ? given.weight() : 1;
    loss->temperature = given.has_temperature() ? given.temperature() : 1;
    POT_RETURN_IF_ERROR(Require(loss->distillation_weight >= 0 &&
                                    std::isfinite(loss->distillation_weight),
                                "distillation.weight", "[0, inf)",
                                loss->distillation_weight));
    POT_RETURN_IF_ERROR(
        Require(loss->temperature > 0 && loss->temperature <= 100,
                "distillation.temperature", "(0, 100]", loss->temperature));
  }
  return Require(loss->cross_entropy_weight + loss->distillation_weight > 0,
                 "loss.cross_entropy_weight",
                 "(0, inf) where there is no distillation weight", 0);
}

absl::StatusOr<QuantizeOptions> WeightsOf(const std::string& prefix,
                                          const std::string& format,
                                          const std::string& granularity,
                                          QuantizeMode mode) {
  QuantizeOptions options;
  options.mode = mode;
  const auto found = FindPotFormat(format);
  POT_RETURN_IF_ERROR(In(prefix + "format", found.status()));
  options.format = *found;
  const auto parsed = Granularity::Parse(granularity);
  POT_RETURN_IF_ERROR(In(prefix + "granularity", parsed.status()));
  options.granularity = *parsed;
  POT_RETURN_IF_ERROR(In(prefix + "format", CheckQuantizeOptions(options)));
  return options;
}

const std::string& Or(const std::string& given, const std::string& otherwise) {
  return given.empty() ? otherwise : given;
}

absl::Status QuantizationOf(const v1::QatJobSpec& spec,
                            ModelFakeQuantizeOptions* weights) {
  const v1::Quantization& given = spec.quantization();
  const auto mode = ParseQuantizeMode(Or(given.method(), "nearest"));
  POT_RETURN_IF_ERROR(In("quantization.method", mode.status()));
  const std::string row = "row";
  const std::string& granularity = Or(given.granularity(), row);
  POT_ASSIGN_OR_RETURN(
      weights->layers.quantize,
      WeightsOf("quantization.", given.format(), granularity, *mode));
  POT_ASSIGN_OR_RETURN(
      weights->embedding.quantize,
      WeightsOf("quantization.embedding_",
                Or(given.embedding_format(), given.format()),
                Or(given.embedding_granularity(), granularity), *mode));
  StraightThrough straight_through = StraightThrough::kClipped;
  switch (spec.straight_through()) {
    case v1::STRAIGHT_THROUGH_UNSPECIFIED:
    case v1::STRAIGHT_THROUGH_CLIPPED:
      break;
    case v1::STRAIGHT_THROUGH_IDENTITY:
      straight_through = StraightThrough::kIdentity;
      break;
    default:
      return UnknownValue("straight_through", spec.straight_through());
  }
  for (FakeQuantizeOptions* options : {&weights->layers, &weights->embedding}) {
    options->straight_through = straight_through;
    options->learned_scales = spec.has_learned_scales();
  }
  return absl::OkStatus();
}

absl::Status QatOf(const v1::QatJobSpec& spec, QatOptions* qat) {
  POT_RETURN_IF_ERROR(QuantizationOf(spec, &qat->weights));
  switch (spec.activations()) {
    case v1::ACTIVATION_QUANTIZATION_UNSPECIFIED:
    case v1::ACTIVATION_QUANTIZATION_AFFINE:
      qat->activations.mode = ActivationFakeQuantization::kAffine;
      break;
    case v1::ACTIVATION_QUANTIZATION_SYMMETRIC:
      qat->activations.mode = ActivationFakeQuantization::kSymmetric;
      break;
    case v1::ACTIVATION_QUANTIZATION_OBSERVED:
      qat->activations.mode = ActivationFakeQuantization::kObserved;
      break;
    case v1::ACTIVATION_QUANTIZATION_FLOAT:
      qat->activations.mode = ActivationFakeQuantization::kFloat;
      break;
    default:
      return UnknownValue("activations", spec.activations());
  }
  if (spec.learned_scales().has_learning_rate_ratio()) {
    qat->scale_rate_ratio = spec.learned_scales().learning_rate_ratio();
  }
  POT_RETURN_IF_ERROR(
      Require(qat->scale_rate_ratio > 0 && qat->scale_rate_ratio <= 1000,
              "learned_scales.learning_rate_ratio", "(0, 1000]",
              qat->scale_rate_ratio));
  qat->freeze_ratio = 0;
  if (spec.has_code_freeze()) {
    qat->freeze_ratio = spec.code_freeze().has_final_ratio()
                            ? spec.code_freeze().final_ratio()
                            : 0.1;
    POT_RETURN_IF_ERROR(Require(qat->freeze_ratio > 0 && qat->freeze_ratio <= 1,
                                "code_freeze.final_ratio", "(0, 1]",
                                qat->freeze_ratio));
  }
  return absl::OkStatus();
}

absl::Status PrecisionOf(v1::TrainingPrecision given, Precision* precision) {
  switch (given) {
    case v1::TRAINING_PRECISION_UNSPECIFIED:
      *precision = HasNativeBf16() ? Precision::kBf16 : Precision::kF32;
      return absl::OkStatus();
    case v1::TRAINING_PRECISION_F32:
      *precision = Precision::kF32;
      return absl::OkStatus();
    case v1::TRAINING_PRECISION_BF16:
      *precision = Precision::kBf16;
      return absl::OkStatus();
    default:
      return UnknownValue("precision", given);
  }
}

absl::Status LoopOf(const v1::QatJobSpec& spec, int64_t n_positions,
                    const TrainingOptions& training, LoopOptions* loop) {
  const v1::Evaluation& given = spec.evaluation();
  loop->evaluate_start = true;
  loop->evaluate_every =
      given.has_every_steps()
          ? given.every_steps()
          : std::max<int64_t>(1, training.schedule.steps / 20);
  POT_RETURN_IF_ERROR(RequireCount("evaluation.every_steps",
                                   loop->evaluate_every, 1, kMaxInt64));
  loop->protocol.window =
      given.has_window() ? given.window() : training.batch.context;
  POT_RETURN_IF_ERROR(
      RequireCount("evaluation.window", loop->protocol.window, 1, n_positions));
  loop->protocol.stride =
      given.has_stride() ? given.stride() : loop->protocol.window;
  POT_RETURN_IF_ERROR(RequireCount("evaluation.stride", loop->protocol.stride,
                                   1, loop->protocol.window));
  if (given.has_max_tokens()) {
    loop->evaluation_tokens = given.max_tokens();
    POT_RETURN_IF_ERROR(RequireCount("evaluation.max_tokens",
                                     loop->evaluation_tokens, 2, kMaxInt64));
  }
  loop->patience = spec.schedule().patience_evaluations();
  POT_RETURN_IF_ERROR(RequireCount("schedule.patience_evaluations",
                                   loop->patience, 0,
                                   std::numeric_limits<int32_t>::max()));
  loop->snapshot_every = spec.snapshots().has_every_steps()
                             ? spec.snapshots().every_steps()
                             : loop->evaluate_every;
  return RequireCount("snapshots.every_steps", loop->snapshot_every, 1,
                      kMaxInt64);
}

absl::Status DataOf(const v1::TrainingData& data, JobOptions* options) {
  if (data.has_holdout_ratio()) options->holdout_ratio = data.holdout_ratio();
  POT_RETURN_IF_ERROR(
      Require(options->holdout_ratio > 0 && options->holdout_ratio <= 0.5,
              "data.holdout_ratio", "(0, 0.5]", options->holdout_ratio));
  switch (data.source_case()) {
    case v1::TrainingData::kDatasets:
      return absl::OkStatus();
    case v1::TrainingData::kSelfGenerated:
      break;
    case v1::TrainingData::SOURCE_NOT_SET:
      return absl::InvalidArgumentError(
          "spec.data.source is missing: datasets or self_generated");
  }
  const v1::SelfGeneratedData& given = data.self_generated();
  BatchOptions& batch = options->training.batch;
  SelfTextOptions self;
  if (given.has_tokens()) self.tokens = given.tokens();
  if (given.has_temperature()) {
    self.temperature = static_cast<float>(given.temperature());
  }
  self.greedy_tokens = given.has_greedy_prefix_tokens()
                           ? given.greedy_prefix_tokens()
                           : std::min<int64_t>(4, batch.context - 1);
  POT_RETURN_IF_ERROR(RequireCount("data.self_generated.tokens", self.tokens,
                                   4 * batch.context, kMaxSelfTokens));
  POT_RETURN_IF_ERROR(Require(self.temperature > 0 && self.temperature <= 10,
                              "data.self_generated.temperature", "(0, 10]",
                              self.temperature));
  POT_RETURN_IF_ERROR(RequireCount("data.self_generated.greedy_prefix_tokens",
                                   self.greedy_tokens, 0, batch.context - 1));
  self.sequence_tokens = batch.context + 1;
  self.seed = options->training.seed;
  batch.stride = self.sequence_tokens;
  options->self_text = self;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<JobOptions> JobOptionsOf(const v1::QatJobSpec& spec,
                                        const Gpt2Config& base) {
  JobOptions options;
  TrainingOptions& training = options.training;
  POT_RETURN_IF_ERROR(ScheduleOf(spec, &training.schedule));
  POT_RETURN_IF_ERROR(OptimizerOf(spec.optimizer(), &training));
  POT_RETURN_IF_ERROR(BatchOf(spec.batch(), base.n_positions, &training.batch));
  training.seed = spec.seed();
  training.batch.seed = spec.seed();
  POT_RETURN_IF_ERROR(LossOf(spec, &training.loss));
  training.dropout = spec.dropout();
  POT_RETURN_IF_ERROR(Require(training.dropout >= 0 && training.dropout < 1,
                              "dropout", "[0, 1)", training.dropout));
  POT_RETURN_IF_ERROR(PrecisionOf(spec.precision(), &training.precision));
  POT_RETURN_IF_ERROR(QatOf(spec, &training.qat.emplace()));
  POT_RETURN_IF_ERROR(LoopOf(spec, base.n_positions, training, &options.loop));
  POT_RETURN_IF_ERROR(DataOf(spec.data(), &options));
  return options;
}

}  // namespace pot
