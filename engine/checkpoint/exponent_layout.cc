#include "engine/checkpoint/exponent_layout.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "engine/base/json.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace pot {
namespace {

using Json = nlohmann::json;

absl::StatusOr<std::string> ReadString(const Json& json, const char* key,
                                       absl::string_view what) {
  const auto value = json.find(key);
  if (value == json.end() || !value->is_string()) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": \"", key, "\" must be a string"));
  }
  return value->get<std::string>();
}

absl::StatusOr<int64_t> ReadCount(const Json& json, const char* key,
                                  int64_t limit, absl::string_view what) {
  const auto value = json.find(key);
  if (value == json.end() || !value->is_number_unsigned() ||
      value->get<uint64_t>() < 1 ||
      value->get<uint64_t>() > static_cast<uint64_t>(limit)) {
    return absl::InvalidArgumentError(absl::StrCat(
        what, ": \"", key, "\" must be an integer in [1, ", limit, "]",
        value == json.end() ? ""
                            : absl::StrCat(", not ", value->type_name(), " ",
                                           ShowJson(*value))));
  }
  return value->get<int64_t>();
}

}  // namespace

std::string MatrixDescriptionJson(const MatrixDescription& description) {
  Json json{{"format", std::string(description.format->name)},
            {"granularity", description.granularity.ToString()},
            {"group", description.granularity.GroupSize(description.cols)},
            {"rows", description.rows},
            {"cols", description.cols}};
  if (description.outliers != 0) json["outliers"] = description.outliers;
  return json.dump();
}

absl::StatusOr<MatrixDescription> ParseMatrixDescription(
    absl::string_view text, absl::string_view what) {
  const auto prefixed = [&](const absl::Status& status) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": ", status.message()));
  };
  POT_ASSIGN_OR_RETURN(const Json json, ParseJson(text, what));
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": must be a JSON object"));
  }
  POT_ASSIGN_OR_RETURN(const std::string format_name,
                       ReadString(json, "format", what));
  POT_ASSIGN_OR_RETURN(const std::string granularity_name,
                       ReadString(json, "granularity", what));
  const auto format = FindPotFormat(format_name);
  if (!format.ok()) return prefixed(format.status());
  const auto granularity = Granularity::Parse(granularity_name);
  if (!granularity.ok()) return prefixed(granularity.status());
  MatrixDescription description;
  description.format = *format;
  description.granularity = *granularity;
  POT_ASSIGN_OR_RETURN(description.rows,
                       ReadCount(json, "rows", kMaxMatrixRows, what));
  POT_ASSIGN_OR_RETURN(description.cols,
                       ReadCount(json, "cols", kMaxMatrixCols, what));
  POT_ASSIGN_OR_RETURN(const int64_t group,
                       ReadCount(json, "group", kMaxMatrixCols, what));
  const int64_t expected = granularity->GroupSize(description.cols);
  if (group != expected) {
    return absl::InvalidArgumentError(absl::StrCat(
        what, ": \"group\" is ", group, ", but granularity ", granularity_name,
        " of ", description.cols, " columns has ", expected));
  }
  if (json.contains("outliers")) {
    POT_ASSIGN_OR_RETURN(
        description.outliers,
        ReadCount(json, "outliers", description.rows * description.cols, what));
  }
  return description;
}

std::string BookJson(const PotFormat& format) {
  return absl::StrCat(
      "[",
      absl::StrJoin(
          absl::MakeConstSpan(format.levels).first(format.num_codes()), ","),
      "]");
}

bool IsBaseDigest(absl::string_view text) {
  return text.empty() || IsSha256Hex(text);
}

}  // namespace pot
