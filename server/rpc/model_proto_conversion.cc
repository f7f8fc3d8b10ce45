#include "server/rpc/model_proto_conversion.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "engine/checkpoint/version_store.h"
#include "engine/quant/granularity.h"
#include "engine/quant/pot_format.h"
#include "engine/quant/pot_quantizer.h"
#include "server/serving/field_errors.h"

namespace pot {
namespace {

constexpr int64_t kMaxCommentBytes = 512;
constexpr char kFloatFormat[] = "f32";

static_assert(static_cast<int>(ModelVersionState::kRegistered) + 1 ==
              v1::MODEL_VERSION_STATE_REGISTERED);
static_assert(static_cast<int>(ModelVersionState::kVerifying) + 1 ==
              v1::MODEL_VERSION_STATE_VERIFYING);
static_assert(static_cast<int>(ModelVersionState::kLoading) + 1 ==
              v1::MODEL_VERSION_STATE_LOADING);
static_assert(static_cast<int>(ModelVersionState::kWarming) + 1 ==
              v1::MODEL_VERSION_STATE_WARMING);
static_assert(static_cast<int>(ModelVersionState::kAvailable) + 1 ==
              v1::MODEL_VERSION_STATE_AVAILABLE);
static_assert(static_cast<int>(ModelVersionState::kUnloading) + 1 ==
              v1::MODEL_VERSION_STATE_UNLOADING);
static_assert(static_cast<int>(ModelVersionState::kUnloaded) + 1 ==
              v1::MODEL_VERSION_STATE_UNLOADED);
static_assert(static_cast<int>(ModelVersionState::kFailed) + 1 ==
              v1::MODEL_VERSION_STATE_FAILED);

static_assert(static_cast<int>(AliasChangeCause::kSet) + 1 ==
              v1::ALIAS_CHANGE_CAUSE_SET);
static_assert(static_cast<int>(AliasChangeCause::kRollback) + 1 ==
              v1::ALIAS_CHANGE_CAUSE_ROLLBACK);
static_assert(static_cast<int>(AliasChangeCause::kPublish) + 1 ==
              v1::ALIAS_CHANGE_CAUSE_PUBLISH);
static_assert(static_cast<int>(AliasChangeCause::kAutoRollback) + 1 ==
              v1::ALIAS_CHANGE_CAUSE_AUTO_ROLLBACK);

static_assert(static_cast<int>(ModelEvent::Kind::kSnapshot) + 1 ==
              v1::MODEL_EVENT_KIND_SNAPSHOT);
static_assert(static_cast<int>(ModelEvent::Kind::kSnapshotDone) + 1 ==
              v1::MODEL_EVENT_KIND_SNAPSHOT_DONE);
static_assert(static_cast<int>(ModelEvent::Kind::kChanged) + 1 ==
              v1::MODEL_EVENT_KIND_CHANGED);
static_assert(static_cast<int>(ModelEvent::Kind::kDeleted) + 1 ==
              v1::MODEL_EVENT_KIND_DELETED);

v1::ActivationQuantization ActivationsProto(ActivationMode mode) {
  switch (mode) {
    case ActivationMode::kAffine:
      return v1::ACTIVATION_QUANTIZATION_AFFINE;
    case ActivationMode::kSymmetric:
      return v1::ACTIVATION_QUANTIZATION_SYMMETRIC;
    case ActivationMode::kFloat:
      return v1::ACTIVATION_QUANTIZATION_FLOAT;
  }
  return v1::ACTIVATION_QUANTIZATION_UNSPECIFIED;
}

void FillConfig(const Gpt2Config& config, v1::ModelConfig* proto) {
  proto->set_layers(static_cast<int32_t>(config.n_layer));
  proto->set_heads(static_cast<int32_t>(config.n_head));
  proto->set_embedding_width(static_cast<int32_t>(config.n_embd));
  proto->set_inner_width(static_cast<int32_t>(config.n_inner));
  proto->set_positions(static_cast<int32_t>(config.n_positions));
  proto->set_vocabulary(static_cast<int32_t>(config.vocab_size));
  proto->set_tied_head(config.tie_word_embeddings);
}

// What the engine says about a field's value.
absl::Status InField(const absl::Status& status, const std::string& field,
                     absl::string_view value) {
  return FieldError("INVALID_FIELD", field,
                    absl::StrCat("is not possible: ", status.message()), "",
                    Quoted(value));
}

absl::StatusOr<QuantizeOptions> ParseOptions(const std::string& format,
                                             const std::string& granularity,
                                             QuantizeMode mode,
                                             const std::string& format_field,
                                             const std::string& prefix) {
  QuantizeOptions options;
  options.mode = mode;
  const auto found = FindPotFormat(format);
  if (!found.ok()) return InField(found.status(), format_field, format);
  options.format = *found;
  const auto parsed =
      Granularity::Parse(granularity.empty() ? "row" : granularity);
  if (!parsed.ok()) {
    return InField(parsed.status(), prefix + "granularity", granularity);
  }
  options.granularity = *parsed;
  const absl::Status status = CheckQuantizeOptions(options);
  if (!status.ok()) return InField(status, format_field, format);
  return options;
}

template <typename Request>
absl::StatusOr<AliasChange> ParseChange(const Request& request,
                                        const std::string& alias) {
  POT_RETURN_IF_ERROR(CheckModelName(request.name(), "name"));
  POT_RETURN_IF_ERROR(CheckAlias(alias, "alias"));
  POT_RETURN_IF_ERROR(
      CheckBytes("comment", request.comment(), 0, kMaxCommentBytes));
  if (request.has_expected_version() && request.expected_version() < 0) {
    return RangeError("expected_version", "[0, 9223372036854775807]",
                      absl::StrCat(request.expected_version()));
  }
  AliasChange change;
  change.model = request.name();
  change.alias = alias;
  change.comment = request.comment();
  change.time = absl::Now();
  return change;
}

}  // namespace

void FillTimestamp(absl::Time time, google::protobuf::Timestamp* proto) {
  const absl::Time clamped =
      std::clamp(time, absl::FromUnixSeconds(-62135596800),
                 absl::FromUnixSeconds(253402300799));
  const int64_t seconds = absl::ToUnixSeconds(clamped);
  proto->set_seconds(seconds);
  proto->set_nanos(static_cast<int32_t>(
      absl::ToInt64Nanoseconds(clamped - absl::FromUnixSeconds(seconds))));
}

void FillModelVersion(const ModelVersionInfo& info, v1::ModelVersion* proto) {
  proto->set_name(info.name);
  proto->set_version(info.version);
  proto->set_state(
      static_cast<v1::ModelVersionState>(static_cast<int>(info.state) + 1));
  proto->set_state_message(ReplaceInvalidUtf8(info.state_message));
  proto->set_digest(info.digest);
  if (!info.format.empty()) {
    v1::Quantization* quantization = proto->mutable_quantization();
    quantization->set_format(info.format);
    quantization->set_granularity(info.granularity);
    quantization->set_method(ReplaceInvalidUtf8(info.method));
    quantization->set_embedding_format(info.embedding_format);
    quantization->set_embedding_granularity(info.embedding_granularity);
    proto->set_activations(ActivationsProto(info.activations));
    FillConfig(info.config, proto->mutable_config());
    proto->set_parameters(info.config.num_parameters());
    proto->set_fp32_bytes(4 * info.config.num_parameters());
  }
  proto->set_resident_bytes(info.resident_bytes);
  proto->set_file_bytes(info.file_bytes);
  FillTimestamp(info.create_time, proto->mutable_create_time());
  for (const std::string& alias : info.aliases) proto->add_aliases(alias);
  proto->set_base_digest(info.base_digest);
  proto->set_load_seconds(info.load_seconds);
}

void FillModelEvent(const ModelEvent& event, v1::WatchModelsResponse* proto) {
  proto->set_kind(
      static_cast<v1::ModelEventKind>(static_cast<int>(event.kind) + 1));
  FillTimestamp(event.time, proto->mutable_time());
  if (event.kind == ModelEvent::Kind::kSnapshotDone) return;
  if (event.kind == ModelEvent::Kind::kDeleted) {
    proto->mutable_version()->set_name(event.version.name);
    proto->mutable_version()->set_version(event.version.version);
    return;
  }
  FillModelVersion(event.version, proto->mutable_version());
}

void FillAliasChange(const AliasChange& change, v1::AliasChange* proto) {
  proto->set_sequence(change.sequence);
  proto->set_name(change.model);
  proto->set_alias(change.alias);
  proto->set_from_version(change.from_version);
  proto->set_to_version(change.to_version);
  proto->set_cause(
      static_cast<v1::AliasChangeCause>(static_cast<int>(change.cause) + 1));
  proto->set_actor(ReplaceInvalidUtf8(change.actor));
  proto->set_comment(ReplaceInvalidUtf8(change.comment));
  FillTimestamp(change.time, proto->mutable_time());
}

void FillVersionDiff(const VersionDiff& diff, v1::DiffVersionsResponse* proto) {
  FillModelVersion(diff.left, proto->mutable_left());
  FillModelVersion(diff.right, proto->mutable_right());
  for (const VersionDiff::Tensor& tensor : diff.tensors) {
    v1::TensorDiff* out = proto->add_tensors();
    out->set_name(tensor.name);
    out->mutable_shape()->Assign(tensor.shape.begin(), tensor.shape.end());
    out->mutable_left()->set_format(tensor.left_format);
    out->mutable_left()->set_granularity(tensor.left_granularity);
    out->mutable_right()->set_format(tensor.right_format);
    out->mutable_right()->set_granularity(tensor.right_granularity);
    if (tensor.changed_codes.has_value()) {
      out->set_changed_codes(*tensor.changed_codes);
    }
    out->set_relative_squared_error(tensor.relative_squared_error);
    out->set_max_absolute_difference(tensor.max_absolute_difference);
  }
}

absl::Status CheckModelName(absl::string_view name, absl::string_view field) {
  if (name.empty()) {
    return FieldError("MISSING_FIELD", field, "is missing", "", "");
  }
  const absl::Status status = ValidateModelName(name);
  if (status.ok()) return status;
  return FieldError("INVALID_FIELD", field,
                    absl::StrCat("is no model name: ", status.message()), "",
                    Quoted(name));
}

absl::Status CheckAlias(absl::string_view alias, absl::string_view field) {
  if (alias.empty()) {
    return FieldError("MISSING_FIELD", field, "is missing", "", "");
  }
  const absl::Status status = ValidateAlias(alias);
  if (status.ok()) return status;
  return FieldError("INVALID_FIELD", field,
                    absl::StrCat("is no alias: ", status.message()), "",
                    Quoted(alias));
}

absl::StatusOr<std::optional<QuantizeModelOptions>> ParseQuantization(
    const v1::Quantization& quantization, const std::string& field) {
  const std::string prefix = field + ".";
  if (quantization.format().empty()) {
    return FieldError("MISSING_FIELD", prefix + "format", "is missing", "", "");
  }
  if (quantization.format() == kFloatFormat) {
    const std::pair<const char*, const std::string*> others[] = {
        {"granularity", &quantization.granularity()},
        {"method", &quantization.method()},
        {"embedding_format", &quantization.embedding_format()},
        {"embedding_granularity", &quantization.embedding_granularity()}};
    for (const auto& [name, value] : others) {
      if (value->empty()) continue;
      return FieldError("INVALID_FIELD", prefix + name,
                        "must be empty with the format \"f32\"", "",
                        Quoted(*value));
    }
    return std::optional<QuantizeModelOptions>();
  }
  const auto mode = ParseQuantizeMode(
      quantization.method().empty() ? "nearest" : quantization.method());
  if (!mode.ok()) {
    return InField(mode.status(), prefix + "method", quantization.method());
  }
  QuantizeModelOptions options;
  POT_ASSIGN_OR_RETURN(
      options.layers,
      ParseOptions(quantization.format(), quantization.granularity(), *mode,
                   prefix + "format", prefix));
  const bool same_format = quantization.embedding_format().empty();
  const bool same_granularity = quantization.embedding_granularity().empty();
  POT_ASSIGN_OR_RETURN(
      options.embedding,
      ParseOptions(
          same_format ? quantization.format() : quantization.embedding_format(),
          same_granularity ? quantization.granularity()
                           : quantization.embedding_granularity(),
          *mode, prefix + "embedding_format", prefix + "embedding_"));
  return std::optional<QuantizeModelOptions>(options);
}

absl::StatusOr<AliasChange> ParseChangeRequest(
    const v1::SetAliasRequest& request) {
  POT_ASSIGN_OR_RETURN(AliasChange change,
                       ParseChange(request, request.alias()));
  switch (request.target_case()) {
    case v1::SetAliasRequest::kVersion:
      if (request.version() < 1) {
        return RangeError("version", "[1, 9223372036854775807]",
                          absl::StrCat(request.version()));
      }
      change.to_version = request.version();
      break;
    case v1::SetAliasRequest::kRemove:
      if (!request.remove()) {
        return FieldError("INVALID_FIELD", "remove", "must be true", "true",
                          "false");
      }
      break;
    case v1::SetAliasRequest::TARGET_NOT_SET:
      return FieldError("MISSING_FIELD", "target",
                        "is missing: a version, or remove", "", "");
  }
  return change;
}

absl::StatusOr<AliasChange> ParseChangeRequest(
    const v1::RollbackAliasRequest& request) {
  POT_ASSIGN_OR_RETURN(
      AliasChange change,
      ParseChange(request,
                  request.alias().empty() ? "default" : request.alias()));
  change.cause = AliasChangeCause::kRollback;
  return change;
}

}  // namespace pot
