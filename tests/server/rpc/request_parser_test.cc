#include "server/rpc/request_parser.h"

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/rpc/rpc_testing.h"

namespace pot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

uint64_t FixedRandom() { return 0x1234; }

std::shared_ptr<const LoadedModel> Model() {
  static const auto& model =
      *new std::shared_ptr<const LoadedModel>(LoadTinyModel());
  return model;
}

v1::GenerateRequest ValidGenerate() {
  v1::GenerateRequest request;
  request.mutable_model()->set_name("tiny");
  request.set_text("the dog");
  return request;
}

absl::StatusOr<ParsedGenerate> Parse(const v1::GenerateRequest& request) {
  return ParseGenerate(request, Model(), /*stream=*/false, "", &FixedRandom);
}

template <typename Request>
struct BadCase {
  const char* name;
  std::function<void(Request*)> spoil;
  // Fragments of "CODE REASON field limit=.. value=..: message".
  std::vector<std::string> expected;
};

template <typename Request>
void ExpectBad(const BadCase<Request>& bad, const absl::Status& status) {
  ASSERT_FALSE(status.ok()) << bad.name;
  const std::string text = Describe(status);
  EXPECT_THAT(text, HasSubstr("INVALID_ARGUMENT ")) << bad.name;
  for (const std::string& fragment : bad.expected) {
    EXPECT_THAT(text, HasSubstr(fragment)) << bad.name;
  }
}

using BadGenerate = BadCase<v1::GenerateRequest>;

