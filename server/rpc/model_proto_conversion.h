// Between the repository's terms and pot/v1/model.proto.
#ifndef POT_SERVER_RPC_MODEL_PROTO_CONVERSION_H_
#define POT_SERVER_RPC_MODEL_PROTO_CONVERSION_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/gpt2/quantize_model.h"
#include "pot/v1/model.pb.h"
#include "server/serving/alias_store.h"
#include "server/serving/model_event.h"
#include "server/serving/model_version.h"
#include "server/serving/version_diff.h"

namespace pot {

void FillModelVersion(const ModelVersionInfo& info, v1::ModelVersion* proto);
void FillModelEvent(const ModelEvent& event, v1::WatchModelsResponse* proto);
void FillAliasChange(const AliasChange& change, v1::AliasChange* proto);
void FillVersionDiff(const VersionDiff& diff, v1::DiffVersionsResponse* proto);
// Clamped to the years 1 to 9999, as the message demands.
void FillTimestamp(absl::Time time, google::protobuf::Timestamp* proto);

// INVALID_ARGUMENT with details: MISSING_FIELD, INVALID_FIELD.
absl::Status CheckModelName(absl::string_view name, absl::string_view field);
absl::Status CheckAlias(absl::string_view alias, absl::string_view field);

// Nothing for "f32".
absl::StatusOr<std::optional<QuantizeModelOptions>> ParseQuantization(
    const v1::Quantization& quantization, const std::string& field);

// Model, alias, to_version and comment of a change.
absl::StatusOr<AliasChange> ParseChangeRequest(
    const v1::SetAliasRequest& request);
absl::StatusOr<AliasChange> ParseChangeRequest(
    const v1::RollbackAliasRequest& request);

}  // namespace pot

#endif  // POT_SERVER_RPC_MODEL_PROTO_CONVERSION_H_
