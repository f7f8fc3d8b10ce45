// The files that describe a byte-level BPE vocabulary, read and checked.
#ifndef POT_ENGINE_TEXT_TOKENIZER_FILES_H_
#define POT_ENGINE_TEXT_TOKENIZER_FILES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pot {

inline constexpr absl::string_view kEndOfText = "<|endoftext|>";

struct TokenizerFiles {
  struct Token {
    std::string spelling;  // as in the file
    // Never the result of encoding: "<|endoftext|>", and added tokens that are
    // not in the vocabulary proper.
    bool special = false;
  };
  struct Merge {
    std::string left, right;
    size_t number;  // of its line, from 1, or array element, from 0
  };

  std::vector<Token> tokens;  // by id
  std::vector<Merge> merges;  // by rank
  // What a merge's number counts, for error messages.
  std::string merge_numbering;
};

// Errors are INVALID_ARGUMENT and begin with the file's usual name. Limits:
// kMaxTokenizerFileBytes and kMaxVocabSize (tokenizer.h).
absl::StatusOr<TokenizerFiles> ParseVocabAndMerges(
    absl::string_view vocab_json, absl::string_view merges_txt);
absl::StatusOr<TokenizerFiles> ParseTokenizerJson(
    absl::string_view tokenizer_json);

}  // namespace pot

#endif  // POT_ENGINE_TEXT_TOKENIZER_FILES_H_
