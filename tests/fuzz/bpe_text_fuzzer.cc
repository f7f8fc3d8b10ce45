// Any bytes as text: refused exactly when they are not UTF-8, else encoded to
// ids that decode to the same bytes, at once and streamed.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "engine/base/utf8.h"
#include "engine/text/tokenizer.h"
#include "tests/engine/text/small_bpe.h"

namespace {

const pot::Tokenizer& EnglishTokenizer() {
  static const auto* const tokenizer = [] {
    const pot::SmallBpe bpe = pot::EnglishBpe();
    return pot::Tokenizer::FromVocabAndMerges(bpe.vocab_json(), bpe.merges_txt)
        .value()
        .release();
  }();
  return *tokenizer;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const bool valid = pot::FindInvalidUtf8(text) == size;
  const pot::Tokenizer& tokenizer = EnglishTokenizer();
  std::vector<int32_t> ids;
  if (tokenizer.Encode(text, &ids).ok() != valid) std::abort();
  if (valid && tokenizer.Decode(ids).value() != text) std::abort();
  // Ill-formed text reaches the stream as its bytes, ids 0..255.
  if (!valid) ids.assign(data, data + size);
  pot::StreamDetokenizer stream(&tokenizer);
  std::string streamed;
  for (const int32_t id : ids) streamed += stream.Push(id);
  streamed += stream.Finish();
  if (streamed != pot::ReplaceInvalidUtf8(text)) std::abort();
  return 0;
}
