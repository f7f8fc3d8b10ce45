// A tokenized text in memory, which batches are cut from.
#ifndef POT_TRAINER_DATA_TOKEN_CORPUS_H_
#define POT_TRAINER_DATA_TOKEN_CORPUS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/base/thread_pool.h"
#include "engine/text/tokenizer.h"
#include "trainer/data/text_slice.h"

namespace pot {

// Tokens in [0, vocab_size): 2 bytes each up to a vocabulary of 65 536, else 4.
class TokenCorpus {
 public:
  explicit TokenCorpus(int64_t vocab_size);

  int64_t vocab_size() const { return vocab_size_; }
  int64_t size() const;
  int64_t resident_bytes() const;

  // INVALID_ARGUMENT, changing nothing, for a token outside the vocabulary.
  absl::Status Append(absl::Span<const int32_t> tokens);

  // Tokens [begin, begin + out.size()), which must exist.
  void Copy(int64_t begin, absl::Span<int32_t> out) const;

  // A cache file: a safetensors file with the tokens, `key` and a checksum,
  // written atomically.
  absl::Status Save(const std::string& path, absl::string_view key) const;
  // NOT_FOUND without the file; FAILED_PRECONDITION when it has another key or
  // vocabulary; DATA_LOSS when it is damaged.
  static absl::StatusOr<TokenCorpus> Load(const std::string& path,
                                          absl::string_view key,
                                          int64_t vocab_size);

 private:
  using Narrow = std::vector<uint16_t>;
  using Wide = std::vector<int32_t>;

  int64_t vocab_size_;
  std::variant<Narrow, Wide> tokens_;
};

// `progress(done, total)`, in bytes or tokens; returning false makes the result
// CANCELLED. May be null.
using DataProgress = std::function<bool(int64_t, int64_t)>;

struct CorpusOptions {
  TextSlice slice;
  // Null: the calling thread alone. The tokens are the same whatever it is.
  ThreadPool* pool = nullptr;
  // Where tokens are kept between runs; empty keeps none. Made when absent.
  std::string cache_directory;
  // Of TokenizerDigest(); required with a cache.
  std::string tokenizer_digest;
  // Text that a thread takes at a time; the tokens are the same whatever it is.
  int64_t chunk_bytes = int64_t{1} << 20;
  DataProgress progress;
};

// Exactly the ids of Tokenizer::Encode on the whole slice. `text` is UTF-8.
// INVALID_ARGUMENT, with the offset in `text`, for a byte that the vocabulary
// lacks. A damaged cache file is replaced; a cache that cannot be written is an
// error.
absl::StatusOr<TokenCorpus> TokenizeText(absl::string_view text,
                                         const Tokenizer& tokenizer,
                                         const CorpusOptions& options);

// TokenizeText(ReadTexts(paths)); errors name the file and the byte in it.
absl::StatusOr<TokenCorpus> TokenizeFiles(absl::Span<const std::string> paths,
                                          const Tokenizer& tokenizer,
                                          const CorpusOptions& options);

// SHA-256 over the tokenizer's files of a model directory: what a cache of its
// tokens depends on.
absl::StatusOr<std::string> TokenizerDigest(const std::string& directory);

}  // namespace pot

#endif  // POT_TRAINER_DATA_TOKEN_CORPUS_H_