std::vector<BadGenerate> BadGenerates() {
  using R = v1::GenerateRequest;
  return {
      {"no prompt",
       [](R* r) { r->clear_prompt(); },
       {"MISSING_FIELD prompt:", "neither text nor token_ids"}},
      {"empty text",
       [](R* r) { r->set_text(""); },
       {"EMPTY_PROMPT text limit=1 value=0", "at least one token"}},
      {"no ids",
       [](R* r) { r->mutable_token_ids(); },
       {"EMPTY_PROMPT token_ids limit=1"}},
      {"negative id",
       [](R* r) { r->mutable_token_ids()->add_ids(-1); },
       {"UNKNOWN_TOKEN token_ids.ids[0] limit=[0, 300) value=-1"}},
      {"id beyond the vocabulary",
       [](R* r) {
         r->mutable_token_ids()->add_ids(5);
         r->mutable_token_ids()->add_ids(300);
       },
       {"UNKNOWN_TOKEN token_ids.ids[1]", "is token id 300"}},
      {"text is not UTF-8",
       [](R* r) { r->set_text(std::string("ab\xff")); },
       {"INVALID_UTF8 text value=2", "byte 2"}},
      {"surrogate",
       [](R* r) { r->set_text(std::string("\xed\xa0\x80")); },
       {"INVALID_UTF8 text value=0"}},
      {"overlong text",
       [](R* r) { r->set_text(std::string(1048577, 'a')); },
       {"PROMPT_TOO_LONG text limit=1048576 value=1048577"}},
      {"too many ids",
       [](R* r) {
         for (int i = 0; i <= kMaxTokenIds; ++i) {
           r->mutable_token_ids()->add_ids(1);
         }
       },
       {"PROMPT_TOO_LONG token_ids.ids limit=262144 value=262145"}},
      {"long request_id",
       [](R* r) { r->set_request_id(std::string(129, 'x')); },
       {"INVALID_FIELD request_id limit=128 value=129"}},
      {"newline in request_id",
       [](R* r) { r->set_request_id("a\nb"); },
       {"INVALID_FIELD request_id", "printable ASCII", "a\\nb"}},
      {"letters in request_id",
       [](R* r) { r->set_request_id("\xc3\xa4"); },
       {"INVALID_FIELD request_id", "printable ASCII"}},
      {"temperature -1",
       [](R* r) { r->mutable_sampling()->set_temperature(-1); },
       {"INVALID_FIELD sampling.temperature limit=[0, 100] value=-1"}},
      {"temperature NaN",
       [](R* r) { r->mutable_sampling()->set_temperature(kNan); },
       {"INVALID_FIELD sampling.temperature", "value=nan"}},
      {"temperature infinite",
       [](R* r) { r->mutable_sampling()->set_temperature(kInfinity); },
       {"INVALID_FIELD sampling.temperature", "value=inf"}},
      {"top_k -1",
       [](R* r) { r->mutable_sampling()->set_top_k(-1); },
       {"INVALID_FIELD sampling.top_k", "value=-1"}},
      {"top_p 0",
       [](R* r) { r->mutable_sampling()->set_top_p(0); },
       {"INVALID_FIELD sampling.top_p limit=(0, 1] value=0"}},
      {"top_p 1.5",
       [](R* r) { r->mutable_sampling()->set_top_p(1.5f); },
       {"INVALID_FIELD sampling.top_p", "value=1.5"}},
      {"min_p -0.1",
       [](R* r) { r->mutable_sampling()->set_min_p(-0.1f); },
       {"INVALID_FIELD sampling.min_p limit=[0, 1] value=-0.1"}},
      {"typical_p 0",
       [](R* r) { r->mutable_sampling()->set_typical_p(0); },
       {"INVALID_FIELD sampling.typical_p"}},
      {"repetition_penalty 0",
       [](R* r) { r->mutable_sampling()->set_repetition_penalty(0); },
       {"INVALID_FIELD sampling.repetition_penalty limit=(0, 10]"}},
      {"presence_penalty 11",
       [](R* r) { r->mutable_sampling()->set_presence_penalty(11); },
       {"INVALID_FIELD sampling.presence_penalty limit=[-10, 10] value=11"}},
      {"frequency_penalty NaN",
       [](R* r) { r->mutable_sampling()->set_frequency_penalty(kNan); },
       {"INVALID_FIELD sampling.frequency_penalty"}},
      {"bias of an unknown token",
       [](R* r) { (*r->mutable_sampling()->mutable_logit_bias())[300] = 1; },
       {"UNKNOWN_TOKEN sampling.logit_bias[300]"}},
      {"bias 101",
       [](R* r) { (*r->mutable_sampling()->mutable_logit_bias())[3] = 101; },
       {"INVALID_FIELD sampling.logit_bias[3] limit=[-100, 100] value=101"}},
      {"too many biases",
       [](R* r) {
         for (int i = 0; i <= kMaxLogitBias; ++i) {
           (*r->mutable_sampling()->mutable_logit_bias())[i] = 1;
         }
       },
       {"INVALID_FIELD sampling.logit_bias limit=1024 value=1025"}},
      {"unknown allowed token",
       [](R* r) { r->mutable_sampling()->add_allowed_token_ids(300); },
       {"UNKNOWN_TOKEN sampling.allowed_token_ids[0]"}},
      {"more allowed tokens than there are",
       [](R* r) {
         for (int i = 0; i < 301; ++i) {
           r->mutable_sampling()->add_allowed_token_ids(1);
         }
       },
       {"INVALID_FIELD sampling.allowed_token_ids limit=300 value=301"}},
      {"unknown banned token",
       [](R* r) { r->mutable_sampling()->add_banned_token_ids(-5); },
       {"UNKNOWN_TOKEN sampling.banned_token_ids[0]", "value=-5"}},
      {"everything banned",
       [](R* r) {
         for (int i = 0; i < 300; ++i) {
           r->mutable_sampling()->add_banned_token_ids(i);
         }
       },
       {"INVALID_FIELD sampling.banned_token_ids", "leaves none"}},
      {"the only allowed token banned",
       [](R* r) {
         r->mutable_sampling()->add_allowed_token_ids(7);
         r->mutable_sampling()->add_banned_token_ids(7);
       },
       {"INVALID_FIELD sampling.banned_token_ids", "leaves none"}},
      {"only the end of text may be drawn, but not yet",
       [](R* r) {
         r->mutable_sampling()->add_allowed_token_ids(299);
         r->mutable_stopping()->set_min_new_tokens(1);
       },
       {"INVALID_FIELD stopping.min_new_tokens", "ends the sequence"}},
      {"n 0",
       [](R* r) { r->mutable_sampling()->set_n(0); },
       {"INVALID_FIELD sampling.n limit=[1, 16] value=0"}},
      {"n 17",
       [](R* r) { r->mutable_sampling()->set_n(17); },
       {"INVALID_FIELD sampling.n", "value=17"}},
      {"best_of below n",
       [](R* r) {
         r->mutable_sampling()->set_n(3);
         r->mutable_sampling()->set_best_of(2);
       },
       {"INVALID_FIELD sampling.best_of limit=[3, 16] value=2"}},
      {"best_of 17",
       [](R* r) { r->mutable_sampling()->set_best_of(17); },
       {"INVALID_FIELD sampling.best_of limit=[1, 16] value=17"}},
      {"max_new_tokens 0",
       [](R* r) { r->mutable_stopping()->set_max_new_tokens(0); },
       {"INVALID_FIELD stopping.max_new_tokens", "value=0"}},
      {"max_new_tokens negative",
       [](R* r) { r->mutable_stopping()->set_max_new_tokens(-2147483648); },
       {"INVALID_FIELD stopping.max_new_tokens"}},
      {"max_new_tokens beyond the context",
       [](R* r) { r->mutable_stopping()->set_max_new_tokens(2147483647); },
       {"CONTEXT_OVERFLOW stopping.max_new_tokens limit=63"}},
      {"prompt and new tokens beyond the context",
       [](R* r) { r->mutable_stopping()->set_max_new_tokens(63); },
       {"CONTEXT_OVERFLOW prompt limit=64", "context of 64"}},
      {"prompt fills the context",
       [](R* r) {
         for (int i = 0; i < 64; ++i) r->mutable_token_ids()->add_ids(1);
       },
       {"CONTEXT_OVERFLOW prompt limit=63 value=64", "none to generate"}},
      {"truncation without max_new_tokens",
       [](R* r) {
         for (int i = 0; i < 64; ++i) r->mutable_token_ids()->add_ids(1);
         r->set_overflow(v1::CONTEXT_OVERFLOW_TRUNCATE_LEFT);
       },
       {"CONTEXT_OVERFLOW prompt", "set stopping.max_new_tokens"}},
      {"unknown overflow",
       [](R* r) { r->set_overflow(static_cast<v1::ContextOverflow>(9)); },
       {"INVALID_FIELD overflow limit=[0, 2] value=9"}},
      {"min_new_tokens above max_new_tokens",
       [](R* r) {
         r->mutable_stopping()->set_max_new_tokens(4);
         r->mutable_stopping()->set_min_new_tokens(5);
       },
       {"INVALID_FIELD stopping.min_new_tokens limit=[0, 4] value=5"}},
      {"min_new_tokens negative",
       [](R* r) { r->mutable_stopping()->set_min_new_tokens(-1); },
       {"INVALID_FIELD stopping.min_new_tokens", "value=-1"}},
      {"17 stop strings",
       [](R* r) {
         for (int i = 0; i < 17; ++i)
           r->mutable_stopping()->add_stop_strings(std::string("x"));
       },
       {"INVALID_FIELD stopping.stop_strings limit=16 value=17"}},
      {"empty stop string",
       [](R* r) {
         r->mutable_stopping()->add_stop_strings(std::string("x"));
         r->mutable_stopping()->add_stop_strings(std::string(""));
       },
       {"INVALID_FIELD stopping.stop_strings[1] limit=[1, 256] value=0"}},
      {"long stop string",
       [](R* r) {
         r->mutable_stopping()->add_stop_strings(std::string(257, 'x'));
       },
       {"INVALID_FIELD stopping.stop_strings[0]", "value=257"}},
      {"65 stop tokens",
       [](R* r) {
         for (int i = 0; i < 65; ++i)
           r->mutable_stopping()->add_stop_token_ids(i);
       },
       {"INVALID_FIELD stopping.stop_token_ids limit=64 value=65"}},
      {"unknown stop token",
       [](R* r) { r->mutable_stopping()->add_stop_token_ids(300); },
       {"UNKNOWN_TOKEN stopping.stop_token_ids[0]"}},
      {"logprobs 21",
       [](R* r) { r->mutable_output()->set_logprobs(21); },
       {"INVALID_FIELD output.logprobs limit=[0, 20] value=21"}},
      {"logprobs -1",
       [](R* r) { r->mutable_output()->set_logprobs(-1); },
       {"INVALID_FIELD output.logprobs", "value=-1"}},
      {"prompt_logprobs 21",
       [](R* r) { r->mutable_output()->set_prompt_logprobs(21); },
       {"INVALID_FIELD output.prompt_logprobs"}},
  };
}

