#include "server/serving/generation_sequence.h"

#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/serving/serving_testing.h"

namespace pot {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

int32_t IdOf(absl::string_view bytes) {
  const Tokenizer& tokenizer = *TinyModel()->tokenizer;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.TokenBytes(id) == bytes) return id;
  }
  ADD_FAILURE() << "no token " << bytes;
  return 0;
}

int32_t EndOfText() { return TinyModel()->tokenizer->end_of_text_id(); }

// A sequence whose model says what the test wants.
class GenerationSequenceTest : public testing::Test {
 protected:
  GenerationSequenceTest()
      : task_(MakeTask(std::make_shared<RecordingSink>(), {0, 1}, 40)) {
    task_->sampling.temperature = 0;
    task_->ignore_eos = false;
  }

  void Begin() {
    rules_.emplace(*task_);
    sequence_.emplace(&*rules_, /*index=*/0, nullptr);
  }

  // Feeds logits that prefer `first`, then `second`, to all others.
  absl::StatusOr<TokenEvent> Push(int32_t first, int32_t second = -1) {
    std::vector<float> logits(TinyModel()->config().vocab_size, 0.0f);
    logits[first] = 20.0f;
    if (second >= 0) logits[second] = 10.0f;
    sequence_->Draw(logits);
    return sequence_->Take();
  }

  // Pushes tokens while the sequence goes on; the events' text.
  std::string PushAll(const std::vector<std::string>& tokens) {
    std::string text;
    for (const std::string& token : tokens) {
      if (sequence_->finished()) {
        ADD_FAILURE() << "ended before " << token;
        break;
      }
      const auto event = Push(IdOf(token));
      if (!event.ok()) {
        ADD_FAILURE() << event.status();
        break;
      }
      text += event->text;
      last_ = *event;
    }
    return text;
  }

  std::unique_ptr<GenerateTask> task_;
  std::optional<GenerationRules> rules_;
  std::optional<GenerationSequence> sequence_;
  TokenEvent last_;
};

TEST_F(GenerationSequenceTest, NeverDrawsPaddingOfTheEmbedding) {
  const int32_t padded = TinyModel()->tokenizer->vocab_size();
  Begin();
  std::vector<float> logits(padded + 64, 0.0f);
  logits[padded] = 20.0f;  // no token has this id
  logits[7] = 10.0f;
  sequence_->Draw(logits);
  const auto event = sequence_->Take();
  ASSERT_TRUE(event.ok()) << event.status();
  EXPECT_THAT(event->ids, ElementsAre(7));
}

TEST_F(GenerationSequenceTest, StopStringIsCutOutAcrossTokens) {
  task_->stop_strings = {"zzz", "he dog"};
  Begin();
  EXPECT_EQ(PushAll({"a", " the", " dog"}), "a t");
  EXPECT_EQ(last_.finish, FinishReason::kStopString);
  EXPECT_EQ(last_.stop_string, 1);
  EXPECT_FALSE(last_.stop_token_id.has_value());
  EXPECT_THAT(last_.ids, ElementsAre(IdOf(" dog")));
  EXPECT_TRUE(sequence_->finished());
  EXPECT_EQ(sequence_->generated(), 3);
}

TEST_F(GenerationSequenceTest, TextThatMayBecomeAStopStringIsHeldBack) {
  task_->stop_strings = {"ab!"};
  Begin();
  EXPECT_EQ(PushAll({"x", "a", "b"}), "x");
  EXPECT_EQ(PushAll({"c"}), "abc");
}

TEST_F(GenerationSequenceTest, MinNewTokensDefersStopStrings) {
  task_->stop_strings = {"aa"};
  task_->min_new_tokens = 3;
  Begin();
  // "aa" is complete after two tokens already, but only the one that ends with
  // the third counts.
  EXPECT_EQ(PushAll({"a", "a", "a"}), "a");
  EXPECT_EQ(last_.finish, FinishReason::kStopString);
}

TEST_F(GenerationSequenceTest, DeferredStopStringStaysInTheText) {
  task_->stop_strings = {"ab", "abcd"};
  task_->min_new_tokens = 4;
  Begin();
  EXPECT_EQ(PushAll({"x", "a", "b"}), "x");
  EXPECT_EQ(PushAll({"x", "y"}), "abxy");
  EXPECT_EQ(PushAll({"a", "b"}), "");
  EXPECT_EQ(last_.stop_string, 0);
}

TEST_F(GenerationSequenceTest, LongerStopStringMayEndAfterADeferredOne) {
  task_->stop_strings = {"ab", "abcd"};
  task_->min_new_tokens = 4;
  Begin();
  EXPECT_EQ(PushAll({"a", "b", "c", "d"}), "");
  EXPECT_EQ(last_.finish, FinishReason::kStopString);
  EXPECT_EQ(last_.stop_string, 1);
}

TEST_F(GenerationSequenceTest, EndOfTextEndsButIsNoText) {
  Begin();
  EXPECT_EQ(PushAll({"a"}), "a");
  const auto event = Push(EndOfText());
  ASSERT_TRUE(event.ok());
  EXPECT_EQ(event->text, "");
  EXPECT_EQ(event->finish, FinishReason::kEndOfText);
  EXPECT_EQ(event->stop_token_id, EndOfText());
  EXPECT_THAT(event->ids, ElementsAre(EndOfText()));
  EXPECT_EQ(sequence_->generated(), 2);
}

