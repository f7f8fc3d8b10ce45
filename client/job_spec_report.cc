#include "client/job_spec_report.h"

#include <algorithm>
#include <cstdint>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/model_ref.h"
#include "client/text_format.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

namespace pot {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using FieldList = std::vector<std::pair<std::string, std::string>>;

constexpr size_t kShownDigestDigits = 12;

std::string ShortDigest(const std::string& digest) {
  return Printable(digest.substr(0, kShownDigestDigits));
}

// What the server fills in for a job of these steps that says nothing else, as
// qat_job.proto has it. The base's context length is not known here.
v1::QatJobSpec DefaultSpec(const v1::QatJobSpec& spec) {
  v1::QatJobSpec defaults;
  v1::Quantization* const quantization = defaults.mutable_quantization();
  quantization->set_granularity("row");
  quantization->set_method("nearest");
  quantization->set_embedding_format(spec.quantization().format());
  quantization->set_embedding_granularity(spec.quantization().granularity());
  defaults.set_activations(v1::ACTIVATION_QUANTIZATION_AFFINE);
  v1::Optimizer* const optimizer = defaults.mutable_optimizer();
  optimizer->set_learning_rate(2e-4);
  optimizer->set_beta1(0.9);
  optimizer->set_beta2(0.95);
  optimizer->set_epsilon(1e-8);
  optimizer->set_weight_decay(0);
  optimizer->set_clip_norm(1);
  const int64_t steps = spec.schedule().steps();
  v1::Schedule* const schedule = defaults.mutable_schedule();
  schedule->set_steps(2000);
  schedule->set_warmup_steps(steps / 50);
  schedule->set_shape(v1::SCHEDULE_SHAPE_COSINE);
  schedule->set_final_ratio(0);
  schedule->set_patience_evaluations(0);
  defaults.mutable_batch()->set_sequences(12);
  defaults.mutable_batch()->set_accumulation(1);
  defaults.mutable_loss()->set_positions(v1::LOSS_POSITIONS_ALL);
  defaults.mutable_loss()->set_cross_entropy_weight(1);
  defaults.set_straight_through(v1::STRAIGHT_THROUGH_CLIPPED);
  defaults.set_dropout(0);
  defaults.set_seed(0);
  v1::Evaluation* const evaluation = defaults.mutable_evaluation();
  evaluation->set_every_steps(std::max<int64_t>(1, steps / 20));
  evaluation->set_window(spec.batch().context());
  evaluation->set_stride(spec.evaluation().window());
  v1::SnapshotPolicy* const snapshots = defaults.mutable_snapshots();
  snapshots->set_every_steps(spec.evaluation().every_steps());
  snapshots->set_keep_checkpoints(3);
  defaults.mutable_publish()->set_name(spec.base().name());
  defaults.mutable_publish()->set_alias("default");
  return defaults;
}

// STRAIGHT_THROUGH_CLIPPED as "clipped": without the type's name.
std::string EnumName(const google::protobuf::EnumValueDescriptor& value) {
  // Every type's number 0 is PREFIX_UNSPECIFIED.
  const auto* const none = value.type()->FindValueByNumber(0);
  const absl::string_view prefix =
      none == nullptr ? "" : absl::StripSuffix(none->name(), "UNSPECIFIED");
  return absl::AsciiStrToLower(absl::StripPrefix(value.name(), prefix));
}

std::string FormatValue(const Message& message, const FieldDescriptor& field) {
  const auto& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return Printable(reflection.GetString(message, &field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return FormatReal(reflection.GetDouble(message, &field));
    case FieldDescriptor::CPPTYPE_INT32:
      return absl::StrCat(reflection.GetInt32(message, &field));
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat(reflection.GetInt64(message, &field));
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat(reflection.GetUInt64(message, &field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetBool(message, &field) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumName(*reflection.GetEnum(message, &field));
    default:
      return "?";
  }
}

void CollectFields(const Message& message, const std::string& path,
                   FieldList* fields) {
  // In the order of their numbers.
  std::vector<const FieldDescriptor*> present;
  message.GetReflection()->ListFields(message, &present);
  for (const FieldDescriptor* const field : present) {
    const std::string inner =
        absl::StrCat(path, path.empty() ? "" : ".", field->name());
    if (field->is_repeated()) continue;  // only data has any
    if (field->message_type() == v1::ModelRef::descriptor()) {
      v1::ModelRef model;
      model.CopyFrom(message.GetReflection()->GetMessage(message, field));
      fields->emplace_back(inner, Printable(FormatModelRef(model)));
    } else if (field->message_type() != nullptr) {
      CollectFields(message.GetReflection()->GetMessage(message, field), inner,
                    fields);
    } else {
      fields->emplace_back(inner, FormatValue(message, *field));
    }
  }
}

}  // namespace

FieldList ListSpecFields(const v1::QatJobSpec& spec, bool all) {
  v1::QatJobSpec rest = spec;
  rest.clear_base();
  rest.clear_data();
  rest.clear_gate();
  FieldList fields;
  CollectFields(rest, "", &fields);
  if (all) return fields;
  FieldList defaults;
  CollectFields(DefaultSpec(spec), "", &defaults);
  const std::map<std::string, std::string> by_path(defaults.begin(),
                                                   defaults.end());
  fields.erase(std::remove_if(fields.begin(), fields.end(),
                              [&by_path](const auto& field) {
                                const auto found = by_path.find(field.first);
                                return found != by_path.end() &&
                                       found->second == field.second;
                              }),
               fields.end());
  return fields;
}

std::string FormatBase(const v1::QatJobSpec& spec) {
  const v1::ModelRef& base = spec.base();
  if (!base.has_digest()) return Printable(FormatModelRef(base));
  return absl::StrCat(Printable(base.name()), " (sha256 ",
                      ShortDigest(base.digest()), ")");
}

std::string FormatData(const v1::TrainingData& data) {
  std::string text;
  if (data.has_self_generated()) {
    text = "written by the base";
    if (data.self_generated().has_tokens()) {
      absl::StrAppend(&text, ", ",
                      FormatCount(static_cast<uint64_t>(std::max<int64_t>(
                          0, data.self_generated().tokens()))),
                      " tokens");
    }
  } else {
    const auto& digests = data.datasets().sha256();
    text = absl::StrCat(
        digests.size(), digests.size() == 1 ? " dataset (" : " datasets (",
        absl::StrJoin(digests, ", ",
                      [](std::string* out, const std::string& digest) {
                        absl::StrAppend(out, ShortDigest(digest));
                      }),
        ")");
  }
  if (!data.validation_sha256().empty()) {
    absl::StrAppend(&text, ", validation ",
                    ShortDigest(data.validation_sha256()));
  } else if (data.has_holdout_ratio()) {
    absl::StrAppendFormat(&text, ", validation on the last %s %%",
                          FormatReal(100 * data.holdout_ratio()));
  }
  return text;
}

}  // namespace pot
