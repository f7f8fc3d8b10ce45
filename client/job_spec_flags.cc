#include "client/job_spec_flags.h"

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/flags.h"
#include "client/model_ref.h"
#include "client/quality_gate.h"
#include "client/text_format.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

using v1::QatJobSpec;

// A flag whose value `set` writes into a specification.
template <typename T>
void AddField(const Command& app, SpecEdits* edits, const std::string& name,
              void (*set)(QatJobSpec*, T), const std::string& description) {
  AddValueFlag<T>(
      app, name,
      [edits, set](const T& value) {
        edits->Add([set, value](QatJobSpec* spec) { set(spec, value); });
      },
      description);
}

// A flag whose value is a name of an enumerator.
template <typename Enum>
void AddChoice(const Command& app, SpecEdits* edits, const std::string& name,
               const std::vector<std::pair<std::string, Enum>>& choices,
               void (*set)(QatJobSpec*, Enum), const std::string& description) {
  std::vector<std::string> names;
  for (const auto& choice : choices) names.push_back(choice.first);
  const std::map<std::string, Enum> values(choices.begin(), choices.end());
  AddValueFlag<std::string>(
      app, name,
      [edits, set, values](const std::string& text) {
        const Enum value = values.at(text);
        edits->Add([set, value](QatJobSpec* spec) { set(spec, value); });
      },
      description)
      .OneOf(names);
}

// "--x", and "--x=false", which undoes what the file says.
void AddSwitch(const Command& app, SpecEdits* edits, const std::string& name,
               void (*set)(QatJobSpec*, bool), const std::string& description) {
  app.AddSwitch(
      name,
      [edits, set](int64_t count) {
        const bool on = count > 0;
        const auto edit = [set, on](QatJobSpec* spec) { set(spec, on); };
        if (on) {
          edits->Add(edit);
        } else {
          edits->AddRemoval(edit);
        }
      },
      description);
}

void AddQuantizationFlags(const Command& app, SpecEdits* edits) {
  app.SetFlagGroup("Quantization");
  AddField<std::string>(
      app, edits, "--format",
      [](QatJobSpec* s, std::string v) {
        s->mutable_quantization()->set_format(v);
      },
      "Number format, e.g. pot4, pot3 or twohot4 [pot4]");
  AddField<std::string>(
      app, edits, "--granularity",
      [](QatJobSpec* s, std::string v) {
        s->mutable_quantization()->set_granularity(v);
      },
      "Weights that share a scale: tensor, row, g32, g64 or g128 [row]");
  AddField<std::string>(
      app, edits, "--method",
      [](QatJobSpec* s, std::string v) {
        s->mutable_quantization()->set_method(v);
      },
      "How codes are chosen: paper or nearest [nearest]");
  AddField<std::string>(
      app, edits, "--embedding-format",
      [](QatJobSpec* s, std::string v) {
        s->mutable_quantization()->set_embedding_format(v);
      },
      "Number format of the token embedding [--format]");
  AddField<std::string>(
      app, edits, "--embedding-granularity",
      [](QatJobSpec* s, std::string v) {
        s->mutable_quantization()->set_embedding_granularity(v);
      },
      "Weights of the embedding that share a scale [--granularity]");
  AddChoice<v1::ActivationQuantization>(
      app, edits, "--activations",
      {{"affine", v1::ACTIVATION_QUANTIZATION_AFFINE},
       {"symmetric", v1::ACTIVATION_QUANTIZATION_SYMMETRIC},
       {"observed", v1::ACTIVATION_QUANTIZATION_OBSERVED},
       {"float", v1::ACTIVATION_QUANTIZATION_FLOAT}},
      [](QatJobSpec* s, v1::ActivationQuantization v) {
        s->set_activations(v);
      },
      "Inputs of quantized products [affine]");
  AddChoice<v1::StraightThrough>(
      app, edits, "--ste",
      {{"clipped", v1::STRAIGHT_THROUGH_CLIPPED},
       {"identity", v1::STRAIGHT_THROUGH_IDENTITY}},
      [](QatJobSpec* s, v1::StraightThrough v) { s->set_straight_through(v); },
      "Gradient of rounding; the papers' is identity [clipped]");
  AddSwitch(
      app, edits, "--learned-scales",
      [](QatJobSpec* s, bool on) {
        on ? (void)s->mutable_learned_scales() : s->clear_learned_scales();
      },
      "Train scales, too, as LSQ does");
  AddField<double>(
      app, edits, "--scale-lr-ratio",
      [](QatJobSpec* s, double v) {
        s->mutable_learned_scales()->set_learning_rate_ratio(v);
      },
      "Learning rate of --learned-scales over --lr [10]");
  AddSwitch(
      app, edits, "--freeze",
      [](QatJobSpec* s, bool on) {
        on ? (void)s->mutable_code_freeze() : s->clear_code_freeze();
      },
      "Hold codes fixed for the end of the run");
  AddField<double>(
      app, edits, "--freeze-ratio",
      [](QatJobSpec* s, double v) {
        s->mutable_code_freeze()->set_final_ratio(v);
      },
      "Share of the steps of --freeze [0.1]");
}

