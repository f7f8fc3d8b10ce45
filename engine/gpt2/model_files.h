// The small files of a model directory, which a copy takes along unchanged.
#ifndef POT_ENGINE_GPT2_MODEL_FILES_H_
#define POT_ENGINE_GPT2_MODEL_FILES_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace pot {

// Name -> content of config.json and of those of vocab.json, merges.txt and
// tokenizer.json that `directory` has. config.json must be there.
absl::StatusOr<std::map<std::string, std::string>> ReadModelFiles(
    const std::string& directory);

absl::Status WriteModelFiles(const std::map<std::string, std::string>& files,
                             const std::string& directory);

}  // namespace pot

#endif  // POT_ENGINE_GPT2_MODEL_FILES_H_
