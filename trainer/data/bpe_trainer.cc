#include "trainer/data/bpe_trainer.h"

#include <algorithm>
#include <limits>
#include <queue>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/char_class.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/tokenizer.h"
#include "engine/text/tokenizer_files.h"

namespace pot {
namespace {

constexpr int64_t kProgressPieces = 1 << 16;
constexpr int64_t kMaxPieces = std::numeric_limits<uint32_t>::max();

// The distinct pieces as linked lists of tokens in one array, with the number
// of occurrences of every adjacent pair, exact at any time.
//
// A position comes at most once into the list of one pair: its tokens only
// grow, so a pair that is gone from a position never returns to it. Lists are
// therefore in ascending order: those of the bytes by construction, and a pair
// with a merged token arises only in the pass that makes that token.
class PairTable {
 public:
  struct Candidate {
    int64_t count;
    uint64_t pair;

    // Less: merged later.
    bool operator<(const Candidate& other) const {
      if (count != other.count) return count < other.count;
      return pair > other.pair;
    }
  };

  explicit PairTable(int64_t num_symbols) { symbols_.reserve(num_symbols); }

  void AddPiece(absl::string_view piece, uint32_t weight,
                const std::vector<int32_t>& id_of_byte) {
    const auto begin = static_cast<int32_t>(symbols_.size());
    const auto end = begin + static_cast<int32_t>(piece.size());
    for (int32_t i = begin; i < end; ++i) {
      const int32_t token = id_of_byte[static_cast<uint8_t>(piece[i - begin])];
      symbols_.push_back(
          {token, i > begin ? i - 1 : -1, i + 1 < end ? i + 1 : -1, weight});
      if (i > begin) AddPair(i - 1);
    }
  }

  // Call once, when all pieces are there.
  void FillQueue() {
    for (const auto& [pair, occurrences] : pairs_) {
      queue_.push({occurrences.count, pair});
    }
    created_.clear();
  }

  // The pair to merge now; its count is 0 when there is none.
  Candidate Best() {
    while (!queue_.empty()) {
      const Candidate best = queue_.top();
      const auto found = pairs_.find(best.pair);
      const int64_t count = found == pairs_.end() ? 0 : found->second.count;
      // Counts of queued pairs only fall: an entry says at least the truth, so
      // one that is true is the best.
      if (count == best.count) return best;
      queue_.pop();
      if (count > 0) queue_.push({count, best.pair});
    }
    return {0, 0};
  }

  void Merge(uint64_t pair, int32_t result) {
    const auto found = pairs_.find(pair);
    const std::vector<int32_t> positions = std::move(found->second.positions);
    for (const int32_t position : positions) {
      if (HoldsPair(position, pair)) MergeAt(position, result);
    }
    pairs_.erase(pair);
    for (const uint64_t created : created_) {
      queue_.push({pairs_[created].count, created});
    }
    created_.clear();
  }

  static int32_t Left(uint64_t pair) {
    return static_cast<int32_t>(pair >> 32);
  }
  static int32_t Right(uint64_t pair) {
    return static_cast<int32_t>(pair & 0xFFFFFFFF);
  }

 private:
  struct Symbol {
    int32_t token;           // -1 once merged into its left neighbour
    int32_t previous, next;  // positions; -1 at the ends of a piece
    uint32_t weight;         // how often the piece occurs
  };
  struct Occurrences {
    int64_t count = 0;
    std::vector<int32_t> positions;  // of the left tokens, some outdated
  };

  uint64_t PairAt(int32_t position) const {
    const Symbol& symbol = symbols_[position];
    return uint64_t{static_cast<uint32_t>(symbol.token)} << 32 |
           static_cast<uint32_t>(symbols_[symbol.next].token);
  }
  bool HoldsPair(int32_t position, uint64_t pair) const {
    return symbols_[position].token >= 0 && symbols_[position].next >= 0 &&
           PairAt(position) == pair;
  }
  void AddPair(int32_t position) {
    const uint64_t pair = PairAt(position);
    const auto [found, created] = pairs_.try_emplace(pair);
    if (created) created_.push_back(pair);
    found->second.count += symbols_[position].weight;
    found->second.positions.push_back(position);
  }
  void RemovePair(int32_t position) {
    pairs_[PairAt(position)].count -= symbols_[position].weight;
  }

