#include "trainer/report/report_files.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace pot {
namespace {

// Every kind of tensor that a row has an error for.
std::set<std::string> TensorKinds(const std::vector<ReportRow>& rows) {
  std::set<std::string> kinds;
  for (const ReportRow& row : rows) {
    for (const auto& [kind, error] : row.squared_error) kinds.insert(kind);
  }
  return kinds;
}

double PerplexityError(const ReportRow& row) {
  return row.sums.perplexity() * row.sums.standard_error();
}

// Of the perplexity, against the float model's on the same tokens.
double Increase(const ReportRow& row) {
  return std::exp((row.sums.nats - row.sums.reference_nats) /
                  static_cast<double>(row.sums.tokens)) -
         1;
}

std::string Speed(const ReportRow& row) {
  return row.decode_tokens_per_second > 0
             ? absl::StrFormat("%.0f", row.decode_tokens_per_second)
             : "-";
}

// Markdown cells: a name from outside must not end one.
std::string Cell(const std::string& text) {
  std::string cell;
  for (const char c : text) {
    if (c == '|' || c == '\\') cell += '\\';
    cell += c == '\n' || c == '\r' ? ' ' : c;
  }
  return cell;
}

}  // namespace

void SortRows(std::vector<ReportRow>* rows) {
  std::stable_sort(rows->begin(), rows->end(),
                   [](const ReportRow& a, const ReportRow& b) {
                     return std::make_tuple(!a.which.is_float(),
                                            a.bits_per_weight, a.sums.nats) <
                            std::make_tuple(!b.which.is_float(),
                                            b.bits_per_weight, b.sums.nats);
                   });
}

std::string FormatReportTable(const ReportDescription& description,
                              const std::vector<ReportRow>& rows) {
  const std::set<std::string> kinds = TensorKinds(rows);
  std::string table = absl::StrCat("# ", Cell(description.model), "\n\n",
                                   Cell(description.text), "\n\n",
                                   Cell(description.settings), "\n\n");
  std::string rule = "|---|---|---|";
  absl::StrAppend(&table,
                  "| format | scales | method | bits per weight | MB on disk | "
                  "perplexity | +- | against f32 | bits per byte | KL, nats | "
                  "same top 1 |");
  absl::StrAppend(&rule, "---:|---:|---:|---:|---:|---:|---:|---:|");
  for (const std::string& kind : kinds) {
    absl::StrAppend(&table, " ", kind, " |");
    absl::StrAppend(&rule, "---:|");
  }
  absl::StrAppend(&table, " tokens/s |\n", rule, "---:|\n");
  const std::vector<bool> front = ParetoFront(rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    const ReportRow& row = rows[i];
    const char* const bold = front[i] ? "**" : "";
    absl::StrAppendFormat(
        &table,
        "| %s%s%s | %s | %s | %.3f | %.2f | %s%.4f%s | %.4f | %+.2f %% | %.4f "
        "| %.5f | %.2f %% |",
        bold, row.which.format, bold, row.which.granularity, row.which.method,
        row.bits_per_weight, static_cast<double>(row.file_bytes) / 1e6, bold,
        row.sums.perplexity(), bold, PerplexityError(row), 100 * Increase(row),
        row.sums.bits_per_byte(), row.mean_kl(), 100 * row.top1_agreement());
    for (const std::string& kind : kinds) {
      const auto error = row.squared_error.find(kind);
      absl::StrAppend(&table, " ",
                      error == row.squared_error.end()
                          ? "-"
                          : absl::StrFormat("%.4f", error->second),
                      " |");
    }
    absl::StrAppend(&table, " ", Speed(row), " |\n");
  }
  absl::StrAppend(
      &table,
      "\nBold: no other row has both fewer bits and a lower perplexity. Bits "
      "per weight are those of the quantized matrices, scales included. The "
      "columns named after tensors are squared errors, "
      "sum (w - q)^2 / sum w^2.\n");
  for (const ReportRow& row : rows) {
    if (row.format_shares.empty()) continue;
    std::vector<std::string> shares;
    for (const auto& [format, share] : row.format_shares) {
      shares.push_back(absl::StrFormat("%.1f %% %s", 100 * share, format));
    }
    absl::StrAppend(&table, "\n", row.which.Label(), " is ",
                    absl::StrJoin(shares, ", "), ".\n");
  }
  return table;
}

std::string FormatReportCsv(const std::vector<ReportRow>& rows) {
  const std::set<std::string> kinds = TensorKinds(rows);
  std::string csv =
      "format,granularity,method,bits_per_weight,file_bytes,resident_bytes,"
      "tokens,bytes,nats_per_token,standard_error_nats,perplexity,"
      "bits_per_byte,mean_kl_nats,top1_agreement,pareto";
  for (const std::string& kind : kinds) {
    absl::StrAppend(&csv, ",squared_error_", kind);
  }
  absl::StrAppend(&csv, ",quantize_seconds,decode_tokens_per_second\r\n");
  const std::vector<bool> front = ParetoFront(rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    const ReportRow& row = rows[i];
    absl::StrAppendFormat(
        &csv, "%s,%s,%s,%.6g,%d,%d,%d,%d,%.9g,%.9g,%.9g,%.9g,%.9g,%.9g,%d",
        row.which.format, row.which.granularity, row.which.method,
        row.bits_per_weight, row.file_bytes, row.resident_bytes,
        row.sums.tokens, row.sums.bytes, row.sums.mean_nats(),
        row.sums.standard_error(), row.sums.perplexity(),
        row.sums.bits_per_byte(), row.mean_kl(), row.top1_agreement(),
        front[i] ? 1 : 0);
    for (const std::string& kind : kinds) {
      const auto error = row.squared_error.find(kind);
      absl::StrAppend(&csv, ",");
      if (error != row.squared_error.end()) {
        absl::StrAppendFormat(&csv, "%.9g", error->second);
      }
    }
    absl::StrAppendFormat(&csv, ",%.6g,%.6g\r\n", row.quantize_seconds,
                          row.decode_tokens_per_second);
  }
  return csv;
}

}  // namespace pot
