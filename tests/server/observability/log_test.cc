#include "server/observability/log.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

const absl::Time kTime = absl::FromUnixMicros(1700000000123456);

TEST(FormatLogLineTest, TextQuotesWhatCouldBeSyntax) {
  EXPECT_EQ(
      FormatLogLine(
          LogFormat::kText, kTime, LogLevel::kInfo, "request",
          {{"a", "plain/1.0"}, {"b", ""}, {"c", "x y=\"z\"\nerror forged"}}),
      "2023-11-14T22:13:20.123456Z info request a=plain/1.0 b=\"\" "
      "c=\"x y=\\\"z\\\"\\nerror forged\"");
}

TEST(FormatLogLineTest, JsonIsOneObjectWhateverTheBytes) {
  EXPECT_EQ(
      FormatLogLine(LogFormat::kJson, kTime, LogLevel::kWarning, "m",
                    {{"b", "1\n\"2\""}, {"a", "\xff"}}),
      "{\"time\":\"2023-11-14T22:13:20.123456Z\",\"level\":\"warning\","
      "\"message\":\"m\",\"b\":\"1\\n\\\"2\\\"\",\"a\":\"\xef\xbf\xbd\"}");
}

TEST(LogTest, LinesBelowTheLevelAreDropped) {
  testing::internal::CaptureStderr();
  ASSERT_TRUE(StartLogging(LogLevel::kWarning, LogFormat::kText).ok());
  Log(LogLevel::kInfo, "quiet", {});
  Log(LogLevel::kError, "loud", {});
  StopLogging();
  Log(LogLevel::kError, "after the end", {});
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, testing::HasSubstr("error loud\n"));
  EXPECT_THAT(log, testing::Not(testing::HasSubstr("quiet")));
  EXPECT_THAT(log, testing::Not(testing::HasSubstr("after")));
}

}  // namespace
}  // namespace pot
