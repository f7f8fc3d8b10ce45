#include "engine/gpt2/model_files.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "engine/gpt2/float_model.h"

namespace pot {
namespace {

// As long as the tokenizer accepts its files.
constexpr size_t kMaxFileBytes = size_t{64} << 20;

}  // namespace

absl::StatusOr<std::map<std::string, std::string>> ReadModelFiles(
    const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const char* name :
       {kConfigFile, "vocab.json", "merges.txt", "tokenizer.json"}) {
    absl::StatusOr<std::string> content =
        ReadFile(absl::StrCat(directory, "/", name), kMaxFileBytes);
    if (absl::IsNotFound(content.status()) && name != kConfigFile) continue;
    POT_RETURN_IF_ERROR(content.status());
    files.emplace(name, *std::move(content));
  }
  return files;
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> LoadTokenizer(
    const std::string& directory, const Gpt2Config& config) {
  POT_ASSIGN_OR_RETURN(std::unique_ptr<const Tokenizer> tokenizer,
                       Tokenizer::Load(directory));
  if (tokenizer->vocab_size() > config.vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrCat(directory, ": the tokenizer has ", tokenizer->vocab_size(),
                     " tokens, more than the embedding's ", config.vocab_size));
  }
  return tokenizer;
}

absl::Status WriteModelFiles(const std::map<std::string, std::string>& files,
                             const std::string& directory) {
  for (const auto& [name, content] : files) {
    POT_RETURN_IF_ERROR(WriteFile(absl::StrCat(directory, "/", name), content));
  }
  return absl::OkStatus();
}

}  // namespace pot
