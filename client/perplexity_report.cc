#include "client/perplexity_report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "client/model_report.h"
#include "client/session.h"
#include "client/table.h"
#include "client/text_format.h"
#include "nlohmann/json.hpp"

namespace pot {
namespace {

// By the delta method: d exp(x) = exp(x) dx.
double PerplexityError(const v1::PerplexityResult& result) {
  return result.perplexity() * result.standard_error();
}

std::string ModelName(const v1::ModelIdentity& model) {
  return absl::StrCat(Printable(model.name()), "@", model.version());
}

std::string PerplexityWithError(const v1::PerplexityResult& result) {
  return absl::StrFormat("%.4f \u00b1 %.4f", result.perplexity(),
                         PerplexityError(result));
}

}  // namespace

std::string FormatProtocol(const std::string& text,
                           const v1::PerplexityResult& result) {
  return absl::StrCat(Printable(text), ": ", FormatCount(result.tokens()),
                      " predicted tokens (", FormatCount(result.bytes()),
                      " bytes) in windows of ", FormatCount(result.window()),
                      ", stride ", FormatCount(result.stride()),
                      "; every token but the first counts once.\n");
}

std::string FormatPerplexityTable(const std::vector<PerplexityRow>& rows) {
  constexpr auto kRight = Table::Align::kRight;
  const bool compared = !rows.empty() && rows[0].result.has_comparison();
  std::vector<Table::Column> columns = {
      {"model"},           {"format"},         {"weights in memory", kRight},
      {"vs fp32", kRight}, {"tokens", kRight}, {"perplexity", kRight}};
  if (rows.size() > 1) columns.push_back({"vs first row", kRight});
  columns.push_back({"bits per byte", kRight});
  if (compared) {
    columns.push_back({"KL from reference", kRight});
    columns.push_back({"same top token", kRight});
  }
  Table table(columns);
  for (const PerplexityRow& row : rows) {
    const v1::PerplexityResult& result = row.result;
    std::vector<std::string> cells = {
        ModelName(result.model()),
        FormatName(row.version.quantization()),
        FormatBytes(row.version.resident_bytes()),
        FormatSaving(row.version.resident_bytes(), row.version.fp32_bytes()),
        FormatCount(result.tokens()),
        PerplexityWithError(result)};
    if (rows.size() > 1) {
      cells.push_back(
          &row == &rows[0]
              ? ""
              : absl::StrFormat(
                    "%+.1f %%",
                    100 * (result.perplexity() / rows[0].result.perplexity() -
                           1)));
    }
    cells.push_back(absl::StrFormat("%.4f", result.bits_per_byte()));
    if (compared) {
      cells.push_back(
          absl::StrFormat("%.5f nats", result.comparison().mean_kl_nats()));
      cells.push_back(absl::StrFormat(
          "%.2f %%", 100 * result.comparison().top1_agreement()));
    }
    table.AddRow(std::move(cells));
  }
  return table.ToString();
}

std::string FormatPerplexityFigures(const PerplexityRow& row) {
  const v1::PerplexityResult& result = row.result;
  std::string text = absl::StrFormat(
      "model           %s, %s\n"
      "perplexity      %s\n"
      "nats per token  %.4f \u00b1 %.4f\n"
      "bits per byte   %.4f\n"
      "weights         %s\n",
      ModelName(result.model()), FormatName(row.version.quantization()),
      PerplexityWithError(result), result.nats_per_token(),
      result.standard_error(), result.bits_per_byte(),
      FormatWeights(row.version));
  if (result.has_comparison()) {
    const v1::PerplexityComparison& comparison = result.comparison();
    absl::StrAppendFormat(
        &text,
        "reference       %s, perplexity %.4f (%.4f nats per token)\n"
        "difference      %+.4f \u00b1 %.4f nats per token\n"
        "KL divergence   %.5f nats from the reference\n"
        "same top token  %.2f %%\n",
        ModelName(comparison.reference()), comparison.reference_perplexity(),
        comparison.reference_nats_per_token(),
        result.nats_per_token() - comparison.reference_nats_per_token(),
        comparison.difference_standard_error(), comparison.mean_kl_nats(),
        100 * comparison.top1_agreement());
  }
  return text;
}

std::string FormatPerplexityJson(const std::string& text,
                                 const PerplexityRow& row) {
  const auto compact = [](const google::protobuf::Message& message) {
    const std::string json = ToJson(message, /*indented=*/false);
    return std::string(absl::StripSuffix(json, "\n"));
  };
  return absl::StrCat("{\"text\":", nlohmann::json(text).dump(),
                      ",\"model\":", compact(row.version),
                      ",\"result\":", compact(row.result), "}");
}

}  // namespace pot
