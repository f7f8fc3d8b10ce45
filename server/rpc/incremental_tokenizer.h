#ifndef POT_SERVER_RPC_INCREMENTAL_TOKENIZER_H_
#define POT_SERVER_RPC_INCREMENTAL_TOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/text/char_class.h"
#include "engine/text/tokenizer.h"

namespace pot {

// Tokenizes a text that arrives in pieces, cut anywhere, in memory bounded by
// its longest word: the ids are those of the whole text.
//
// The text is encoded up to a *safe cut* and the rest kept. It is safe to cut
//   (a) between p, no space, and c of another class (letter, number, other,
//       space), but for p = ' and c a letter;
//   (b) before the last of two or more spaces that a non-space follows.
//
// Proof that a safe cut changes nothing. GPT-2's pattern
//   '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// matches from left to right without looking back, so the text after a cut is
// matched the same if (1) a piece of the whole text begins at the cut, and the
// text before it if (2) its pieces do not depend on what follows.
// (a1) No alternative has a non-space followed by another class within it, but
//   for the contraction, where a letter follows '. (a2) A piece that ends
//   before the cut ended by looking at one character more, which is before the
//   cut. One that ends at the cut is a run ended by the change of class, or a
//   contraction, and the end of the text ends it as well; a contraction would
//   have to cross the cut to be matched in one case only, which (a1) excludes.
//   The spaces of \s+(?!\S) are followed by p at the latest.
// (b1) A run of spaces begins a piece by (a). Of two or more, \s+(?!\S) takes
//   all but the last one when a non-space follows.
// (b2) Without what follows, \s+(?!\S) takes all spaces that are left, which
//   is the same piece.
class IncrementalTokenizer {
 public:
  // Of one word with the space before it, or of a run of spaces.
  static constexpr size_t kMaxWordBytes = size_t{1} << 20;

  // `tokenizer` must outlive this. `field` is what errors call the text.
  static absl::StatusOr<IncrementalTokenizer> Create(const Tokenizer* tokenizer,
                                                     std::string field);

  // Appends the ids that are now certain. INVALID_ARGUMENT with details:
  // INVALID_UTF8, UNKNOWN_TOKEN, WORD_TOO_LONG; nothing may follow an error.
  absl::Status Push(absl::string_view piece, std::vector<int32_t>* ids);
  // The text is over: appends the last ids.
  absl::Status Finish(std::vector<int32_t>* ids);

  // Of text pushed so far.
  int64_t received_bytes() const { return received_; }

 private:
  IncrementalTokenizer(const Tokenizer* tokenizer, const CharClasses* classes,
                       std::string field)
      : tokenizer_(tokenizer), classes_(classes), field_(std::move(field)) {}

  // Looks at the characters of text_ from scanned_ on.
  absl::Status Scan();
  // Encodes and drops text_[0, end).
  absl::Status Encode(size_t end, std::vector<int32_t>* ids);
  absl::Status WrongByte(size_t offset) const;

  const Tokenizer* tokenizer_;
  const CharClasses* classes_;
  std::string field_;
  std::string text_;  // from the last cut on
  int64_t received_ = 0;
  int64_t dropped_ = 0;  // bytes of the text before text_
  size_t scanned_ = 0;   // into text_: a character's begin
  size_t safe_ = 0;      // the last safe cut in text_[0, scanned_)
  // The character before scanned_, if there is one in text_.
  size_t previous_begin_ = 0;
  CharClass previous_class_ = CharClass::kOther;
  // The one before that is a space, too.
  bool two_spaces_ = false;
};

}  // namespace pot

#endif  // POT_SERVER_RPC_INCREMENTAL_TOKENIZER_H_
