// What was measured of one way to quantize a model.
#ifndef POT_TRAINER_REPORT_REPORT_ROW_H_
#define POT_TRAINER_REPORT_REPORT_ROW_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/gpt2/evaluation.h"
#include "nlohmann/json_fwd.hpp"
#include "trainer/report/report_case.h"

namespace pot {

struct ReportRow {
  ReportCase which;
  double bits_per_weight = 32;  // of quantized weights, scales included
  int64_t file_bytes = 0;       // all weights on disk
  int64_t resident_bytes = 0;   // all weights in memory
  // On the evaluation text, against the float model.
  EvaluationSums sums;
  // sum (w - q)^2 / sum w^2 over all tensors of a kind: "attn.c_attn", ..
  std::map<std::string, double> squared_error;
  // Of the quantized weights by format, with a mixed format.
  std::map<std::string, double> format_shares;
  double quantize_seconds = 0;
  // Of one sequence; 0 when it was not measured.
  double decode_tokens_per_second = 0;

  double mean_kl() const;
  double top1_agreement() const;
};

nlohmann::json RowToJson(const ReportRow& row);
// INVALID_ARGUMENT, beginning with `what`, for anything that RowToJson did not
// write.
absl::StatusOr<ReportRow> RowFromJson(const nlohmann::json& json,
                                      absl::string_view what);

// For each row whether no other has both fewer bits per weight and a lower
// perplexity (one of them may be equal). The float model takes no part: false.
std::vector<bool> ParetoFront(const std::vector<ReportRow>& rows);

}  // namespace pot

#endif  // POT_TRAINER_REPORT_REPORT_ROW_H_