TEST(ParseGenerateTest, EveryBadRequestIsRefusedWithItsReason) {
  const std::vector<BadGenerate> cases = BadGenerates();
  EXPECT_THAT(cases, SizeIs(testing::Ge(50)));
  for (const BadGenerate& bad : cases) {
    v1::GenerateRequest request = ValidGenerate();
    bad.spoil(&request);
    ExpectBad(bad, Parse(request).status());
  }
}

TEST(ParseGenerateTest, DefaultsAreTheDocumentedOnes) {
  const absl::StatusOr<ParsedGenerate> parsed = Parse(ValidGenerate());
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const GenerateTask& task = parsed->task;
  EXPECT_EQ(task.request_id, "0000000000001234");
  EXPECT_EQ(task.max_new_tokens, 64 - task.prompt.size());
  EXPECT_EQ(task.min_new_tokens, 0);
  EXPECT_EQ(task.n, 1);
  EXPECT_EQ(task.best_of, 1);
  EXPECT_FLOAT_EQ(task.sampling.temperature, 1);
  EXPECT_FALSE(task.logprobs.has_value());
  EXPECT_EQ(parsed->seed, 0x1234);
  EXPECT_EQ(task.sampling.seed, parsed->seed);
  EXPECT_EQ(parsed->truncated_tokens, 0);
  EXPECT_EQ(parsed->echo, "");
}