void AddOptimizerFlags(const Command& app, SpecEdits* edits) {
  app.SetFlagGroup("Training");
  AddField<int64_t>(
      app, edits, "--steps",
      [](QatJobSpec* s, int64_t v) { s->mutable_schedule()->set_steps(v); },
      "Optimizer steps [2000]");
  AddField<double>(
      app, edits, "--lr",
      [](QatJobSpec* s, double v) {
        s->mutable_optimizer()->set_learning_rate(v);
      },
      "Peak learning rate [2e-4]");
  AddField<int64_t>(
      app, edits, "--warmup",
      [](QatJobSpec* s, int64_t v) {
        s->mutable_schedule()->set_warmup_steps(v);
      },
      "Steps of the learning rate's rise from 0 [2 % of --steps]");
  AddChoice<v1::ScheduleShape>(
      app, edits, "--schedule",
      {{"cosine", v1::SCHEDULE_SHAPE_COSINE},
       {"linear", v1::SCHEDULE_SHAPE_LINEAR},
       {"constant", v1::SCHEDULE_SHAPE_CONSTANT}},
      [](QatJobSpec* s, v1::ScheduleShape v) {
        s->mutable_schedule()->set_shape(v);
      },
      "Learning rate after the warm-up [cosine]");
  AddField<double>(
      app, edits, "--final-lr-ratio",
      [](QatJobSpec* s, double v) {
        s->mutable_schedule()->set_final_ratio(v);
      },
      "Learning rate at the end over --lr [0]");
  AddField<int32_t>(
      app, edits, "--patience",
      [](QatJobSpec* s, int32_t v) {
        s->mutable_schedule()->set_patience_evaluations(v);
      },
      "Stop after this many evaluations without a better one [0: never]");
  AddField<int32_t>(
      app, edits, "--batch",
      [](QatJobSpec* s, int32_t v) { s->mutable_batch()->set_sequences(v); },
      "Sequences per forward pass [12]");
  AddField<int32_t>(
      app, edits, "--accumulation",
      [](QatJobSpec* s, int32_t v) { s->mutable_batch()->set_accumulation(v); },
      "Forward passes per step [1]");
  AddField<int32_t>(
      app, edits, "--context",
      [](QatJobSpec* s, int32_t v) { s->mutable_batch()->set_context(v); },
      "Tokens per sequence [context length of the base]");
  AddField<double>(
      app, edits, "--dropout",
      [](QatJobSpec* s, double v) { s->set_dropout(v); }, "Of every layer [0]");
  AddField<double>(
      app, edits, "--weight-decay",
      [](QatJobSpec* s, double v) {
        s->mutable_optimizer()->set_weight_decay(v);
      },
      "AdamW's, on matrices [0]");
  AddField<double>(
      app, edits, "--clip-norm",
      [](QatJobSpec* s, double v) { s->mutable_optimizer()->set_clip_norm(v); },
      "Largest norm of the gradient; 0 does not clip [1]");
  AddField<double>(
      app, edits, "--beta1",
      [](QatJobSpec* s, double v) { s->mutable_optimizer()->set_beta1(v); },
      "AdamW's [0.9]");
  AddField<double>(
      app, edits, "--beta2",
      [](QatJobSpec* s, double v) { s->mutable_optimizer()->set_beta2(v); },
      "AdamW's [0.95]");
  AddField<double>(
      app, edits, "--epsilon",
      [](QatJobSpec* s, double v) { s->mutable_optimizer()->set_epsilon(v); },
      "AdamW's [1e-8]");
  AddChoice<v1::TrainingPrecision>(
      app, edits, "--precision",
      {{"f32", v1::TRAINING_PRECISION_F32},
       {"bf16", v1::TRAINING_PRECISION_BF16}},
      [](QatJobSpec* s, v1::TrainingPrecision v) { s->set_precision(v); },
      "Of products [bf16 where the worker's CPU has it]");
  AddField<uint64_t>(
      app, edits, "--seed", [](QatJobSpec* s, uint64_t v) { s->set_seed(v); },
      "Of data order, dropout and sampling [0]");
}

