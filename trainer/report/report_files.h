// A report as text: a table for people, CSV and JSON for programs.
#ifndef POT_TRAINER_REPORT_REPORT_FILES_H_
#define POT_TRAINER_REPORT_REPORT_FILES_H_

#include <string>
#include <vector>

#include "trainer/report/report_row.h"

namespace pot {

// The float model first, then by bits per weight, then by perplexity.
void SortRows(std::vector<ReportRow>* rows);

// What the rows have in common, in one sentence each.
struct ReportDescription {
  std::string model;
  std::string text;      // name, tokens and bytes, windows
  std::string settings;  // activations, calibration, threads, kernels
};

// Markdown; rows of the Pareto front are in bold. One row at least.
std::string FormatReportTable(const ReportDescription& description,
                              const std::vector<ReportRow>& rows);

// A header line and a line per row, RFC 4180.
std::string FormatReportCsv(const std::vector<ReportRow>& rows);

}  // namespace pot

#endif  // POT_TRAINER_REPORT_REPORT_FILES_H_
