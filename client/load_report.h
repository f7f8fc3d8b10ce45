// A load test as a person and as a program read it.
#ifndef POT_CLIENT_LOAD_REPORT_H_
#define POT_CLIENT_LOAD_REPORT_H_

#include <string>
#include <vector>

#include "client/load_plan.h"
#include "client/load_statistics.h"
#include "pot/v1/model.pb.h"

namespace pot {

// What was sent.
struct LoadDescription {
  std::string server;
  v1::ModelVersion model;
  std::string prompts;  // "16 random tokens", "7 lines of prompts.txt"
  TokenRange max_new_tokens;
};

struct LevelResult {
  LoadLevel level;
  LoadSummary summary;
};

// Rates, latencies in milliseconds, and what failed.
std::string FormatLoadTable(const LoadDescription& description,
                            const LoadPlan& plan,
                            const std::vector<LevelResult>& results);

// One object with a list "levels" (README.md has the keys); times in seconds.
// On several lines with `indented`.
std::string LoadJson(const LoadDescription& description, const LoadPlan& plan,
                     const std::vector<LevelResult>& results, bool indented);

}  // namespace pot

#endif  // POT_CLIENT_LOAD_REPORT_H_
