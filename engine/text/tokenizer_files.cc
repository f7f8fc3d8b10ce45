#include "engine/text/tokenizer_files.h"

#include <cstddef>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/json.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "engine/text/tokenizer.h"
#include "nlohmann/json.hpp"

namespace pot {
namespace {

using nlohmann::json;

constexpr absl::string_view kVocabName = "vocab.json";
constexpr absl::string_view kMergesName = "merges.txt";
constexpr absl::string_view kTokenizerName = "tokenizer.json";

template <typename... Parts>
absl::Status Invalid(absl::string_view file, const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(file, ": ", parts...));
}

absl::Status CheckSize(absl::string_view file, absl::string_view contents) {
  if (contents.size() <= kMaxTokenizerFileBytes) return absl::OkStatus();
  return Invalid(file, contents.size(), " bytes, more than the limit of ",
                 kMaxTokenizerFileBytes);
}

// A member of an object, or null when it is absent.
const json& Member(const json& object, const char* name) {
  static const json* const kNull = new json;
  const auto member = object.find(name);
  return member == object.end() ? *kNull : *member;
}

// The ids of the vocabulary object `vocab` and, appended to it, of
// `added_tokens`, in one list without gaps.
class VocabBuilder {
 public:
  explicit VocabBuilder(absl::string_view file) : file_(file) {}

  absl::Status AddVocab(const json& vocab) {
    if (!vocab.is_object()) {
      return Invalid(file_, "the vocabulary is no object of token: id");
    }
    for (const auto& [spelling, id] : vocab.items()) {
      POT_RETURN_IF_ERROR(Add(spelling, id, spelling == kEndOfText));
    }
    return absl::OkStatus();
  }