void AddLossFlags(const Command& app, SpecEdits* edits) {
  app.SetFlagGroup("Loss");
  AddChoice<v1::LossPositions>(
      app, edits, "--loss",
      {{"all", v1::LOSS_POSITIONS_ALL},
       {"last-token", v1::LOSS_POSITIONS_LAST}},
      [](QatJobSpec* s, v1::LossPositions v) {
        s->mutable_loss()->set_positions(v);
      },
      "Positions that count; the papers' is last-token [all]");
  AddField<double>(
      app, edits, "--cross-entropy-weight",
      [](QatJobSpec* s, double v) {
        s->mutable_loss()->set_cross_entropy_weight(v);
      },
      "Of the cross-entropy with the text [1]");
  AddSwitch(
      app, edits, "--distill",
      [](QatJobSpec* s, bool on) {
        on ? (void)s->mutable_distillation() : s->clear_distillation();
      },
      "Add the KL divergence from a teacher's logits to the loss");
  app.AddSwitch(
      "--no-distill",
      [edits](int64_t count) {
        if (count <= 0) return;
        edits->AddRemoval([](QatJobSpec* s) { s->clear_distillation(); });
      },
      "No distillation, whatever the job's file says");
  AddField<double>(
      app, edits, "--distill-weight",
      [](QatJobSpec* s, double v) { s->mutable_distillation()->set_weight(v); },
      "Of that term [1]");
  AddField<double>(
      app, edits, "--distill-temperature",
      [](QatJobSpec* s, double v) {
        s->mutable_distillation()->set_temperature(v);
      },
      "Divides the logits of both [1]");
  app.AddParsedFlag(
         "--teacher",
         [edits](const std::string& text) -> absl::Status {
           POT_ASSIGN_OR_RETURN(const v1::ModelRef teacher,
                                ParseModelRef(text));
           edits->Add([teacher](QatJobSpec* spec) {
             *spec->mutable_distillation()->mutable_teacher() = teacher;
           });
           return absl::OkStatus();
         },
         "Model to learn from [--base]")
      .TypeName("MODEL");
  for (const char* const name : {"--distill", "--distill-weight",
                                 "--distill-temperature", "--teacher"}) {
    app.FindFlag("--no-distill").Excludes(app.FindFlag(name));
  }
}

