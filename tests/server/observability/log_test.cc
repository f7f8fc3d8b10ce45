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

TEST(LogTest, OneLineTellsACallAndItsPromptOnlyWhenGiven) {
  RequestRecord record;
  record.method = "Generate";
  record.request_id = std::string("r1");
  record.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
  record.model = std::string("m");
  record.version = 2;
  record.sha256 = "abc";
  record.prompt_tokens = 3;
  record.generated_tokens = 5;
  record.total = absl::Milliseconds(1500);
  record.code = "CANCELLED";
  record.reason = "CLIENT_CANCELLED";
  testing::internal::CaptureStderr();
  ASSERT_TRUE(StartLogging(LogLevel::kInfo, LogFormat::kText).ok());
  LogRequest(record);
  record.trace_id.clear();
  record.prompt = "two words";
  LogRequest(record);
  StopLogging();
  const std::string log = testing::internal::GetCapturedStderr();
  const size_t end = log.find('\n');
  ASSERT_NE(end, std::string::npos);
  EXPECT_THAT(log.substr(0, end),
              testing::HasSubstr(
                  " info request method=Generate request_id=r1 code=CANCELLED "
                  "trace_id=4bf92f3577b34da6a3ce929d0e0e4736 model=m version=2 "
                  "sha256=abc prompt_tokens=3 generated_tokens=5 "));
  EXPECT_THAT(log.substr(0, end),
              testing::HasSubstr(" total_seconds=1.5 reason=CLIENT_CANCELLED"));
  EXPECT_THAT(log.substr(0, end), testing::Not(testing::HasSubstr("prompt=")));
  EXPECT_THAT(log.substr(end), testing::HasSubstr(" prompt=\"two words\"\n"));
  EXPECT_THAT(log.substr(end), testing::Not(testing::HasSubstr("trace_id")));
}

}  // namespace
}  // namespace pot