TEST(ParseGenerateTest, GivenZerosAreNotDefaults) {
  v1::GenerateRequest request = ValidGenerate();
  request.mutable_sampling()->set_temperature(0);
  request.mutable_sampling()->set_seed(0);
  request.mutable_output()->set_logprobs(0);
  const absl::StatusOr<ParsedGenerate> parsed = Parse(request);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->task.sampling.temperature, 0);
  EXPECT_EQ(parsed->seed, 0);
  EXPECT_EQ(parsed->task.logprobs, 0);
}

TEST(ParseGenerateTest, TruncationKeepsTheEndOfThePrompt) {
  v1::GenerateRequest request = ValidGenerate();
  for (int i = 0; i < 100; ++i) request.mutable_token_ids()->add_ids(i);
  request.mutable_stopping()->set_max_new_tokens(62);
  request.set_overflow(v1::CONTEXT_OVERFLOW_TRUNCATE_LEFT);
  const absl::StatusOr<ParsedGenerate> parsed = Parse(request);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_THAT(parsed->task.prompt, ElementsAre(98, 99));
  EXPECT_EQ(parsed->truncated_tokens, 98);
}

TEST(ParseGenerateTest, EchoIsTheTextOfThePrompt) {
  v1::GenerateRequest request = ValidGenerate();
  request.mutable_output()->set_echo(true);
  const absl::StatusOr<ParsedGenerate> parsed = Parse(request);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->echo, "the dog");
}

TEST(ParseGenerateTest, StreamsNameTheirFieldsAndRefuseBestOf) {
  v1::GenerateRequest request = ValidGenerate();
  request.mutable_sampling()->set_best_of(2);
  EXPECT_TRUE(Parse(request).ok());
  const absl::Status status =
      ParseGenerate(request, Model(), /*stream=*/true, "request.", &FixedRandom)
          .status();
  EXPECT_THAT(Describe(status),
              HasSubstr("INVALID_ARGUMENT INVALID_FIELD "
                        "request.sampling.best_of limit=1 value=2"));
}

