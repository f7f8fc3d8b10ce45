#include <array>
#include <filesystem>
#include <memory>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/tokenizer.h"
#include "engine/text/tokenizer_files.h"
#include "trainer/data/bpe_trainer.h"

namespace pot {
namespace {

// The alphabet of spellings has no other character that JSON escapes.
std::string JsonString(absl::string_view spelling) {
  std::string json = "\"";
  for (const char c : spelling) {
    if (c == '"' || c == '\\') json.push_back('\\');
    json.push_back(c);
  }
  json.push_back('"');
  return json;
}

// That engine/text gives every token its id and its bytes.
absl::Status CheckReadBack(const TrainedVocabulary& vocabulary,
                           absl::string_view vocab_json,
                           absl::string_view merges_txt) {
  POT_ASSIGN_OR_RETURN(const std::unique_ptr<const Tokenizer> tokenizer,
                       Tokenizer::FromVocabAndMerges(vocab_json, merges_txt));
  const std::vector<std::string>& tokens = vocabulary.tokens;
  if (tokenizer->vocab_size() != static_cast<int64_t>(tokens.size())) {
    return absl::InternalError(absl::StrCat("a vocabulary of ", tokens.size(),
                                            " tokens reads back with ",
                                            tokenizer->vocab_size()));
  }
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (tokenizer->TokenBytes(static_cast<int32_t>(id)) != tokens[id]) {
      return absl::InternalError(
          absl::StrCat("token ", id, " reads back with other bytes"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string TrainedVocabulary::VocabJson() const {
  std::string json = "{";
  for (size_t id = 0; id < tokens.size(); ++id) {
    const bool special = end_of_text && id + 1 == tokens.size();
    absl::StrAppend(&json, id == 0 ? "" : ", ",
                    JsonString(special ? tokens[id] : SpellBytes(tokens[id])),
                    ": ", id);
  }
  return json + "}";
}

std::string TrainedVocabulary::MergesTxt() const {
  std::string text = "#version: 0.2\n";
  for (const auto& [left, right] : merges) {
    absl::StrAppend(&text, SpellBytes(tokens[left]), " ",
                    SpellBytes(tokens[right]), "\n");
  }
  return text;
}

absl::Status WriteVocabulary(const TrainedVocabulary& vocabulary,
                             const std::string& directory) {
  const std::string vocab_json = vocabulary.VocabJson();
  const std::string merges_txt = vocabulary.MergesTxt();
  POT_RETURN_IF_ERROR(CheckReadBack(vocabulary, vocab_json, merges_txt));
  std::error_code error;
  if (std::filesystem::exists(directory, error)) {
    return absl::AlreadyExistsError(
        absl::StrCat("'", directory, "' is there already"));
  }
  const std::string staging = directory + ".partial";
  std::filesystem::remove_all(staging, error);
  if (!std::filesystem::create_directories(staging, error)) {
    return absl::UnavailableError(
        absl::StrCat("cannot create '", staging, "': ", error.message()));
  }
  absl::Status status = WriteFile(staging + "/vocab.json", vocab_json);
  if (status.ok()) status = WriteFile(staging + "/merges.txt", merges_txt);
  if (status.ok()) status = SyncDirectory(staging);
  if (status.ok()) status = RenameDirectory(staging, directory);
  if (!status.ok()) std::filesystem::remove_all(staging, error);
  return status;
}

TrainedVocabulary CharacterVocabulary(absl::string_view text) {
  std::array<bool, 256> occurs = {};
  for (const char c : text) occurs[static_cast<uint8_t>(c)] = true;
  TrainedVocabulary vocabulary;
  for (int byte = 0; byte < 256; ++byte) {
    if (occurs[byte]) {
      vocabulary.tokens.push_back(std::string(1, static_cast<char>(byte)));
    }
  }
  return vocabulary;
}

}  // namespace pot
