#include "engine/sampling/sampling_params.h"

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kVocabSize = 100;

TEST(SamplingParamsTest, DefaultsAndLimitsAreValid) {
  EXPECT_TRUE(ValidateSamplingParams({}, 1).ok());
  SamplingParams low;
  low.logit_bias = {{0, -100.0f}};
  low.allowed_ids = {0};
  low.banned_ids = {kVocabSize - 1};
  low.repetition_penalty = std::numeric_limits<float>::denorm_min();
  low.presence_penalty = low.frequency_penalty = -10.0f;
  low.temperature = 0.0f;
  low.typical_p = low.top_p = std::numeric_limits<float>::denorm_min();
  EXPECT_TRUE(ValidateSamplingParams(low, kVocabSize).ok());
  SamplingParams high;
  high.logit_bias.assign(1024, {kVocabSize - 1, 100.0f});
  high.repetition_penalty = high.presence_penalty = 10.0f;
  high.frequency_penalty = 10.0f;
  high.temperature = 100.0f;
  high.top_k = std::numeric_limits<int32_t>::max();
  high.min_p = 1.0f;
  high.seed = std::numeric_limits<uint64_t>::max();
  EXPECT_TRUE(ValidateSamplingParams(high, kVocabSize).ok());
}

struct FloatCase {
  std::string field;
  std::string limit;
  std::function<void(SamplingParams*, float)> set;
  float too_low;
  float too_high;
};

TEST(SamplingParamsTest, FloatsOutOfRangeNameFieldLimitAndValue) {
  const float above1 = std::nextafter(1.0f, 2.0f);
  const float above10 = std::nextafter(10.0f, 11.0f);
  const float above100 = std::nextafter(100.0f, 101.0f);
  const float below0 = -std::numeric_limits<float>::denorm_min();
  using P = SamplingParams;
  const std::vector<FloatCase> cases = {
      {"logit_bias[1].bias", "[-100, 100]",
       [](P* p, float x) {
         p->logit_bias = {{1, 0.0f}, {2, x}};
       },
       -above100, above100},
      {"repetition_penalty", "(0, 10]",
       [](P* p, float x) { p->repetition_penalty = x; }, 0.0f, above10},
      {"presence_penalty", "[-10, 10]",
       [](P* p, float x) { p->presence_penalty = x; }, -above10, above10},
      {"frequency_penalty", "[-10, 10]",
       [](P* p, float x) { p->frequency_penalty = x; }, -above10, above10},
      {"temperature", "[0, 100]", [](P* p, float x) { p->temperature = x; },
       below0, above100},
      {"typical_p", "(0, 1]", [](P* p, float x) { p->typical_p = x; }, 0.0f,
       above1},
      {"top_p", "(0, 1]", [](P* p, float x) { p->top_p = x; }, 0.0f, above1},
      {"min_p", "[0, 1]", [](P* p, float x) { p->min_p = x; }, below0, above1},
  };
  for (const FloatCase& test : cases) {
    for (const float value :
         {test.too_low, test.too_high, NAN, INFINITY, -INFINITY}) {
      SamplingParams params;
      test.set(&params, value);
      const absl::Status status = ValidateSamplingParams(params, kVocabSize);
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument)
          << test.field << " = " << value;
      const std::string message(status.message());
      EXPECT_THAT(message, AllOf(HasSubstr(test.field), HasSubstr(test.limit)));
      // The value stands last and reads back exactly.
      const float printed =
          std::strtof(message.c_str() + message.rfind(' ') + 1, nullptr);
      EXPECT_TRUE(printed == value ||
                  (std::isnan(printed) && std::isnan(value)))
          << message;
    }
  }
}

absl::Status Validate(const SamplingParams& params) {
  return ValidateSamplingParams(params, kVocabSize);
}

TEST(SamplingParamsTest, NegativeTopK) {
  SamplingParams params;
  params.top_k = -1;
  const absl::Status status = Validate(params);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "top_k must be 0 or more; the given value is -1");
}

TEST(SamplingParamsTest, IdsOutsideTheVocabulary) {
  for (const int32_t id : {-1, kVocabSize, std::numeric_limits<int32_t>::min(),
                           std::numeric_limits<int32_t>::max()}) {
    SamplingParams bias, allowed, banned;
    bias.logit_bias = {{0, 1.0f}, {1, 1.0f}, {id, 1.0f}};
    allowed.allowed_ids = {0, 1, id};
    banned.banned_ids = {0, 1, id};
    const std::string end =
        " must be a token id in [0, 100); the given "
        "value is " +
        std::to_string(id);
    EXPECT_EQ(Validate(bias).message(), "logit_bias[2].id" + end);
    EXPECT_EQ(Validate(allowed).message(), "allowed_ids[2]" + end);
    EXPECT_EQ(Validate(banned).message(), "banned_ids[2]" + end);
  }
}

TEST(SamplingParamsTest, TooManyEntries) {
  SamplingParams bias, allowed, banned;
  bias.logit_bias.assign(1025, {0, 1.0f});
  allowed.allowed_ids.assign(kVocabSize + 1, 0);
  banned.banned_ids.assign(kVocabSize + 1, 0);
  EXPECT_EQ(Validate(bias).message(),
            "logit_bias must have at most 1024 entries; it has 1025");
  EXPECT_EQ(Validate(allowed).message(),
            "allowed_ids must have at most 100 entries; it has 101");
  EXPECT_EQ(Validate(banned).message(),
            "banned_ids must have at most 100 entries; it has 101");
}

TEST(SamplingParamsTest, SomethingMustBeLeftToDraw) {
  SamplingParams params;
  params.banned_ids.resize(kVocabSize);
  std::iota(params.banned_ids.begin(), params.banned_ids.end(), 0);
  EXPECT_EQ(Validate(params).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Validate(params).message()),
              AllOf(HasSubstr("banned_ids"), HasSubstr("100")));
  // Repetitions do not ban more.
  params.banned_ids.back() = 0;
  EXPECT_TRUE(Validate(params).ok());

  params.allowed_ids = {3, 4};
  EXPECT_THAT(std::string(Validate(params).message()),
              AllOf(HasSubstr("allowed_ids"), HasSubstr("banned")));
  params.banned_ids = {3};
  EXPECT_TRUE(Validate(params).ok());
}

TEST(SamplingParamsTest, VocabularySizeIsBounded) {
  for (const int size : {0, -1, (1 << 23) + 1}) {
    const absl::Status status = ValidateSamplingParams({}, size);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(size)));
  }
}

}  // namespace
}  // namespace pot
