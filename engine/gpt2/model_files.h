// The small files of a model directory, which a copy takes along unchanged.
#ifndef POT_ENGINE_GPT2_MODEL_FILES_H_
#define POT_ENGINE_GPT2_MODEL_FILES_H_

#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/gpt2/gpt2_config.h"
#include "engine/text/tokenizer.h"

namespace pot {

// Name -> content of config.json and of those of vocab.json, merges.txt and
// tokenizer.json that `directory` has. config.json must be there.
absl::StatusOr<std::map<std::string, std::string>> ReadModelFiles(
    const std::string& directory);

// The directory's tokenizer, checked against the model: INVALID_ARGUMENT when
// it has more ids than the embedding (fewer is allowed: padded vocabularies).
absl::StatusOr<std::unique_ptr<const Tokenizer>> LoadTokenizer(
    const std::string& directory, const Gpt2Config& config);

absl::Status WriteModelFiles(const std::map<std::string, std::string>& files,
                             const std::string& directory);

}  // namespace pot

#endif  // POT_ENGINE_GPT2_MODEL_FILES_H_