  void MergeAt(int32_t position, int32_t result) {
    Symbol& left = symbols_[position];
    Symbol& right = symbols_[left.next];
    if (left.previous >= 0) RemovePair(left.previous);
    if (right.next >= 0) RemovePair(left.next);
    RemovePair(position);
    left.token = result;
    left.next = right.next;
    right.token = -1;
    if (left.next >= 0) symbols_[left.next].previous = position;
    if (left.previous >= 0) AddPair(left.previous);
    if (left.next >= 0) AddPair(position);
  }

  std::vector<Symbol> symbols_;
  absl::flat_hash_map<uint64_t, Occurrences> pairs_;
  std::vector<uint64_t> created_;  // pairs that arose since the last merge
  std::priority_queue<Candidate> queue_;
};

// The 256 bytes in GPT-2's order.
std::vector<int32_t> BytesInOrder() {
  std::vector<int32_t> bytes(256);
  for (int32_t byte = 0; byte < 256; ++byte) bytes[byte] = byte;
  std::sort(bytes.begin(), bytes.end(), [](int32_t a, int32_t b) {
    return CodePointOfByte(static_cast<uint8_t>(a)) <
           CodePointOfByte(static_cast<uint8_t>(b));
  });
  return bytes;
}

}  // namespace

BpeTrainer::BpeTrainer() = default;
BpeTrainer::~BpeTrainer() = default;

absl::Status BpeTrainer::AddText(
    absl::string_view text,
    const std::function<void(int64_t, int64_t)>& progress) {
  const size_t invalid = FindInvalidUtf8(text);
  if (invalid != text.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "text is not UTF-8: byte ", invalid, " begins no valid sequence"));
  }
  POT_ASSIGN_OR_RETURN(const CharClasses* const classes, CharClasses::Get());
  for (size_t begin = 0; begin < text.size();) {
    const size_t length = FirstPieceLength(text.substr(begin), *classes);
    const absl::string_view piece = text.substr(begin, length);
    begin += length;
    if (++num_pieces_ > kMaxPieces) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "texts have more pieces than the limit of ", kMaxPieces));
    }
    const auto found = counts_.find(piece);
    if (found != counts_.end()) {
      ++found->second;
    } else {
      distinct_bytes_ += static_cast<int64_t>(length);
      if (distinct_bytes_ > kMaxDistinctBytes) {
        return absl::ResourceExhaustedError(absl::StrCat(
            "the distinct pieces of the texts have more bytes than "
            "the limit of ",
            kMaxDistinctBytes));
      }
      counts_.emplace(std::string(piece), 1);
    }
    if (progress != nullptr && num_pieces_ % kProgressPieces == 0) {
      progress(static_cast<int64_t>(begin), static_cast<int64_t>(text.size()));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<TrainedVocabulary> BpeTrainer::Train(
    int64_t vocab_size,
    const std::function<void(int64_t, int64_t)>& progress) const {
  constexpr auto kMax = static_cast<int64_t>(kMaxVocabSize);
  if (vocab_size < kMinVocabSize || vocab_size > kMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a byte-level BPE vocabulary has ", kMinVocabSize, " to ",
                     kMax, " tokens, not ", vocab_size));
  }
  TrainedVocabulary result;
  std::vector<int32_t> id_of_byte(256);
  for (const int32_t byte : BytesInOrder()) {
    id_of_byte[byte] = static_cast<int32_t>(result.tokens.size());
    result.tokens.push_back(std::string(1, static_cast<char>(byte)));
  }
  PairTable pairs(distinct_bytes_);
  for (const auto& [piece, count] : counts_) {
    pairs.AddPiece(piece, static_cast<uint32_t>(count), id_of_byte);
  }
  pairs.FillQueue();
  const int64_t total = vocab_size - kMinVocabSize;
  for (int64_t rank = 0; rank < total; ++rank) {
    const PairTable::Candidate best = pairs.Best();
    if (best.count < 2) break;
    const int32_t left = PairTable::Left(best.pair);
    const int32_t right = PairTable::Right(best.pair);
    const auto id = static_cast<int32_t>(result.tokens.size());
    // No two merges give the same bytes: which tokens a run of bytes that ends
    // up as one token was made of does not depend on what surrounds it.
    result.tokens.push_back(
        absl::StrCat(result.tokens[left], result.tokens[right]));
    result.merges.emplace_back(left, right);
    pairs.Merge(best.pair, id);
    if (progress != nullptr) progress(rank + 1, total);
  }
  result.tokens.push_back(std::string(kEndOfText));
  result.end_of_text = true;
  return result;
}

}  // namespace pot
