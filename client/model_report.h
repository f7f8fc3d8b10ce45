// Versions of models for people.
#ifndef POT_CLIENT_MODEL_REPORT_H_
#define POT_CLIENT_MODEL_REPORT_H_

#include <string>

#include "absl/time/time.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "google/protobuf/timestamp.pb.h"
#include "pot/v1/model.pb.h"
#include "pot/v1/quantization.pb.h"

namespace pot {

// "f32", "pot4 row", "pot4 row, embedding pot6".
std::string FormatName(const v1::Quantization& quantization);

// "3.24 MB in memory, 87.3 % less than fp32 (25.6 MB)".
std::string FormatWeights(const v1::ModelVersion& version);

absl::Time ToTime(const google::protobuf::Timestamp& time);

// A row per version; ages count up to `now`.
std::string FormatModelTable(
    const google::protobuf::RepeatedPtrField<v1::ModelVersion>& versions,
    absl::Time now);

// All that is known about one version, a figure per line.
std::string FormatModel(const v1::ModelVersion& version);

// A row per change, with times in UTC.
std::string FormatAliasHistory(
    const google::protobuf::RepeatedPtrField<v1::AliasChange>& changes);

// "name: alias default 1 -> 2".
std::string FormatAliasChange(const v1::AliasChange& change);

// A row per tensor.
std::string FormatDiff(const v1::DiffVersionsResponse& diff);

// "12:00:01 name@2 CHANGED AVAILABLE pot4 row aliases default".
std::string FormatModelEvent(const v1::WatchModelsResponse& event);

}  // namespace pot

#endif  // POT_CLIENT_MODEL_REPORT_H_
