#include "server/training/qat_job_spec.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <set>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/version_store.h"
#include "engine/quant/granularity.h"
#include "engine/quant/pot_format.h"
#include "engine/quant/pot_quantizer.h"
#include "server/serving/alias_store.h"
#include "server/serving/field_errors.h"

namespace pot {
namespace {

constexpr int64_t kMaxSteps = 10000000;
constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxInt64 = std::numeric_limits<int64_t>::max();
// A token of text takes 4 bytes of the worker's memory.
constexpr int64_t kMaxSampledTokens = int64_t{1} << 32;

// "(0, 1]", "[0, inf)"; false for NaN.
bool IsInside(absl::string_view interval, double value) {
  const size_t comma = interval.find(", ");
  double low = 0;
  double high = 0;
  if (!absl::SimpleAtod(interval.substr(1, comma - 1), &low) ||
      !absl::SimpleAtod(interval.substr(comma + 2, interval.size() - comma - 3),
                        &high)) {
    return false;
  }
  return (interval.front() == '(' ? value > low : value >= low) &&
         (interval.back() == ')' ? value < high : value <= high);
}

// Shortest text that reads back as the same double.
std::string DoubleText(double value) {
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value).ptr;
  return std::string(buffer, end);
}

absl::Status Real(absl::string_view field, double value,
                  absl::string_view interval) {
  if (IsInside(interval, value)) return absl::OkStatus();
  return RangeError(field, interval, DoubleText(value));
}

template <typename Enum>
absl::Status Known(absl::string_view field, Enum value, bool (*is_valid)(int)) {
  if (is_valid(static_cast<int>(value))) return absl::OkStatus();
  return FieldError("INVALID_FIELD", field,
                    absl::StrCat("is a value that this server does not know: ",
                                 static_cast<int>(value)),
                    "", absl::StrCat(static_cast<int>(value)));
}

// What the engine says about a field.
absl::Status InField(const absl::Status& status, absl::string_view field,
                     absl::string_view value) {
  if (status.ok()) return status;
  return FieldError("INVALID_FIELD", field,
                    absl::StrCat("is not possible: ", status.message()), "",
                    Quote(value));
}

absl::Status FillData(int64_t context, v1::TrainingData* data) {
  switch (data->source_case()) {
    case v1::TrainingData::kDatasets: {
      const auto& digests = data->datasets().sha256();
      POT_RETURN_IF_ERROR(CheckRange("spec.data.datasets.sha256",
                                     digests.size(), 1, kMaxJobDatasets));
      for (int i = 0; i < digests.size(); ++i) {
        POT_RETURN_IF_ERROR(CheckSha256(
            absl::StrCat("spec.data.datasets.sha256[", i, "]"), digests[i]));
      }
      break;
    }
    case v1::TrainingData::kSelfGenerated: {
      v1::SelfGeneratedData* const self = data->mutable_self_generated();
      const std::string prefix = "spec.data.self_generated.";
      if (!self->has_tokens()) {
        self->set_tokens(std::max<int64_t>(1048576, 4 * context));
      }
      POT_RETURN_IF_ERROR(CheckRange(prefix + "tokens", self->tokens(),
                                     4 * context, kMaxSampledTokens));
      if (!self->has_temperature()) self->set_temperature(1);
      POT_RETURN_IF_ERROR(
          Real(prefix + "temperature", self->temperature(), "(0, 10]"));
      if (!self->has_greedy_prefix_tokens()) {
        self->set_greedy_prefix_tokens(
            static_cast<int32_t>(std::min<int64_t>(4, context - 1)));
      }
      POT_RETURN_IF_ERROR(CheckRange(prefix + "greedy_prefix_tokens",
                                     self->greedy_prefix_tokens(), 0,
                                     context - 1));
      break;
    }
    case v1::TrainingData::SOURCE_NOT_SET:
      return FieldError("MISSING_FIELD", "spec.data.source",
                        "is missing: datasets or self_generated", "", "");
  }
  if (!data->validation_sha256().empty()) {
    POT_RETURN_IF_ERROR(
        CheckSha256("spec.data.validation_sha256", data->validation_sha256()));
  }
  if (!data->has_holdout_ratio()) data->set_holdout_ratio(0.1);
  return Real("spec.data.holdout_ratio", data->holdout_ratio(), "(0, 0.5]");
}

absl::Status CheckWeights(const std::string& prefix, const std::string& format,
                          const std::string& granularity, QuantizeMode mode) {
  QuantizeOptions options;
  options.mode = mode;
  const auto found = FindPotFormat(format);
  POT_RETURN_IF_ERROR(InField(found.status(), prefix + "format", format));
  options.format = *found;
  const auto parsed = Granularity::Parse(granularity);
  POT_RETURN_IF_ERROR(
      InField(parsed.status(), prefix + "granularity", granularity));
  options.granularity = *parsed;
  return InField(CheckQuantizeOptions(options), prefix + "format", format);
}

absl::Status FillQuantization(v1::Quantization* quantization) {
  const std::string prefix = "spec.quantization.";
  if (quantization->format().empty()) {
    return FieldError("MISSING_FIELD", prefix + "format", "is missing", "", "");
  }
  if (quantization->granularity().empty()) quantization->set_granularity("row");
  if (quantization->method().empty()) quantization->set_method("nearest");
  if (quantization->embedding_format().empty()) {
    quantization->set_embedding_format(quantization->format());
  }
  if (quantization->embedding_granularity().empty()) {
    quantization->set_embedding_granularity(quantization->granularity());
  }
  const auto mode = ParseQuantizeMode(quantization->method());
  POT_RETURN_IF_ERROR(
      InField(mode.status(), prefix + "method", quantization->method()));
  POT_RETURN_IF_ERROR(CheckWeights(prefix, quantization->format(),
                                   quantization->granularity(), *mode));
  return CheckWeights(prefix + "embedding_", quantization->embedding_format(),
                      quantization->embedding_granularity(), *mode);
}

absl::Status FillOptimizer(v1::Optimizer* optimizer) {
  const std::string prefix = "spec.optimizer.";
  if (!optimizer->has_learning_rate()) optimizer->set_learning_rate(2e-4);
  if (!optimizer->has_beta1()) optimizer->set_beta1(0.9);
  if (!optimizer->has_beta2()) optimizer->set_beta2(0.95);
  if (!optimizer->has_epsilon()) optimizer->set_epsilon(1e-8);
  if (!optimizer->has_weight_decay()) optimizer->set_weight_decay(0);
  if (!optimizer->has_clip_norm()) optimizer->set_clip_norm(1);
  POT_RETURN_IF_ERROR(
      Real(prefix + "learning_rate", optimizer->learning_rate(), "(0, 1]"));
  POT_RETURN_IF_ERROR(Real(prefix + "beta1", optimizer->beta1(), "[0, 1)"));
  POT_RETURN_IF_ERROR(Real(prefix + "beta2", optimizer->beta2(), "[0, 1)"));
  POT_RETURN_IF_ERROR(
      Real(prefix + "epsilon", optimizer->epsilon(), "(0, inf)"));
  POT_RETURN_IF_ERROR(
      Real(prefix + "weight_decay", optimizer->weight_decay(), "[0, 1]"));
  return Real(prefix + "clip_norm", optimizer->clip_norm(), "[0, inf)");
}

absl::Status FillSchedule(v1::Schedule* schedule) {
  const std::string prefix = "spec.schedule.";
  if (!schedule->has_steps()) schedule->set_steps(2000);
  POT_RETURN_IF_ERROR(
      CheckRange(prefix + "steps", schedule->steps(), 1, kMaxSteps));
  if (!schedule->has_warmup_steps()) {
    schedule->set_warmup_steps(schedule->steps() / 50);
  }
  POT_RETURN_IF_ERROR(CheckRange(
      prefix + "warmup_steps", schedule->warmup_steps(), 0, schedule->steps()));
  if (schedule->shape() == v1::SCHEDULE_SHAPE_UNSPECIFIED) {
    schedule->set_shape(v1::SCHEDULE_SHAPE_COSINE);
  }
  POT_RETURN_IF_ERROR(
      Known(prefix + "shape", schedule->shape(), &v1::ScheduleShape_IsValid));
  if (!schedule->has_final_ratio()) schedule->set_final_ratio(0);
  POT_RETURN_IF_ERROR(
      Real(prefix + "final_ratio", schedule->final_ratio(), "[0, 1]"));
  if (!schedule->has_patience_evaluations()) {
    schedule->set_patience_evaluations(0);
  }
  return CheckRange(prefix + "patience_evaluations",
                    schedule->patience_evaluations(), 0, kMaxInt32);
}

absl::Status FillBatch(int64_t positions, v1::BatchShape* batch) {
  const std::string prefix = "spec.batch.";
  if (!batch->has_sequences()) batch->set_sequences(12);
  if (!batch->has_accumulation()) batch->set_accumulation(1);
  if (!batch->has_context())
    batch->set_context(static_cast<int32_t>(positions));
  POT_RETURN_IF_ERROR(
      CheckRange(prefix + "sequences", batch->sequences(), 1, 4096));
  POT_RETURN_IF_ERROR(
      CheckRange(prefix + "accumulation", batch->accumulation(), 1, 4096));
  return CheckRange(prefix + "context", batch->context(), 2, positions);
}

absl::Status FillLoss(v1::QatJobSpec* spec) {
  v1::Loss* const loss = spec->mutable_loss();
  if (loss->positions() == v1::LOSS_POSITIONS_UNSPECIFIED) {
    loss->set_positions(v1::LOSS_POSITIONS_ALL);
  }
  POT_RETURN_IF_ERROR(Known("spec.loss.positions", loss->positions(),
                            &v1::LossPositions_IsValid));
  if (!loss->has_cross_entropy_weight()) loss->set_cross_entropy_weight(1);
  POT_RETURN_IF_ERROR(Real("spec.loss.cross_entropy_weight",
                           loss->cross_entropy_weight(), "[0, inf)"));
  double total = loss->cross_entropy_weight();
  if (spec->has_distillation()) {
    v1::Distillation* const distillation = spec->mutable_distillation();
    const std::string prefix = "spec.distillation.";
    if (!distillation->has_weight()) distillation->set_weight(1);
    if (!distillation->has_temperature()) distillation->set_temperature(1);
    POT_RETURN_IF_ERROR(
        Real(prefix + "weight", distillation->weight(), "[0, inf)"));
    POT_RETURN_IF_ERROR(
        Real(prefix + "temperature", distillation->temperature(), "(0, 100]"));
    total += distillation->weight();
  }
  if (total > 0) return absl::OkStatus();
  return FieldError("INVALID_FIELD", "spec.loss.cross_entropy_weight",
                    "must be greater than 0 where there is no distillation "
                    "weight: the loss would be 0",
                    "(0, inf)", "0");
}

absl::Status FillMethod(v1::QatJobSpec* spec) {
  if (spec->activations() == v1::ACTIVATION_QUANTIZATION_UNSPECIFIED) {
    spec->set_activations(v1::ACTIVATION_QUANTIZATION_AFFINE);
  }
  POT_RETURN_IF_ERROR(Known("spec.activations", spec->activations(),
                            &v1::ActivationQuantization_IsValid));
  if (spec->straight_through() == v1::STRAIGHT_THROUGH_UNSPECIFIED) {
    spec->set_straight_through(v1::STRAIGHT_THROUGH_CLIPPED);
  }
  POT_RETURN_IF_ERROR(Known("spec.straight_through", spec->straight_through(),
                            &v1::StraightThrough_IsValid));
  POT_RETURN_IF_ERROR(Known("spec.precision", spec->precision(),
                            &v1::TrainingPrecision_IsValid));
  if (spec->has_learned_scales()) {
    v1::LearnedScales* const scales = spec->mutable_learned_scales();
    if (!scales->has_learning_rate_ratio()) scales->set_learning_rate_ratio(10);
    POT_RETURN_IF_ERROR(Real("spec.learned_scales.learning_rate_ratio",
                             scales->learning_rate_ratio(), "(0, 1000]"));
  }
  if (spec->has_code_freeze()) {
    v1::CodeFreeze* const freeze = spec->mutable_code_freeze();
    if (!freeze->has_final_ratio()) freeze->set_final_ratio(0.1);
    POT_RETURN_IF_ERROR(
        Real("spec.code_freeze.final_ratio", freeze->final_ratio(), "(0, 1]"));
  }
  if (!spec->has_dropout()) spec->set_dropout(0);
  if (!spec->has_seed()) spec->set_seed(0);
  return Real("spec.dropout", spec->dropout(), "[0, 1)");
}

absl::Status FillEvaluation(int64_t positions, v1::QatJobSpec* spec) {
  v1::Evaluation* const evaluation = spec->mutable_evaluation();
  const std::string prefix = "spec.evaluation.";
  if (!evaluation->has_every_steps()) {
    evaluation->set_every_steps(
        std::max<int64_t>(1, spec->schedule().steps() / 20));
  }
  POT_RETURN_IF_ERROR(CheckRange(prefix + "every_steps",
                                 evaluation->every_steps(), 1, kMaxInt64));
  if (!evaluation->has_window()) {
    evaluation->set_window(spec->batch().context());
  }
  POT_RETURN_IF_ERROR(
      CheckRange(prefix + "window", evaluation->window(), 1, positions));
  if (!evaluation->has_stride()) evaluation->set_stride(evaluation->window());
  POT_RETURN_IF_ERROR(CheckRange(prefix + "stride", evaluation->stride(), 1,
                                 evaluation->window()));
  if (evaluation->has_max_tokens()) {
    POT_RETURN_IF_ERROR(CheckRange(prefix + "max_tokens",
                                   evaluation->max_tokens(), 2, kMaxInt64));
  }
  v1::SnapshotPolicy* const snapshots = spec->mutable_snapshots();
  if (!snapshots->has_every_steps()) {
    snapshots->set_every_steps(evaluation->every_steps());
  }
  if (!snapshots->has_keep_checkpoints()) snapshots->set_keep_checkpoints(3);
  POT_RETURN_IF_ERROR(CheckRange("spec.snapshots.every_steps",
                                 snapshots->every_steps(), 1, kMaxInt64));
  return CheckRange("spec.snapshots.keep_checkpoints",
                    snapshots->keep_checkpoints(), 1, 100);
}

absl::Status CheckGate(const v1::QualityGate& gate) {
  const std::string prefix = "spec.gate.";
  if (gate.has_max_perplexity_ratio()) {
    POT_RETURN_IF_ERROR(Real(prefix + "max_perplexity_ratio",
                             gate.max_perplexity_ratio(), "(0, inf)"));
  }
  if (gate.has_max_perplexity()) {
    POT_RETURN_IF_ERROR(
        Real(prefix + "max_perplexity", gate.max_perplexity(), "[1, inf)"));
  }
  if (gate.has_max_mean_kl_nats()) {
    POT_RETURN_IF_ERROR(
        Real(prefix + "max_mean_kl_nats", gate.max_mean_kl_nats(), "[0, inf)"));
  }
  if (gate.has_min_top1_agreement()) {
    POT_RETURN_IF_ERROR(Real(prefix + "min_top1_agreement",
                             gate.min_top1_agreement(), "[0, 1]"));
  }
  return absl::OkStatus();
}

absl::Status FillPublish(const std::string& base, v1::PublishPolicy* publish) {
  const std::string prefix = "spec.publish.";
  if (publish->name().empty()) publish->set_name(base);
  if (publish->alias().empty()) publish->set_alias("default");
  POT_RETURN_IF_ERROR(InField(ValidateModelName(publish->name()),
                              prefix + "name", publish->name()));
  POT_RETURN_IF_ERROR(InField(ValidateAlias(publish->alias()), prefix + "alias",
                              publish->alias()));
  if (!publish->has_auto_rollback()) return absl::OkStatus();
  v1::AutoRollback* const rollback = publish->mutable_auto_rollback();
  const std::string path = prefix + "auto_rollback.";
  if (!rollback->has_window_seconds()) rollback->set_window_seconds(300);
  if (!rollback->has_max_error_ratio()) rollback->set_max_error_ratio(0.05);
  if (!rollback->has_min_calls()) rollback->set_min_calls(20);
  POT_RETURN_IF_ERROR(
      Real(path + "window_seconds", rollback->window_seconds(), "(0, 86400]"));
  POT_RETURN_IF_ERROR(
      Real(path + "max_error_ratio", rollback->max_error_ratio(), "(0, 1]"));
  return CheckRange(path + "min_calls", rollback->min_calls(), 1, kMaxInt32);
}

}  // namespace

absl::Status FillQatJobSpec(const Gpt2Config& base, const std::string& name,
                            v1::QatJobSpec* spec) {
  POT_RETURN_IF_ERROR(FillBatch(base.n_positions, spec->mutable_batch()));
  POT_RETURN_IF_ERROR(FillData(spec->batch().context(), spec->mutable_data()));
  POT_RETURN_IF_ERROR(FillQuantization(spec->mutable_quantization()));
  POT_RETURN_IF_ERROR(FillOptimizer(spec->mutable_optimizer()));
  POT_RETURN_IF_ERROR(FillSchedule(spec->mutable_schedule()));
  POT_RETURN_IF_ERROR(FillLoss(spec));
  POT_RETURN_IF_ERROR(FillMethod(spec));
  POT_RETURN_IF_ERROR(FillEvaluation(base.n_positions, spec));
  if (spec->has_gate()) POT_RETURN_IF_ERROR(CheckGate(spec->gate()));
  return FillPublish(name, spec->mutable_publish());
}

}  // namespace pot