TEST(ParseModelRefTest, EveryBadReferenceIsRefused) {
  using R = v1::ModelRef;
  const std::vector<BadCase<R>> cases = {
      {"no name", [](R* r) { r->clear_name(); }, {"MISSING_FIELD model.name"}},
      {"path",
       [](R* r) { r->set_name("../etc"); },
       {"INVALID_FIELD model.name"}},
      {"slash", [](R* r) { r->set_name("a/b"); }, {"INVALID_FIELD model.name"}},
      {"leading dot",
       [](R* r) { r->set_name(".a"); },
       {"INVALID_FIELD model.name"}},
      {"NUL",
       [](R* r) { r->set_name(std::string("a\0b", 3)); },
       {"INVALID_FIELD model.name", "a\\000b"}},
      {"long",
       [](R* r) { r->set_name(std::string(65, 'a')); },
       {"INVALID_FIELD model.name limit=64"}},
      {"version 0",
       [](R* r) { r->set_version(0); },
       {"INVALID_FIELD model.version"}},
      {"version -1",
       [](R* r) { r->set_version(-1); },
       {"INVALID_FIELD model.version", "value=-1"}},
      {"empty alias",
       [](R* r) { r->set_alias(""); },
       {"INVALID_FIELD model.alias"}},
      {"digits as alias",
       [](R* r) { r->set_alias("12"); },
       {"INVALID_FIELD model.alias"}},
      {"short digest",
       [](R* r) { r->set_digest("ab"); },
       {"INVALID_FIELD model.digest limit=64 value=\"ab\""}},
      {"upper-case digest",
       [](R* r) { r->set_digest(std::string(64, 'A')); },
       {"INVALID_FIELD model.digest"}},
  };
  for (const BadCase<R>& bad : cases) {
    v1::ModelRef ref;
    ref.set_name("tiny");
    bad.spoil(&ref);
    ExpectBad(bad, ParseModelRef(ref, "model").status());
  }
  v1::ModelRef ref;
  ref.set_name("tiny-1.0_x");
  ref.set_version(7);
  const absl::StatusOr<ModelSelector> selector = ParseModelRef(ref, "model");
  ASSERT_TRUE(selector.ok()) << selector.status();
  EXPECT_EQ(selector->name, "tiny-1.0_x");
  EXPECT_EQ(selector->version, 7);
}

v1::ScoreRequest ValidScore() {
  v1::ScoreRequest request;
  request.mutable_model()->set_name("tiny");
  for (int id : {1, 2, 3}) request.mutable_token_ids()->add_ids(id);
  return request;
}

absl::StatusOr<ParsedScore> Parse(const v1::ScoreRequest& request) {
  return ParseScore(request, *Model(), &FixedRandom);
}

TEST(ParseScoreTest, EveryBadRequestIsRefused) {
  using R = v1::ScoreRequest;
  const auto add_ids = [](v1::TokenIds* ids, int count) {
    for (int i = 0; i < count; ++i) ids->add_ids(4);
  };
  const std::vector<BadCase<R>> cases = {
      {"no prompt", [](R* r) { r->clear_prompt(); }, {"MISSING_FIELD prompt"}},
      {"one token",
       [](R* r) {
         r->mutable_token_ids()->clear_ids();
         r->mutable_token_ids()->add_ids(1);
       },
       {"EMPTY_PROMPT prompt limit=2 value=1"}},
      {"alternatives",
       [](R* r) { r->set_alternatives(21); },
       {"INVALID_FIELD alternatives limit=[0, 20] value=21"}},
      {"empty continuation",
       [](R* r) { r->add_continuations()->set_text(""); },
       {"EMPTY_PROMPT continuations[0].text"}},
      {"continuation without content",
       [](R* r) { r->add_continuations(); },
       {"MISSING_FIELD continuations[0].content"}},
      {"unknown token",
       [](R* r) { r->add_continuations()->mutable_token_ids()->add_ids(999); },
       {"UNKNOWN_TOKEN continuations[0].token_ids.ids[0]"}},
      {"257 continuations",
       [](R* r) {
         for (int i = 0; i < 257; ++i) r->add_continuations()->set_text("a");
       },
       {"INVALID_FIELD continuations limit=256 value=257"}},
      {"prompt beyond the context",
       [&](R* r) { add_ids(r->mutable_token_ids(), 63); },
       {"CONTEXT_OVERFLOW prompt limit=65 value=66"}},
      {"continuation beyond the context",
       [&](R* r) { add_ids(r->add_continuations()->mutable_token_ids(), 63); },
       {"CONTEXT_OVERFLOW continuations[0] limit=65 value=66"}},
      {"continuation that no truncation makes fit",
       [&](R* r) {
         r->set_overflow(v1::CONTEXT_OVERFLOW_TRUNCATE_LEFT);
         add_ids(r->add_continuations()->mutable_token_ids(), 65);
       },
       {"CONTEXT_OVERFLOW continuations[0]"}},
  };
  for (const BadCase<R>& bad : cases) {
    v1::ScoreRequest request = ValidScore();
    bad.spoil(&request);
    ExpectBad(bad, Parse(request).status());
  }
}

