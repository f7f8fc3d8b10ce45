#ifndef POT_SERVER_RPC_SAMPLING_PARSER_H_
#define POT_SERVER_RPC_SAMPLING_PARSER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/text/tokenizer.h"
#include "pot/v1/inference.pb.h"
#include "server/serving/generate_task.h"

namespace pot {

// Fill `task` from one part of a request and check it; `prefix` comes before
// the paths of fields. The seed is left to the caller.
absl::Status ParseSampling(const v1::Sampling& sampling, bool stream,
                           absl::string_view prefix, const Tokenizer& tokenizer,
                           GenerateTask* task);

// All but max_new_tokens and min_new_tokens, which depend on the prompt.
absl::Status ParseStopping(const v1::Stopping& stopping,
                           absl::string_view prefix, const Tokenizer& tokenizer,
                           GenerateTask* task);

// Whether some token can be drawn at every step: before min_new_tokens neither
// the end of text nor a stop token can.
absl::Status CheckSomethingToDraw(const GenerateTask& task,
                                  absl::string_view prefix,
                                  const Tokenizer& tokenizer);

}  // namespace pot

#endif  // POT_SERVER_RPC_SAMPLING_PARSER_H_