TEST_F(GenerationSequenceTest, StopTokenEndsAndFlushesHeldText) {
  task_->stop_token_ids = {IdOf("!")};
  task_->stop_strings = {"ab"};
  Begin();
  EXPECT_EQ(PushAll({"x", "a", "!"}), "xa");
  EXPECT_EQ(last_.finish, FinishReason::kStopToken);
  EXPECT_EQ(last_.stop_token_id, IdOf("!"));
}

TEST_F(GenerationSequenceTest, HalfACharacterBecomesAReplacementAtTheEnd) {
  task_->stop_token_ids = {IdOf("!")};
  Begin();
  EXPECT_EQ(PushAll({"x", "\xc3", "!"}), "x\xef\xbf\xbd");
}

TEST_F(GenerationSequenceTest, MinNewTokensSuppressesWhatWouldEnd) {
  task_->min_new_tokens = 2;
  task_->stop_token_ids = {IdOf("!")};
  Begin();
  auto event = Push(EndOfText(), IdOf("b"));
  ASSERT_TRUE(event.ok());
  EXPECT_THAT(event->ids, ElementsAre(IdOf("b")));
  event = Push(IdOf("!"), IdOf("c"));
  ASSERT_TRUE(event.ok());
  EXPECT_THAT(event->ids, ElementsAre(IdOf("c")));
  event = Push(IdOf("!"), IdOf("c"));
  ASSERT_TRUE(event.ok());
  EXPECT_EQ(event->finish, FinishReason::kStopToken);
}

TEST_F(GenerationSequenceTest, IgnoredEndOfTextIsAnyToken) {
  task_->ignore_eos = true;
  task_->min_new_tokens = 2;
  Begin();
  const auto event = Push(EndOfText());
  ASSERT_TRUE(event.ok());
  EXPECT_EQ(event->finish, FinishReason::kNone);
  EXPECT_EQ(event->text, "<|endoftext|>");
}

TEST_F(GenerationSequenceTest, LengthEndsAndFlushes) {
  task_->max_new_tokens = 2;
  task_->stop_strings = {"ab"};
  Begin();
  EXPECT_EQ(PushAll({"x", "a"}), "xa");
  EXPECT_EQ(last_.finish, FinishReason::kLength);
  EXPECT_EQ(last_.stop_string, -1);
}

TEST_F(GenerationSequenceTest, ContextEndsBeforeMaxNewTokens) {
  task_->prompt.assign(62, 5);  // of 64
  task_->max_new_tokens = std::numeric_limits<int64_t>::max();
  Begin();
  PushAll({"x"});
  EXPECT_FALSE(sequence_->finished());
  PushAll({"y"});
  EXPECT_EQ(last_.finish, FinishReason::kLength);
}

TEST_F(GenerationSequenceTest, LogprobsOnlyWhenAskedForButAlwaysSummed) {
  Begin();
  const auto event = Push(IdOf("a"), IdOf("b"));
  ASSERT_TRUE(event.ok());
  EXPECT_THAT(event->logprobs, SizeIs(0));
  // Logits 20 and 10 among zeros; the sampler's result is a float near 2^-14,
  // so off by less than 2^-38.
  EXPECT_NEAR(sequence_->cumulative_logprob(),
              -std::log1p(std::exp(-10.0) + 298 * std::exp(-20.0)), 1e-11);
  task_->logprobs = 2;
  Begin();
  PushAll({"a"});
  ASSERT_THAT(last_.logprobs, SizeIs(1));
  EXPECT_EQ(last_.logprobs[0].id, IdOf("a"));
  EXPECT_THAT(last_.logprobs[0].top, SizeIs(2));
}

TEST_F(GenerationSequenceTest, NonFiniteLogitsAreDataLoss) {
  Begin();
  std::vector<float> logits(TinyModel()->config().vocab_size, 0.0f);
  logits[3] = std::numeric_limits<float>::quiet_NaN();
  sequence_->Draw(logits);
  const auto event = sequence_->Take();
  EXPECT_TRUE(absl::IsDataLoss(event.status())) << event.status();
  EXPECT_EQ(ReasonOf(event.status()), "NON_FINITE_LOGITS");
}

TEST_F(GenerationSequenceTest, NothingLeftToDrawIsTheCallersFault) {
  task_->sampling.allowed_ids = {EndOfText()};
  task_->min_new_tokens = 1;
  Begin();
  const auto event = Push(0);
  EXPECT_TRUE(absl::IsInvalidArgument(event.status())) << event.status();
  EXPECT_EQ(ReasonOf(event.status()), "INVALID_FIELD");
}

TEST_F(GenerationSequenceTest, TakingTwiceIsAnError) {
  Begin();
  ASSERT_TRUE(Push(1).ok());
  EXPECT_TRUE(absl::IsInternal(sequence_->Take().status()));
}

}  // namespace
}  // namespace pot