TEST(ParseScoreTest, ContinuationsFollowThePromptAndAloneCount) {
  v1::ScoreRequest request = ValidScore();
  for (int id : {8, 9}) {
    request.add_continuations()->mutable_token_ids()->add_ids(id);
  }
  const absl::StatusOr<ParsedScore> parsed = Parse(request);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  ASSERT_THAT(parsed->windows, SizeIs(2));
  EXPECT_THAT(parsed->windows[1].tokens, ElementsAre(1, 2, 3, 9));
  // Prediction 2 is that of token 3.
  EXPECT_EQ(parsed->windows[1].first_counted, 2);
  EXPECT_FALSE(parsed->scores_prompt);
}

TEST(ParseScoreTest, TruncationShortensThePromptOnly) {
  v1::ScoreRequest request = ValidScore();
  request.set_overflow(v1::CONTEXT_OVERFLOW_TRUNCATE_LEFT);
  auto* ids = request.add_continuations()->mutable_token_ids();
  for (int i = 0; i < 64; ++i) ids->add_ids(5);
  const absl::StatusOr<ParsedScore> parsed = Parse(request);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_THAT(parsed->windows[0].tokens, SizeIs(65));
  EXPECT_EQ(parsed->windows[0].tokens[0], 3);
  EXPECT_EQ(parsed->windows[0].first_counted, 0);
  EXPECT_EQ(parsed->truncated_tokens, 2);
}

TEST(ParsePerplexityTest, WindowAndStrideAreChecked) {
  using R = v1::PerplexityOptions;
  const std::vector<BadCase<R>> cases = {
      {"window 0",
       [](R* r) { r->set_window(0); },
       {"INVALID_FIELD options.window limit=[1, 64] value=0"}},
      {"window 65",
       [](R* r) { r->set_window(65); },
       {"INVALID_FIELD options.window", "value=65"}},
      {"stride 0",
       [](R* r) { r->set_stride(0); },
       {"INVALID_FIELD options.stride limit=[1, 64] value=0"}},
      {"stride above window",
       [](R* r) {
         r->set_window(8);
         r->set_stride(9);
       },
       {"INVALID_FIELD options.stride limit=[1, 8] value=9"}},
      {"request_id",
       [](R* r) { r->set_request_id("\t"); },
       {"INVALID_FIELD options.request_id"}},
  };
  for (const BadCase<R>& bad : cases) {
    v1::PerplexityOptions options;
    bad.spoil(&options);
    ExpectBad(
        bad,
        ParsePerplexity(options, *Model(), nullptr, &FixedRandom).status());
  }
  const auto parsed = ParsePerplexity({}, *Model(), nullptr, &FixedRandom);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->protocol.window, 64);
  EXPECT_EQ(parsed->protocol.stride, 64);
}

TEST(ParseDetokenizeTest, UnknownIdsAreRefusedAndBytesAreExact) {
  v1::DetokenizeRequest request;
  request.add_token_ids(299);
  request.add_token_ids(0);
  const auto bytes = ParseDetokenize(request, *Model()->tokenizer);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(*bytes,
            "<|endoftext|>" + std::string(Model()->tokenizer->TokenBytes(0)));
  request.add_token_ids(300);
  EXPECT_THAT(Describe(ParseDetokenize(request, *Model()->tokenizer).status()),
              HasSubstr("UNKNOWN_TOKEN token_ids[2]"));
}

}  // namespace
}  // namespace pot
