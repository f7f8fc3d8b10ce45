// Any bytes as tokenizer files. The first byte chooses: odd, tokenizer.json;
// even, vocab.json and after the first NUL merges.txt. A vocabulary that
// loads must encode or refuse text, and what it encodes must decode to it.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "engine/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const absl::string_view input(reinterpret_cast<const char*>(data + 1),
                                size - 1);
  const size_t nul = input.find('\0');
  const bool has_merges = nul != absl::string_view::npos;
  const auto tokenizer =
      data[0] % 2 == 1
          ? pot::Tokenizer::FromTokenizerJson(input)
          : pot::Tokenizer::FromVocabAndMerges(
                input.substr(0, nul), has_merges ? input.substr(nul + 1) : "");
  if (!tokenizer.ok()) {
    if (!absl::IsInvalidArgument(tokenizer.status())) std::abort();
    return 0;
  }
  for (const absl::string_view text :
       {absl::string_view("abab  ab aaaa\n"), input}) {
    std::vector<int32_t> ids;
    if (!(*tokenizer)->Encode(text, &ids).ok()) {
      if (!ids.empty()) std::abort();
      continue;
    }
    if ((*tokenizer)->Decode(ids).value() != text) std::abort();
  }
  return 0;
}
