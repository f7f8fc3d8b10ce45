#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/file.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "trainer/data/token_cache.h"
#include "trainer/data/token_corpus.h"

namespace pot {
namespace {

// Whether GPT-2's pre-tokenizer cuts before text[at], whatever comes before and
// after, and the text up to there gives the same pieces alone: white space
// never continues a piece that has other characters, and a text that does not
// end in white space has no piece that a look beyond its end would change.
bool IsSafeCut(absl::string_view text, size_t at) {
  const auto before = static_cast<uint8_t>(text[at - 1]);
  return (text[at] == ' ' || text[at] == '\n') && before > 0x20 &&
         before < 0x7f;
}

// Parts of at least `chunk_bytes`, cut where it is safe; a longer part when
// there is no such place.
std::vector<absl::string_view> SafeChunks(absl::string_view text,
                                          size_t chunk_bytes) {
  std::vector<absl::string_view> chunks;
  while (!text.empty()) {
    size_t end = std::min(chunk_bytes, text.size());
    while (end < text.size() && !IsSafeCut(text, end)) ++end;
    chunks.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return chunks;
}

// The offset of the first byte that `tokenizer` has no token for, or
// text.size().
size_t FindUnknownByte(absl::string_view text, const Tokenizer& tokenizer) {
  std::array<bool, 256> known = {};
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const absl::string_view bytes = tokenizer.TokenBytes(id);
    if (bytes.size() == 1) known[static_cast<uint8_t>(bytes[0])] = true;
  }
  size_t at = 0;
  while (at < text.size() && known[static_cast<uint8_t>(text[at])]) ++at;
  return at;
}

// Says where a byte of the text is, for errors.
using Locator = std::function<std::string(size_t)>;

absl::Status CheckText(absl::string_view text, const Tokenizer& tokenizer,
                       const Locator& locate) {
  const size_t invalid = FindInvalidUtf8(text);
  if (invalid != text.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(locate(invalid), " begins no valid UTF-8 sequence"));
  }
  const size_t unknown = FindUnknownByte(text, tokenizer);
  if (unknown == text.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s, 0x%02X, is not in the vocabulary of %d tokens", locate(unknown),
      static_cast<uint8_t>(text[unknown]), tokenizer.vocab_size()));
}

absl::StatusOr<TokenCorpus> Encode(absl::string_view text,
                                   const Tokenizer& tokenizer,
                                   const CorpusOptions& options) {
  const std::vector<absl::string_view> chunks = SafeChunks(
      text, static_cast<size_t>(std::max<int64_t>(1, options.chunk_bytes)));
  const size_t wave =
      options.pool == nullptr ? 1 : 2 * options.pool->num_threads();
  std::vector<std::vector<int32_t>> tokens(wave);
  std::vector<absl::Status> statuses(wave);
  TokenCorpus corpus(tokenizer.vocab_size());
  int64_t done = 0;
  for (size_t first = 0; first < chunks.size(); first += wave) {
    const size_t count = std::min(wave, chunks.size() - first);
    const auto encode = [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        tokens[i].clear();
        statuses[i] = tokenizer.Encode(chunks[first + i], &tokens[i]);
      }
    };
    if (options.pool == nullptr) {
      encode(0, count);
    } else {
      options.pool->ParallelFor(count, 1, encode);
    }
    for (size_t i = 0; i < count; ++i) {
      POT_RETURN_IF_ERROR(statuses[i]);
      POT_RETURN_IF_ERROR(corpus.Append(tokens[i]));
      done += static_cast<int64_t>(chunks[first + i].size());
    }
    if (options.progress != nullptr &&
        !options.progress(done, static_cast<int64_t>(text.size()))) {
      return absl::CancelledError("tokenizing was cancelled");
    }
  }
  return corpus;
}

absl::StatusOr<TokenCorpus> Tokenize(absl::string_view text,
                                     const Tokenizer& tokenizer,
                                     const CorpusOptions& options,
                                     const Locator& locate) {
  const absl::string_view cut = CutText(text, options.slice);
  POT_RETURN_IF_ERROR(CheckText(cut, tokenizer, [&](size_t offset) {
    return locate(offset + static_cast<size_t>(cut.data() - text.data()));
  }));
  const auto encode = [&] { return Encode(cut, tokenizer, options); };
  if (options.cache_directory.empty()) return encode();
  if (options.tokenizer_digest.empty()) {
    return absl::InvalidArgumentError(
        "a cache of tokens needs the tokenizer's digest");
  }
  const std::string key = absl::StrCat(
      "text ",
      Sha256Hex({reinterpret_cast<const uint8_t*>(cut.data()), cut.size()}),
      " tokenizer ", options.tokenizer_digest);
  return CachedTokens(options.cache_directory, key, tokenizer.vocab_size(),
                      encode);
}

}  // namespace

absl::StatusOr<TokenCorpus> TokenizeText(absl::string_view text,
                                         const Tokenizer& tokenizer,
                                         const CorpusOptions& options) {
  return Tokenize(text, tokenizer, options, [](size_t offset) {
    return absl::StrCat("byte ", offset, " of the text");
  });
}

absl::StatusOr<TokenCorpus> TokenizeFiles(absl::Span<const std::string> paths,
                                          const Tokenizer& tokenizer,
                                          const CorpusOptions& options) {
  std::vector<int64_t> ends;
  POT_ASSIGN_OR_RETURN(const std::string text, ReadTexts(paths, &ends));
  return Tokenize(text, tokenizer, options, [&](size_t offset) {
    const size_t file = std::upper_bound(ends.begin(), ends.end(),
                                         static_cast<int64_t>(offset)) -
                        ends.begin();
    return absl::StrCat(paths[file], ": byte ",
                        offset - (file == 0 ? 0 : ends[file - 1]));
  });
}

absl::StatusOr<std::string> TokenizerDigest(const std::string& directory) {
  Sha256 digest;
  bool any = false;
  for (const char* const name :
       {"vocab.json", "merges.txt", "tokenizer.json"}) {
    const absl::StatusOr<std::string> content =
        ReadFile(absl::StrCat(directory, "/", name), kMaxTokenizerFileBytes);
    if (absl::IsNotFound(content.status())) continue;
    POT_RETURN_IF_ERROR(content.status());
    const std::string part =
        absl::StrCat(name, " ", content->size(), "\n", *content);
    digest.Update({reinterpret_cast<const uint8_t*>(part.data()), part.size()});
    any = true;
  }
  if (!any) {
    return absl::NotFoundError(
        absl::StrCat(directory, " has neither vocab.json nor tokenizer.json"));
  }
  return digest.HexDigest();
}

}  // namespace pot
