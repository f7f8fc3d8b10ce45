#ifndef POT_CLIENT_PERPLEXITY_REPORT_H_
#define POT_CLIENT_PERPLEXITY_REPORT_H_

#include <string>
#include <vector>

#include "pot/v1/inference.pb.h"
#include "pot/v1/model.pb.h"

namespace pot {

// What one model did on one text.
struct PerplexityRow {
  v1::ModelVersion version;
  v1::PerplexityResult result;
};

// The protocol, which must be that of all rows, on one line: tokens, windows
// and what counts. `text` names the text.
std::string FormatProtocol(const std::string& text,
                           const v1::PerplexityResult& result);

// The rows below each other, with their memory beside that of 32-bit floats
// and, from the second on, perplexity beside that of the first.
std::string FormatPerplexityTable(const std::vector<PerplexityRow>& rows);

// One row, a figure per line.
std::string FormatPerplexityFigures(const PerplexityRow& row);

// One JSON object on one line: {"text":..,"model":..,"result":..}.
std::string FormatPerplexityJson(const std::string& text,
                                 const PerplexityRow& row);

}  // namespace pot

#endif  // POT_CLIENT_PERPLEXITY_REPORT_H_
