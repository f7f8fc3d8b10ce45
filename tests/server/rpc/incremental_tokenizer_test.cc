#include "server/rpc/incremental_tokenizer.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/rpc/rpc_testing.h"

namespace pot {
namespace {

using ::testing::HasSubstr;

const Tokenizer& TinyTokenizer() {
  static const auto& tokenizer = *new std::unique_ptr<const Tokenizer>(
      Tokenizer::Load(TinyModelDirectory()).value());
  return *tokenizer;
}

absl::StatusOr<std::vector<int32_t>> InPieces(
    const std::vector<std::string>& pieces) {
  absl::StatusOr<IncrementalTokenizer> tokenizer =
      IncrementalTokenizer::Create(&TinyTokenizer(), "text");
  if (!tokenizer.ok()) return tokenizer.status();
  std::vector<int32_t> ids;
  for (const std::string& piece : pieces) {
    const absl::Status status = tokenizer->Push(piece, &ids);
    if (!status.ok()) return status;
  }
  const absl::Status status = tokenizer->Finish(&ids);
  if (!status.ok()) return status;
  return ids;
}

// Every way of the pattern to look ahead, or to join characters of different
// classes, can come up between these.
std::string RandomText(std::mt19937* random, int parts) {
  static const std::vector<std::string> kParts = {" ",
                                                  "  ",
                                                  "\n",
                                                  "\t",
                                                  "\r\n",
                                                  "\u00a0",
                                                  "\u3000",
                                                  "'",
                                                  "'s",
                                                  "'ll",
                                                  "'l",
                                                  "'re",
                                                  "r",
                                                  "e",
                                                  "ve",
                                                  "the dog",
                                                  "Mill",
                                                  "\u00e9",
                                                  "\u4e2d\u6587",
                                                  "7",
                                                  "42",
                                                  "\u0663",
                                                  "!",
                                                  "?!",
                                                  "...",
                                                  "\U0001F600",
                                                  "-",
                                                  "<|endoftext|>",
                                                  "\u0301",
                                                  "_",
                                                  "\u200d",
                                                  "\u2028",
                                                  "ill",
                                                  "l",
                                                  "\u0085"};
  std::string text;
  for (int i = 0; i < parts; ++i) text += kParts[(*random)() % kParts.size()];
  return text;
}

std::vector<std::string> RandomCut(const std::string& text,
                                   std::mt19937* random, size_t longest) {
  std::vector<std::string> pieces;
  for (size_t begin = 0; begin < text.size();) {
    const size_t size = 1 + (*random)() % longest;
    pieces.push_back(text.substr(begin, size));
    begin += size;
  }
  return pieces;
}

TEST(IncrementalTokenizerTest, PiecesGiveTheTokensOfTheWholeText) {
  std::mt19937 random(20261122);
  for (int round = 0; round < 3000; ++round) {
    const std::string text = RandomText(&random, 1 + round % 40);
    std::vector<int32_t> expected;
    ASSERT_TRUE(TinyTokenizer().Encode(text, &expected).ok()) << text;
    const auto ids = InPieces(RandomCut(text, &random, 1 + round % 9));
    ASSERT_TRUE(ids.ok()) << ids.status();
    ASSERT_EQ(*ids, expected) << text;
  }
}

// All texts of up to six characters over an alphabet of one per class and the
// apostrophe with its letters, byte by byte: every cut that can be taken is.
TEST(IncrementalTokenizerTest, AllShortTextsByteByByte) {
  const std::string alphabet = " \n'sl1!";
  int64_t checked = 0;
  for (int length = 1; length <= 6; ++length) {
    std::vector<int> digits(length, 0);
    for (bool more = true; more;) {
      std::vector<std::string> pieces;
      std::string text;
      for (const int digit : digits) {
        text += alphabet[digit];
        pieces.push_back(std::string(1, alphabet[digit]));
      }
      std::vector<int32_t> expected;
      ASSERT_TRUE(TinyTokenizer().Encode(text, &expected).ok());
      const auto ids = InPieces(pieces);
      ASSERT_TRUE(ids.ok()) << ids.status();
      ASSERT_EQ(*ids, expected) << testing::PrintToString(text);
      ++checked;
      more = false;
      for (int& digit : digits) {
        if (++digit < static_cast<int>(alphabet.size())) {
          more = true;
          break;
        }
        digit = 0;
      }
    }
  }
  // 7 + 7^2 + .. + 7^6
  EXPECT_EQ(checked, 137256);
}

TEST(IncrementalTokenizerTest, EmptyTextHasNoTokens) {
  const auto ids = InPieces({"", ""});
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_TRUE(ids->empty());
}

TEST(IncrementalTokenizerTest, InvalidBytesAreFoundAtTheirOffsetInTheText) {
  EXPECT_THAT(Describe(InPieces({"the dog ", "is\xff"}).status()),
              HasSubstr("INVALID_ARGUMENT INVALID_UTF8 text value=10"));
  // A character cut by a piece is fine, one cut by the end is not.
  EXPECT_TRUE(InPieces({"a\xc3", "\xa9"}).ok());
  EXPECT_THAT(Describe(InPieces({"the dog\xc3"}).status()),
              HasSubstr("INVALID_UTF8 text value=7"));
}

TEST(IncrementalTokenizerTest, LongWordsAreRefusedHoweverTheyAreCut) {
  const size_t limit = IncrementalTokenizer::kMaxWordBytes;
  for (const char letter : {'a', ' ', '!'}) {
    const std::string fits(limit, letter);
    EXPECT_TRUE(InPieces({"x1", fits, "1x"}).ok());
    const std::string word = fits + letter;
    const std::string expected =
        "WORD_TOO_LONG text limit=1048576 value=1048577";
    EXPECT_THAT(Describe(InPieces({"x1", word, "1x"}).status()),
                HasSubstr(expected));
    EXPECT_THAT(Describe(InPieces({"x1" + word.substr(0, 1000),
                                   word.substr(1000) + "1x"})
                             .status()),
                HasSubstr(expected));
  }
}

// A vocabulary of letters only.
TEST(IncrementalTokenizerTest, UnknownBytesAreRefused) {
  const auto letters =
      Tokenizer::FromVocabAndMerges(R"({"a": 0, "b": 1})", "#version: 0.2\n");
  ASSERT_TRUE(letters.ok()) << letters.status();
  auto tokenizer = IncrementalTokenizer::Create(letters->get(), "text");
  ASSERT_TRUE(tokenizer.ok());
  std::vector<int32_t> ids;
  ASSERT_TRUE(tokenizer->Push("ab", &ids).ok());
  EXPECT_THAT(Describe(tokenizer->Push("1a", &ids)),
              HasSubstr("INVALID_ARGUMENT UNKNOWN_TOKEN text"));
}

}  // namespace
}  // namespace pot
