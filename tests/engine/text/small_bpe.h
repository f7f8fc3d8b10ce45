// A byte-level BPE vocabulary small enough to check by hand.
#ifndef POT_TESTS_ENGINE_TEXT_SMALL_BPE_H_
#define POT_TESTS_ENGINE_TEXT_SMALL_BPE_H_

#include <string>
#include <utility>
#include <vector>

#include "engine/text/byte_alphabet.h"
#include "nlohmann/json.hpp"

namespace pot {

// Ids: 0..255 the bytes, 256 "<|endoftext|>", then the results of `merges` in
// order. Parts are bytes, not spellings.
struct SmallBpe {
  explicit SmallBpe(
      const std::vector<std::pair<std::string, std::string>>& merges) {
    for (int byte = 0; byte < 256; ++byte) {
      vocab[SpellBytes(std::string(1, static_cast<char>(byte)))] = byte;
    }
    vocab["<|endoftext|>"] = 256;
    merges_txt = "#version: 0.2\n";
    for (const auto& [left, right] : merges) {
      vocab.emplace(SpellBytes(left + right), vocab.size());
      merges_txt += SpellBytes(left) + " " + SpellBytes(right) + "\n";
    }
  }
  std::string vocab_json() const { return vocab.dump(); }

  nlohmann::json vocab;
  std::string merges_txt;
};

inline SmallBpe EnglishBpe() {
  return SmallBpe({{"h", "e"},          // 257
                   {"l", "l"},          // 258
                   {"he", "ll"},        // 259
                   {"hell", "o"},       // 260
                   {" ", "he"},         // 261
                   {" ", " "},          // 262
                   {"  ", "  "},        // 263
                   {"\n", "\n"},        // 264
                   {"a", "a"},          // 265
                   {"aa", "aa"},        // 266
                   {"'", "s"},          // 267
                   {"\xC3", "\xA9"}});  // 268
}

}  // namespace pot

#endif  // POT_TESTS_ENGINE_TEXT_SMALL_BPE_H_
