// Makes vocabularies: byte-level BPE as GPT-2's, or characters.
#ifndef POT_TRAINER_DATA_BPE_TRAINER_H_
#define POT_TRAINER_DATA_BPE_TRAINER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pot {

// A vocabulary and the merges that lead to it, in bytes.
struct TrainedVocabulary {
  std::vector<std::string> tokens;                  // by id
  std::vector<std::pair<int32_t, int32_t>> merges;  // ids, by rank
  bool end_of_text = false;  // the last id is "<|endoftext|>"

  // vocab.json in the order of ids and merges.txt, as engine/text reads them
  // and Hugging Face writes them.
  std::string VocabJson() const;
  std::string MergesTxt() const;
};

// Writes vocab.json and merges.txt into the new directory `directory` after
// reading them back with engine/text. ALREADY_EXISTS when it is there; it is
// whole or absent.
absl::Status WriteVocabulary(const TrainedVocabulary& vocabulary,
                             const std::string& directory);

// Byte-pair encoding (Sennrich et al., ACL 2016) over the pieces of GPT-2's
// pre-tokenizer. Ids: the 256 bytes in GPT-2's order (that of the characters
// that spell them: "!" is 0), the merges by rank, "<|endoftext|>" last.
//
// Each round merges the pair of adjacent tokens that occurs most often, every
// position of every piece counting, so "aaa" has the pair (a, a) twice. Ties go
// to the lower left id, then to the lower right id. Within a piece a merge runs
// from left to right. It stops early when no pair occurs twice.
//
// Memory grows with the distinct pieces, not with the text.
class BpeTrainer {
 public:
  static constexpr int64_t kMinVocabSize = 257;
  // Total length of the distinct pieces: about 30 bytes of memory each.
  static constexpr int64_t kMaxDistinctBytes = int64_t{1} << 26;

  BpeTrainer();
  ~BpeTrainer();
  BpeTrainer(const BpeTrainer&) = delete;
  BpeTrainer& operator=(const BpeTrainer&) = delete;

  // Counts the pieces of one text, which is UTF-8. A piece never spans two
  // texts. `progress(done, total)`, in bytes, may be null. RESOURCE_EXHAUSTED
  // beyond kMaxDistinctBytes.
  absl::Status AddText(absl::string_view text,
                       const std::function<void(int64_t, int64_t)>& progress);

  // `vocab_size` in [kMinVocabSize, kMaxVocabSize], "<|endoftext|>" included;
  // the result has fewer tokens when it stopped early. `progress`, in merges.
  absl::StatusOr<TrainedVocabulary> Train(
      int64_t vocab_size,
      const std::function<void(int64_t, int64_t)>& progress) const;

  int64_t num_pieces() const { return num_pieces_; }
  int64_t num_distinct_pieces() const {
    return static_cast<int64_t>(counts_.size());
  }

 private:
  absl::flat_hash_map<std::string, int64_t> counts_;  // by piece
  int64_t num_pieces_ = 0;
  int64_t distinct_bytes_ = 0;
};

// The characters of `text`, in the order of their code points, without merges
// and without "<|endoftext|>". A character beyond ASCII takes as many tokens as
// it has bytes: the vocabulary is the bytes that occur, in ascending order.
TrainedVocabulary CharacterVocabulary(absl::string_view text);

}  // namespace pot

#endif  // POT_TRAINER_DATA_BPE_TRAINER_H_