  // Entries that repeat a token of the vocabulary, with its id, change nothing.
  absl::Status AddAddedTokens(const json& added_tokens) {
    if (added_tokens.is_null()) return absl::OkStatus();
    if (!added_tokens.is_array()) {
      return Invalid(file_, "added_tokens is no array");
    }
    for (const json& token : added_tokens) {
      if (!token.is_object() || !Member(token, "content").is_string()) {
        return Invalid(file_, "an element of added_tokens has no content");
      }
      const auto& content =
          Member(token, "content").get_ref<const std::string&>();
      POT_RETURN_IF_ERROR(Add(content, Member(token, "id"), true));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<TokenizerFiles::Token>> Build() && {
    const size_t size = ids_.size();
    if (size == 0) return Invalid(file_, "the vocabulary is empty");
    std::vector<TokenizerFiles::Token> tokens(size);
    for (auto& [spelling, entry] : ids_) {
      if (entry.id >= size) {
        return Invalid(file_, "token ", Quote(spelling), " has id ", entry.id,
                       ", but ", size, " tokens have the ids 0 to ", size - 1);
      }
      TokenizerFiles::Token& token = tokens[entry.id];
      if (!token.spelling.empty()) {
        return Invalid(file_, "tokens ", Quote(token.spelling), " and ",
                       Quote(spelling), " both have id ", entry.id);
      }
      token = {spelling, entry.special};
    }
    return tokens;
  }

 private:
  struct Entry {
    uint64_t id;
    bool special;
  };

  absl::Status Add(const std::string& spelling, const json& id, bool special) {
    if (spelling.empty()) return Invalid(file_, "a token is empty");
    if (!id.is_number_unsigned()) {
      return Invalid(file_, "the id of token ", Quote(spelling),
                     " is no whole number from 0 up");
    }
    const uint64_t value = id.get<uint64_t>();
    const auto [entry, added] = ids_.emplace(spelling, Entry{value, special});
    if (entry->second.id != value) {
      return Invalid(file_, "token ", Quote(spelling), " has both id ",
                     entry->second.id, " and id ", value);
    }
    if (ids_.size() > kMaxVocabSize) {
      return Invalid(file_, "more tokens than the limit of ", kMaxVocabSize);
    }
    return absl::OkStatus();
  }

  absl::string_view file_;
  absl::flat_hash_map<std::string, Entry> ids_;
};

// Splits "left right" at its only space.
bool SplitMerge(absl::string_view line, TokenizerFiles::Merge* merge) {
  const size_t space = line.find(' ');
  if (space == absl::string_view::npos) return false;
  merge->left = std::string(line.substr(0, space));
  merge->right = std::string(line.substr(space + 1));
  return !merge->left.empty() && !merge->right.empty() &&
         !absl::StrContains(merge->right, ' ');
}

absl::StatusOr<std::vector<TokenizerFiles::Merge>> ParseMergesTxt(
    absl::string_view text) {
  const size_t invalid = FindInvalidUtf8(text);
  if (invalid != text.size()) {
    return Invalid(kMergesName, "invalid UTF-8 at byte ", invalid);
  }
  std::vector<TokenizerFiles::Merge> merges;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t newline = text.find('\n');
    absl::string_view line = text.substr(0, newline);
    text.remove_prefix(newline == absl::string_view::npos ? text.size()
                                                          : newline + 1);
    absl::ConsumeSuffix(&line, "\r");
    if (line.empty()) continue;
    if (number == 1 && absl::StartsWith(line, "#version")) continue;
    TokenizerFiles::Merge merge;
    merge.number = number;
    if (!SplitMerge(line, &merge)) {
      return Invalid(kMergesName, "line ", number, " is ", Quote(line),
                     ", not two tokens and one space");
    }
    merges.push_back(std::move(merge));
  }
  return merges;
}

absl::StatusOr<std::vector<TokenizerFiles::Merge>> ParseMergesArray(
    const json& array) {
  if (!array.is_array()) {
    return Invalid(kTokenizerName, "model.merges is no array");
  }
  std::vector<TokenizerFiles::Merge> merges;
  for (const json& element : array) {
    TokenizerFiles::Merge merge;
    merge.number = merges.size();
    bool ok = false;
    if (element.is_string()) {
      ok = SplitMerge(element.get_ref<const std::string&>(), &merge);
    } else if (element.is_array() && element.size() == 2 &&
               element[0].is_string() && element[1].is_string()) {
      merge.left = element[0].get<std::string>();
      merge.right = element[1].get<std::string>();
      ok = !merge.left.empty() && !merge.right.empty();
    }
    if (!ok) {
      return Invalid(kTokenizerName, "model.merges element ", merge.number,
                     " is neither \"left right\" nor [\"left\", \"right\"]");
    }
    merges.push_back(std::move(merge));
  }
  return merges;
}

bool IsAbsentOr(const json& value, const json& neutral) {
  return value.is_null() || value == neutral;
}

// Refuses every setting that would give other ids than GPT-2's algorithm.
absl::Status CheckModelSettings(const json& model) {
  if (!IsAbsentOr(Member(model, "type"), "BPE")) {
    return Invalid(kTokenizerName, "model.type is ",
                   Quote(Member(model, "type").dump()),
                   "; only \"BPE\" is supported");
  }
  const struct {
    const char* name;
    json neutral;
  } settings[] = {{"dropout", 0.0},
                  {"continuing_subword_prefix", ""},
                  {"end_of_word_suffix", ""},
                  {"byte_fallback", false},
                  {"ignore_merges", false}};
  for (const auto& [name, neutral] : settings) {
    if (!IsAbsentOr(Member(model, name), neutral)) {
      return Invalid(kTokenizerName, "model.", name, " is ",
                     Quote(Member(model, name).dump()), "; only ",
                     neutral.dump(), " is supported");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPipelineSettings(const json& document) {
  if (!Member(document, "normalizer").is_null()) {
    return Invalid(kTokenizerName, "has a normalizer; none is supported");
  }
  const json& pre_tokenizer = Member(document, "pre_tokenizer");
  if (!pre_tokenizer.is_object() ||
      Member(pre_tokenizer, "type") != "ByteLevel") {
    return Invalid(kTokenizerName, "pre_tokenizer.type must be \"ByteLevel\"");
  }
  if (Member(pre_tokenizer, "add_prefix_space") != false) {
    return Invalid(kTokenizerName,
                   "pre_tokenizer.add_prefix_space must be false");
  }
  if (!IsAbsentOr(Member(pre_tokenizer, "use_regex"), true)) {
    return Invalid(kTokenizerName, "pre_tokenizer.use_regex must be true");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerFiles> ParseVocabAndMerges(
    absl::string_view vocab_json, absl::string_view merges_txt) {
  POT_RETURN_IF_ERROR(CheckSize(kVocabName, vocab_json));
  POT_RETURN_IF_ERROR(CheckSize(kMergesName, merges_txt));
  POT_ASSIGN_OR_RETURN(const json vocab, ParseJson(vocab_json, kVocabName));
  VocabBuilder builder(kVocabName);
  POT_RETURN_IF_ERROR(builder.AddVocab(vocab));
  TokenizerFiles files;
  POT_ASSIGN_OR_RETURN(files.tokens, std::move(builder).Build());
  POT_ASSIGN_OR_RETURN(files.merges, ParseMergesTxt(merges_txt));
  files.merge_numbering = "merges.txt: line ";
  return files;
}

absl::StatusOr<TokenizerFiles> ParseTokenizerJson(
    absl::string_view tokenizer_json) {
  POT_RETURN_IF_ERROR(CheckSize(kTokenizerName, tokenizer_json));
  POT_ASSIGN_OR_RETURN(const json document,
                       ParseJson(tokenizer_json, kTokenizerName));
  if (!document.is_object() || !Member(document, "model").is_object()) {
    return Invalid(kTokenizerName, "has no model object");
  }
  const json& model = Member(document, "model");
  POT_RETURN_IF_ERROR(CheckModelSettings(model));
  POT_RETURN_IF_ERROR(CheckPipelineSettings(document));
  VocabBuilder builder(kTokenizerName);
  POT_RETURN_IF_ERROR(builder.AddVocab(Member(model, "vocab")));
  POT_RETURN_IF_ERROR(builder.AddAddedTokens(Member(document, "added_tokens")));
  TokenizerFiles files;
  POT_ASSIGN_OR_RETURN(files.tokens, std::move(builder).Build());
  POT_ASSIGN_OR_RETURN(files.merges, ParseMergesArray(Member(model, "merges")));
  files.merge_numbering = "tokenizer.json: model.merges element ";
  return files;
}

}  // namespace pot
