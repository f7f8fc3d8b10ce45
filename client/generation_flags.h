#ifndef POT_CLIENT_GENERATION_FLAGS_H_
#define POT_CLIENT_GENERATION_FLAGS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/command.h"
#include "pot/v1/common.pb.h"
#include "pot/v1/inference.pb.h"

namespace pot {

// A flag for every field of Sampling and Stopping, each writing its field of
// `request`. Ranges are the server's to check.
void AddSamplingFlags(const Command& app, v1::GenerateRequest* request);

// A flag for every field of Output, --request-id and --prompt-token-ids.
void AddOutputFlags(const Command& app, v1::GenerateRequest* request);

// --overflow reject|truncate-left.
void AddOverflowFlag(const Command& app,
                     std::function<void(v1::ContextOverflow)> set);

// Whole numbers in decimal. INVALID_ARGUMENT for anything else.
absl::StatusOr<std::vector<int32_t>> ParseTokenIds(
    const std::vector<std::string>& texts);

// Flags that hold token ids: "--x 1,2 --x 3".
Flag AddTokenIdsFlag(const Command& app, const std::string& name,
                     google::protobuf::RepeatedField<int32_t>* ids,
                     const std::string& description);

}  // namespace pot

#endif  // POT_CLIENT_GENERATION_FLAGS_H_
