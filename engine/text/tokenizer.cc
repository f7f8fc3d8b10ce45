#include "engine/text/tokenizer.h"

#include <array>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/file.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "engine/text/bpe.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/char_class.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/tokenizer_files.h"

namespace pot {
namespace {

class BpeTokenizer : public Tokenizer {
 public:
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> Create(
      const TokenizerFiles& files);

  int vocab_size() const override { return static_cast<int>(bytes_.size()); }
  int32_t end_of_text_id() const override { return end_of_text_id_; }
  absl::Status Encode(absl::string_view text,
                      std::vector<int32_t>* ids) const override;
  absl::string_view TokenBytes(int32_t id) const override {
    if (id < 0 || id >= vocab_size()) return {};
    return bytes_[id];
  }

 private:
  BpeTokenizer() { id_of_byte_.fill(-1); }

  absl::Status AddMerges(
      const TokenizerFiles& files,
      const absl::flat_hash_map<absl::string_view, int32_t>& id_of_spelling);

  // Appends the ids of text[begin, end), byte by byte.
  absl::Status AppendBytes(absl::string_view text, size_t begin, size_t end,
                           std::vector<int32_t>* ids) const;

  const CharClasses* char_classes_ = nullptr;
  std::vector<std::string> bytes_;  // by id
  std::array<int32_t, 256> id_of_byte_;
  int32_t end_of_text_id_ = -1;
  BpeMerges merges_;
};

absl::StatusOr<std::unique_ptr<const Tokenizer>> BpeTokenizer::Create(
    const TokenizerFiles& files) {
  std::unique_ptr<BpeTokenizer> tokenizer(new BpeTokenizer);
  POT_ASSIGN_OR_RETURN(tokenizer->char_classes_, CharClasses::Get());
  absl::flat_hash_map<absl::string_view, int32_t> id_of_spelling;
  for (const TokenizerFiles::Token& token : files.tokens) {
    const int32_t id = tokenizer->vocab_size();
    std::optional<std::string> bytes = UnspellBytes(token.spelling);
    if (bytes.has_value() && !token.special) {
      id_of_spelling.emplace(token.spelling, id);
      if (bytes->size() == 1) {
        tokenizer->id_of_byte_[static_cast<uint8_t>((*bytes)[0])] = id;
      }
    }
    if (token.spelling == kEndOfText) tokenizer->end_of_text_id_ = id;
    // A special token may hold characters outside the alphabet; it is then
    // its own text.
    tokenizer->bytes_.push_back(std::move(bytes).value_or(token.spelling));
  }
  POT_RETURN_IF_ERROR(tokenizer->AddMerges(files, id_of_spelling));
  return tokenizer;
}

absl::Status BpeTokenizer::AddMerges(
    const TokenizerFiles& files,
    const absl::flat_hash_map<absl::string_view, int32_t>& id_of_spelling) {
  for (const TokenizerFiles::Merge& merge : files.merges) {
    const std::string result = absl::StrCat(merge.left, merge.right);
    std::array<int32_t, 3> ids;
    int i = 0;
    for (absl::string_view part :
         {absl::string_view(merge.left), absl::string_view(merge.right),
          absl::string_view(result)}) {
      const auto id = id_of_spelling.find(part);
      if (id == id_of_spelling.end()) {
        return absl::InvalidArgumentError(
            absl::StrCat(files.merge_numbering, merge.number, ": ", Quote(part),
                         " is not an ordinary token of the vocabulary"));
      }
      ids[i++] = id->second;
    }
    if (!merges_.Add(ids[0], ids[1], ids[2])) {
      return absl::InvalidArgumentError(absl::StrCat(
          files.merge_numbering, merge.number, ": ", Quote(merge.left), " and ",
          Quote(merge.right), " are merged before"));
    }
  }
  return absl::OkStatus();
}

absl::Status BpeTokenizer::AppendBytes(absl::string_view text, size_t begin,
                                       size_t end,
                                       std::vector<int32_t>* ids) const {
  for (size_t i = begin; i < end; ++i) {
    const uint8_t byte = static_cast<uint8_t>(text[i]);
    if (id_of_byte_[byte] < 0) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "byte 0x%02X at offset %d of the text is not in the vocabulary of "
          "%d tokens",
          byte, i, vocab_size()));
    }
    ids->push_back(id_of_byte_[byte]);
  }
  return absl::OkStatus();
}

absl::Status BpeTokenizer::Encode(absl::string_view text,
                                  std::vector<int32_t>* ids) const {
  if (text.size() > kMaxEncodeBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("text has ", text.size(),
                     " bytes, more than the limit of ", kMaxEncodeBytes));
  }
  const size_t invalid = FindInvalidUtf8(text);
  if (invalid != text.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "text is not UTF-8: byte ", invalid, " begins no valid sequence"));
  }
  std::vector<int32_t> result;
  std::vector<int32_t> piece;
  BpeMerges::Workspace workspace;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end =
        begin + FirstPieceLength(text.substr(begin), *char_classes_);
    piece.clear();
    POT_RETURN_IF_ERROR(AppendBytes(text, begin, end, &piece));
    merges_.Apply(&piece, &workspace);
    result.insert(result.end(), piece.begin(), piece.end());
    begin = end;
  }
  ids->insert(ids->end(), result.begin(), result.end());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::Load(
    const std::string& directory) {
  const std::string vocab_path = absl::StrCat(directory, "/vocab.json");
  absl::StatusOr<std::string> vocab =
      ReadFile(vocab_path, kMaxTokenizerFileBytes);
  if (absl::IsNotFound(vocab.status())) {
    absl::StatusOr<std::string> tokenizer_json = ReadFile(
        absl::StrCat(directory, "/tokenizer.json"), kMaxTokenizerFileBytes);
    if (absl::IsNotFound(tokenizer_json.status())) {
      return absl::NotFoundError(absl::StrCat(
          directory, " has neither vocab.json nor tokenizer.json"));
    }
    POT_RETURN_IF_ERROR(tokenizer_json.status());
    return FromTokenizerJson(*tokenizer_json);
  }
  POT_RETURN_IF_ERROR(vocab.status());
  POT_ASSIGN_OR_RETURN(
      const std::string merges,
      ReadFile(absl::StrCat(directory, "/merges.txt"), kMaxTokenizerFileBytes));
  return FromVocabAndMerges(*vocab, merges);
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::FromVocabAndMerges(
    absl::string_view vocab_json, absl::string_view merges_txt) {
  POT_ASSIGN_OR_RETURN(const TokenizerFiles files,
                       ParseVocabAndMerges(vocab_json, merges_txt));
  return BpeTokenizer::Create(files);
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::FromTokenizerJson(
    absl::string_view tokenizer_json) {
  POT_ASSIGN_OR_RETURN(const TokenizerFiles files,
                       ParseTokenizerJson(tokenizer_json));
  return BpeTokenizer::Create(files);
}

absl::StatusOr<std::string> Tokenizer::Decode(
    absl::Span<const int32_t> ids) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab_size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("token id ", id, " is not in the vocabulary of ",
                       vocab_size(), " tokens"));
    }
    const absl::string_view token = TokenBytes(id);
    bytes.append(token.data(), token.size());
  }
  return bytes;
}

}  // namespace pot
