// GPT-2's byte-level BPE tokenizer.
#ifndef POT_ENGINE_TEXT_TOKENIZER_H_
#define POT_ENGINE_TEXT_TOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace pot {

// Limits; beyond each, INVALID_ARGUMENT with the limit and the given value.
inline constexpr size_t kMaxTokenizerFileBytes = size_t{64} << 20;
inline constexpr size_t kMaxVocabSize = 1000000;
inline constexpr size_t kMaxEncodeBytes = size_t{256} << 20;

// Immutable and safe to share between threads.
class Tokenizer {
 public:
  // From a Hugging Face model directory: vocab.json + merges.txt, or where
  // there is no vocab.json, tokenizer.json (model type BPE, byte-level, no
  // prefix space). NOT_FOUND when a file is missing. Hostile input is
  // INVALID_ARGUMENT: ids that are not 0..n-1 each once, merges that repeat or
  // whose parts or result are no tokens (with the line), broken JSON or UTF-8.
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> Load(
      const std::string& directory);
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> FromVocabAndMerges(
      absl::string_view vocab_json, absl::string_view merges_txt);
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> FromTokenizerJson(
      absl::string_view tokenizer_json);

  virtual ~Tokenizer() = default;

  virtual int vocab_size() const = 0;

  // Id of "<|endoftext|>", or -1 when the vocabulary has none.
  virtual int32_t end_of_text_id() const = 0;

  // Appends the ids of `text` to `ids`. Special and added tokens are not
  // recognised in text: "<|endoftext|>" is encoded as its letters, as
  // tiktoken's encode_ordinary does. INVALID_ARGUMENT, with the offset, when
  // the text is not UTF-8 or has a byte that the vocabulary lacks; `ids` is
  // then unchanged. Time is O(n log n) in the length, also for one endless
  // word.
  virtual absl::Status Encode(absl::string_view text,
                              std::vector<int32_t>* ids) const = 0;

  // Bytes of one token. Empty for an id outside [0, vocab_size).
  virtual absl::string_view TokenBytes(int32_t id) const = 0;

  // Concatenated bytes of `ids`; not necessarily valid UTF-8.
  // INVALID_ARGUMENT, naming the id and the vocabulary size, on an unknown id.
  absl::StatusOr<std::string> Decode(absl::Span<const int32_t> ids) const;
};

// Turns a stream of tokens into a stream of whole UTF-8: bytes that may yet
// become a character are held back.
class StreamDetokenizer {
 public:
  // `tokenizer` must outlive this.
  explicit StreamDetokenizer(const Tokenizer* tokenizer)
      : tokenizer_(tokenizer) {}

  // Text that `id` completes, possibly empty; an unknown id has no bytes. Bytes
  // that can never be UTF-8 come out as U+FFFD, one per maximal ill-formed
  // subpart (Unicode 3.9).
  std::string Push(int32_t id);

  // The rest: an incomplete sequence comes out as U+FFFD.
  std::string Finish();

 private:
  const Tokenizer* tokenizer_;
  std::string pending_;
};

}  // namespace pot

#endif  // POT_ENGINE_TEXT_TOKENIZER_H_
