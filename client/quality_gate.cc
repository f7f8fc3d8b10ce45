#include "client/quality_gate.h"

#include <cmath>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/text_format.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

absl::Status Wrong(absl::string_view condition, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("condition ", Quoted(condition), " of the gate: ", why));
}

absl::Status AddCondition(absl::string_view condition, v1::QualityGate* gate) {
  const size_t at = condition.find_first_of("<>");
  if (at == absl::string_view::npos ||
      !absl::StartsWith(condition.substr(at + 1), "=")) {
    return Wrong(condition,
                 "write ppl<=1.02x, ppl<=4.7, kl<=0.05 or top1>=0.9");
  }
  const absl::string_view name =
      absl::StripAsciiWhitespace(condition.substr(0, at));
  absl::string_view limit =
      absl::StripAsciiWhitespace(condition.substr(at + 2));
  const bool ratio = name == "ppl" && absl::ConsumeSuffix(&limit, "x");
  double value = 0;
  if (!absl::SimpleAtod(limit, &value) || !std::isfinite(value)) {
    return Wrong(condition, absl::StrCat(Quoted(limit), " is no number"));
  }
  const bool upper = condition[at] == '<';
  const auto set = [&](bool has, bool wants_upper,
                       auto set_value) -> absl::Status {
    if (upper != wants_upper) {
      return Wrong(
          condition,
          absl::StrCat(name, " has ", wants_upper ? "an upper" : "a lower",
                       " limit: ", name, wants_upper ? "<=" : ">=", limit));
    }
    if (has) return Wrong(condition, "given twice");
    set_value(value);
    return absl::OkStatus();
  };
  if (ratio) {
    return set(gate->has_max_perplexity_ratio(), true,
               [&](double v) { gate->set_max_perplexity_ratio(v); });
  }
  if (name == "ppl") {
    return set(gate->has_max_perplexity(), true,
               [&](double v) { gate->set_max_perplexity(v); });
  }
  if (name == "kl") {
    return set(gate->has_max_mean_kl_nats(), true,
               [&](double v) { gate->set_max_mean_kl_nats(v); });
  }
  if (name == "top1") {
    return set(gate->has_min_top1_agreement(), false,
               [&](double v) { gate->set_min_top1_agreement(v); });
  }
  return Wrong(condition, absl::StrCat("no figure ", Quoted(name),
                                       "; known are ppl, kl and top1"));
}

}  // namespace

absl::StatusOr<v1::QualityGate> ParseQualityGate(absl::string_view text) {
  v1::QualityGate gate;
  for (const absl::string_view condition : absl::StrSplit(text, ',')) {
    POT_RETURN_IF_ERROR(
        AddCondition(absl::StripAsciiWhitespace(condition), &gate));
  }
  return gate;
}

std::string FormatQualityGate(const v1::QualityGate& gate) {
  std::vector<std::string> conditions;
  if (gate.has_max_perplexity_ratio()) {
    conditions.push_back(
        absl::StrCat("ppl<=", FormatReal(gate.max_perplexity_ratio()), "x"));
  }
  if (gate.has_max_perplexity()) {
    conditions.push_back(
        absl::StrCat("ppl<=", FormatReal(gate.max_perplexity())));
  }
  if (gate.has_max_mean_kl_nats()) {
    conditions.push_back(
        absl::StrCat("kl<=", FormatReal(gate.max_mean_kl_nats())));
  }
  if (gate.has_min_top1_agreement()) {
    conditions.push_back(
        absl::StrCat("top1>=", FormatReal(gate.min_top1_agreement())));
  }
  return absl::StrJoin(conditions, ",");
}

}  // namespace pot
