#include "trainer/report/report_row.h"

#include <cmath>
#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace pot {
namespace {

// Reads members of an object by name; the first error is kept.
class MemberReader {
 public:
  MemberReader(const nlohmann::json& object, absl::string_view what)
      : object_(object), what_(what) {}

  const absl::Status& status() const { return status_; }

  void Read(const char* name, std::string* value) {
    const auto* const member = Find(name);
    if (member == nullptr) return;
    if (!member->is_string()) return Fail(name, "a string");
    *value = member->get<std::string>();
  }
  void Read(const char* name, int64_t* value) {
    const auto* const member = Find(name);
    if (member == nullptr) return;
    if (!member->is_number_integer() || member->get<int64_t>() < 0) {
      return Fail(name, "a count");
    }
    *value = member->get<int64_t>();
  }
  void Read(const char* name, double* value) {
    const auto* const member = Find(name);
    if (member == nullptr) return;
    if (!member->is_number()) return Fail(name, "a number");
    *value = member->get<double>();
  }
  void Read(const char* name, std::map<std::string, double>* values) {
    const auto* const member = Find(name);
    if (member == nullptr) return;
    if (!member->is_object()) return Fail(name, "an object");
    for (const auto& [key, value] : member->items()) {
      if (!value.is_number()) return Fail(name, "an object of numbers");
      (*values)[key] = value.get<double>();
    }
  }

 private:
  const nlohmann::json* Find(const char* name) {
    if (object_.is_object()) {
      const auto found = object_.find(name);
      if (found != object_.end()) return &*found;
    }
    Fail(name, "there");
    return nullptr;
  }
  void Fail(const char* name, const char* wanted) {
    if (!status_.ok()) return;
    status_ = absl::InvalidArgumentError(
        absl::StrCat(what_, ": ", name, " is not ", wanted));
  }

  const nlohmann::json& object_;
  const absl::string_view what_;
  absl::Status status_;
};

// `visit(name, member)` for every member that is stored as it is.
template <typename Row, typename Visit>
void VisitMembers(Row& row, const Visit& visit) {
  visit("format", row.which.format);
  visit("granularity", row.which.granularity);
  visit("method", row.which.method);
  visit("bits_per_weight", row.bits_per_weight);
  visit("file_bytes", row.file_bytes);
  visit("resident_bytes", row.resident_bytes);
  visit("tokens", row.sums.tokens);
  visit("bytes", row.sums.bytes);
  visit("nats_sum", row.sums.nats);
  visit("nats_squared_sum", row.sums.nats_squared);
  visit("kl_sum", row.sums.kl);
  visit("top1_agreements", row.sums.top1_agreements);
  visit("float_nats_sum", row.sums.reference_nats);
  visit("difference_squared_sum", row.sums.difference_squared);
  visit("squared_error", row.squared_error);
  visit("format_shares", row.format_shares);
  visit("quantize_seconds", row.quantize_seconds);
  visit("decode_tokens_per_second", row.decode_tokens_per_second);
}

}  // namespace

double ReportRow::mean_kl() const {
  return sums.kl / static_cast<double>(sums.tokens);
}

double ReportRow::top1_agreement() const {
  return static_cast<double>(sums.top1_agreements) /
         static_cast<double>(sums.tokens);
}

nlohmann::json RowToJson(const ReportRow& row) {
  nlohmann::json json;
  VisitMembers(row, [&json](const char* name, const auto& member) {
    json[name] = member;
  });
  // What follows from the sums, for whoever reads the file.
  json["perplexity"] = row.sums.perplexity();
  json["nats_per_token"] = row.sums.mean_nats();
  json["standard_error_nats"] = row.sums.standard_error();
  json["bits_per_byte"] = row.sums.bits_per_byte();
  json["mean_kl_nats"] = row.mean_kl();
  json["top1_agreement"] = row.top1_agreement();
  return json;
}

absl::StatusOr<ReportRow> RowFromJson(const nlohmann::json& json,
                                      absl::string_view what) {
  ReportRow row;
  MemberReader reader(json, what);
  VisitMembers(row, [&reader](const char* name, auto& member) {
    reader.Read(name, &member);
  });
  POT_RETURN_IF_ERROR(reader.status());
  if (row.sums.tokens == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": tokens is 0: nothing was predicted"));
  }
  return row;
}

std::vector<bool> ParetoFront(const std::vector<ReportRow>& rows) {
  std::vector<bool> front(rows.size(), false);
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].which.is_float()) continue;
    const double bits = rows[i].bits_per_weight;
    const double nats = rows[i].sums.mean_nats();
    front[i] = true;
    for (const ReportRow& other : rows) {
      if (other.which.is_float()) continue;
      const double other_bits = other.bits_per_weight;
      const double other_nats = other.sums.mean_nats();
      if (other_bits <= bits && other_nats <= nats &&
          (other_bits < bits || other_nats < nats)) {
        front[i] = false;
      }
    }
  }
  return front;
}

}  // namespace pot