void AddEvaluationFlags(const Command& app, SpecEdits* edits) {
  app.SetFlagGroup("Evaluation and snapshots");
  AddField<int64_t>(
      app, edits, "--eval-every",
      [](QatJobSpec* s, int64_t v) {
        s->mutable_evaluation()->set_every_steps(v);
      },
      "Steps between evaluations [a twentieth of --steps]");
  AddField<int64_t>(
      app, edits, "--eval-tokens",
      [](QatJobSpec* s, int64_t v) {
        s->mutable_evaluation()->set_max_tokens(v);
      },
      "Evaluate on this many tokens [all]");
  AddField<int32_t>(
      app, edits, "--eval-window",
      [](QatJobSpec* s, int32_t v) { s->mutable_evaluation()->set_window(v); },
      "Input tokens per window [--context]");
  AddField<int32_t>(
      app, edits, "--eval-stride",
      [](QatJobSpec* s, int32_t v) { s->mutable_evaluation()->set_stride(v); },
      "Tokens between beginnings of windows [--eval-window]");
  AddField<int64_t>(
      app, edits, "--snapshot-every",
      [](QatJobSpec* s, int64_t v) {
        s->mutable_snapshots()->set_every_steps(v);
      },
      "Steps between snapshots [--eval-every]");
  AddField<int32_t>(
      app, edits, "--keep-checkpoints",
      [](QatJobSpec* s, int32_t v) {
        s->mutable_snapshots()->set_keep_checkpoints(v);
      },
      "The best ones, and the last [3]");
}

void AddPublishFlags(const Command& app, SpecEdits* edits) {
  app.SetFlagGroup("Gate and publication");
  app.AddParsedFlag(
         "--gate",
         [edits](const std::string& text) -> absl::Status {
           v1::QualityGate gate;
           if (text != "none") {
             POT_ASSIGN_OR_RETURN(gate, ParseQualityGate(text));
           }
           edits->Add(
               [gate](QatJobSpec* spec) { *spec->mutable_gate() = gate; });
           return absl::OkStatus();
         },
         "Conditions of publication, e.g. ppl<=1.02x,kl<=0.05,top1>=0.9; or "
         "none [none]")
      .TypeName("CONDITION,..");
  AddField<std::string>(
      app, edits, "--publish-as",
      [](QatJobSpec* s, std::string v) { s->mutable_publish()->set_name(v); },
      "Model that gets the new version [that of --base]");
  AddField<std::string>(
      app, edits, "--alias",
      [](QatJobSpec* s, std::string v) { s->mutable_publish()->set_alias(v); },
      "Alias that moves to the new version [default]");
  AddSwitch(
      app, edits, "--keep-alias",
      [](QatJobSpec* s, bool on) { s->mutable_publish()->set_keep_alias(on); },
      "Publish, but move no alias");
  AddSwitch(
      app, edits, "--no-publish",
      [](QatJobSpec* s, bool on) { s->mutable_publish()->set_manual(on); },
      "Publish nothing; 'jobs publish' does it by hand");
  app.AddParsedFlag(
         "--auto-rollback",
         [edits](const std::string& text) -> absl::Status {
           absl::Duration window;
           if (!ParseTimeout(text, &window)) {
             return absl::InvalidArgumentError(absl::StrCat(
                 Quoted(text), " is no time over 0, such as 5m or 30s"));
           }
           edits->Add([window](QatJobSpec* spec) {
             spec->mutable_publish()
                 ->mutable_auto_rollback()
                 ->set_window_seconds(absl::ToDoubleSeconds(window));
           });
           return absl::OkStatus();
         },
         "Move the alias back if the new version fails within this time")
      .TypeName("DURATION");
  AddField<double>(
      app, edits, "--rollback-error-ratio",
      [](QatJobSpec* s, double v) {
        s->mutable_publish()->mutable_auto_rollback()->set_max_error_ratio(v);
      },
      "Share of failed calls that --auto-rollback bears [0.05]");
  AddField<int32_t>(
      app, edits, "--rollback-min-calls",
      [](QatJobSpec* s, int32_t v) {
        s->mutable_publish()->mutable_auto_rollback()->set_min_calls(v);
      },
      "Calls before that share counts [20]");
}

}  // namespace

void SpecEdits::Apply(v1::QatJobSpec* spec) const {
  for (const Edit& edit : removals_) edit(spec);
  for (const Edit& edit : edits_) edit(spec);
}

void AddJobSpecFlags(const Command& app, SpecEdits* edits) {
  AddQuantizationFlags(app, edits);
  AddOptimizerFlags(app, edits);
  AddLossFlags(app, edits);
  AddEvaluationFlags(app, edits);
  AddPublishFlags(app, edits);
  app.SetFlagGroup("Options");
}

}  // namespace pot
