#include <random>

#include "engine/base/utf8.h"
#include "engine/text/tokenizer.h"
#include "gtest/gtest.h"
#include "tests/engine/text/small_bpe.h"

namespace pot {
namespace {

class StreamDetokenizerTest : public testing::Test {
 protected:
  StreamDetokenizerTest() {
    const SmallBpe bpe = EnglishBpe();
    tokenizer_ =
        Tokenizer::FromVocabAndMerges(bpe.vocab_json(), bpe.merges_txt).value();
  }
  std::unique_ptr<const Tokenizer> tokenizer_;
};

TEST_F(StreamDetokenizerTest, HoldsBackUntilACharacterIsWhole) {
  StreamDetokenizer stream(tokenizer_.get());
  EXPECT_EQ(stream.Push(260), "hello");
  EXPECT_EQ(stream.Push(0xF0), "");
  EXPECT_EQ(stream.Push(0x9F), "");
  EXPECT_EQ(stream.Push(0x98), "");
  EXPECT_EQ(stream.Push(0x80), "\xF0\x9F\x98\x80");
  EXPECT_EQ(stream.Push(268), "\xC3\xA9");
  EXPECT_EQ(stream.Finish(), "");
}

TEST_F(StreamDetokenizerTest, ReplacesWhatCanNeverBeUtf8) {
  const std::string r = "\xEF\xBF\xBD";
  StreamDetokenizer stream(tokenizer_.get());
  EXPECT_EQ(stream.Push(0x80), r);
  EXPECT_EQ(stream.Push(0xE2), "");
  EXPECT_EQ(stream.Push(0x82), "");
  EXPECT_EQ(stream.Push('x'), r + "x");
  EXPECT_EQ(stream.Push(0xF0), "");
  EXPECT_EQ(stream.Push(0xC3), r);
  EXPECT_EQ(stream.Finish(), r);
  EXPECT_EQ(stream.Finish(), "");
}

TEST_F(StreamDetokenizerTest, UnknownIdsHaveNoBytes) {
  StreamDetokenizer stream(tokenizer_.get());
  EXPECT_EQ(stream.Push(-1), "");
  EXPECT_EQ(stream.Push(tokenizer_->vocab_size()), "");
  EXPECT_EQ(stream.Push('a'), "a");
}

// Any bytes: every chunk is UTF-8, and together they are the whole text with
// its ill-formed parts replaced.
TEST_F(StreamDetokenizerTest, ChunksAreUtf8AndAddUp) {
  const uint8_t bytes[] = {'a',  0x80, 0xBF, 0xC3, 0xA9, 0xE0, 0xA0, 0xED,
                           0x9F, 0xF0, 0x90, 0xF4, 0x8F, 0xFF, 0xC0, 0x98};
  std::mt19937 random(3);
  for (int round = 0; round < 5000; ++round) {
    StreamDetokenizer stream(tokenizer_.get());
    std::string all;
    std::string streamed;
    for (int i = random() % 20; i > 0; --i) {
      const uint8_t byte = bytes[random() % std::size(bytes)];
      all += static_cast<char>(byte);
      const std::string chunk = stream.Push(byte);
      ASSERT_EQ(FindInvalidUtf8(chunk), chunk.size());
      streamed += chunk;
    }
    streamed += stream.Finish();
    ASSERT_EQ(streamed, ReplaceInvalidUtf8(all));
  }
}

}  // namespace
}  // namespace pot
