#ifndef POT_CLIENT_LOAD_PROMPTS_H_
#define POT_CLIENT_LOAD_PROMPTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/load_plan.h"
#include "pot/v1/inference.pb.h"

namespace pot {

// The requests of a load: request i is a function of the seed and i alone.
class LoadPrompts {
 public:
  struct Options {
    // Lines of text that take turns; empty: token ids out of [0, vocabulary),
    // all equally likely, so that no two prompts begin alike.
    std::vector<std::string> lines;
    TokenRange prompt_tokens = {16, 16};
    int64_t vocabulary = 0;
    TokenRange max_new_tokens = {32, 32};
    uint64_t seed = 0;
    // What all requests have.
    v1::GenerateRequest base;
  };

  explicit LoadPrompts(Options options);

  v1::GenerateRequest Request(uint64_t index) const;

 private:
  const Options options_;
};

// The lines of a file that are not empty, without their ends.
// INVALID_ARGUMENT when there are none, or one is not UTF-8; `name` is the
// file's.
absl::StatusOr<std::vector<std::string>> SplitPrompts(absl::string_view text,
                                                      absl::string_view name);

}  // namespace pot

#endif  // POT_CLIENT_LOAD_PROMPTS_H_
