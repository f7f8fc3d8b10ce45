#include "trainer/report/report_case.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Keys(const std::vector<ReportCase>& cases) {
  std::vector<std::string> keys;
  for (const ReportCase& which : cases) keys.push_back(which.Key());
  return keys;
}

TEST(PlanReportTest, IsTheFloatModelAndEveryCombination) {
  std::vector<std::string> left_out;
  const auto cases = PlanReport(
      {{"pot4", "mixed3.5"}, {"row", "g64"}, {"rtn", "gptq"}}, &left_out);
  ASSERT_TRUE(cases.ok()) << cases.status();
  EXPECT_THAT(
      Keys(*cases),
      ElementsAre("f32", "pot4-row-rtn", "pot4-row-gptq", "pot4-g64-rtn",
                  "pot4-g64-gptq", "mixed3.5-row-rtn", "mixed3.5-row-gptq",
                  "mixed3.5-g64-rtn", "mixed3.5-g64-gptq"));
  EXPECT_THAT(left_out, ElementsAre());
}

TEST(PlanReportTest, LeavesOutWhatDoesNotGoTogether) {
  std::vector<std::string> left_out;
  // The papers' arithmetic knows neither two-hot levels nor, among the formats
  // to mix, those.
  const auto cases = PlanReport(
      {{"pot4", "twohot4", "mixed4"}, {"row"}, {"paper"}}, &left_out);
  ASSERT_TRUE(cases.ok()) << cases.status();
  EXPECT_THAT(Keys(*cases), ElementsAre("f32", "pot4-row-paper"));
  EXPECT_THAT(left_out, ElementsAre("twohot4 row paper", "mixed4 row paper"));
}

TEST(PlanReportTest, RefusesNamesItDoesNotKnow) {
  struct Case {
    ReportSelection selection;
    const char* fragment;
  };
  const Case kCases[] = {
      {{{}, {"row"}, {"rtn"}}, "--formats names nothing"},
      {{{"pot4"}, {}, {"rtn"}}, "--granularities names nothing"},
      {{{"pot4"}, {"row"}, {}}, "--methods names nothing"},
      {{{"pot4", "pot3", "pot4"}, {"row"}, {"rtn"}}, "\"pot4\" twice"},
      {{{"pot9"}, {"row"}, {"rtn"}}, "pot9"},
      {{{"f32"}, {"row"}, {"rtn"}}, "f32"},
      {{{"pot4"}, {"g48"}, {"rtn"}}, "g48"},
      {{{"pot4"}, {"row"}, {"gpt"}}, "gpt"},
      {{{"pot4"}, {"row"}, {"rtn+gptq"}}, "+outliers and +equalize"},
      {{{"pot4"}, {"row"}, {"rtn+equalize+equalize"}}, "\"equalize\" twice"},
      {{{"mixed"}, {"row"}, {"rtn"}}, "from 1 to 32, mixed3.5, not by \"\""},
      {{{"mixed0.9"}, {"row"}, {"rtn"}}, "not by \"0.9\""},
      {{{"mixed33"}, {"row"}, {"rtn"}}, "not by \"33\""},
      {{{"mixednan"}, {"row"}, {"rtn"}}, "not by \"nan\""},
      {{{"mixed3.50"}, {"row"}, {"rtn"}}, "not by \"3.50\""},
      {{{"mixed 3.5"}, {"row"}, {"rtn"}}, "not by \" 3.5\""},
      {{{"mixed3.5bits"}, {"row"}, {"rtn"}}, "not by \"3.5bits\""},
  };
  for (const Case& test : kCases) {
    std::vector<std::string> left_out;
    const auto cases = PlanReport(test.selection, &left_out);
    EXPECT_TRUE(absl::IsInvalidArgument(cases.status())) << cases.status();
    EXPECT_THAT(cases.status().message(), HasSubstr(test.fragment));
  }
}

TEST(JobOfTest, IsWhatQuantizeIsAskedFor) {
  const auto job = JobOf({"pot3", "g32p2", "gptq+outliers+equalize"});
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->quantize.format, "pot3");
  EXPECT_EQ(job->quantize.granularity, "g32p2");
  EXPECT_EQ(job->quantize.method, "gptq");
  EXPECT_EQ(job->quantize.outliers, "0.1%");
  EXPECT_EQ(job->quantize.bits_budget, 0);
  EXPECT_TRUE(job->calibration.equalize);

  const auto mixed = JobOf({"mixed3.25", "g64", "rtn"});
  ASSERT_TRUE(mixed.ok()) << mixed.status();
  EXPECT_EQ(mixed->quantize.bits_budget, 3.25);
  EXPECT_EQ(mixed->quantize.method, "rtn");
  EXPECT_EQ(mixed->quantize.outliers, "0%");
  EXPECT_FALSE(mixed->calibration.equalize);
}

TEST(NeedsCalibrationTest, IsForWhatLooksAtActivations) {
  EXPECT_FALSE(NeedsCalibration(ReportCase{"pot4", "row", "rtn"}));
  EXPECT_FALSE(NeedsCalibration(ReportCase{"pot4", "row", "rtn+outliers"}));
  EXPECT_TRUE(NeedsCalibration(ReportCase{"pot4", "row", "rtn+equalize"}));
  EXPECT_TRUE(NeedsCalibration(ReportCase{"pot4", "row", "gptq"}));
  EXPECT_TRUE(NeedsCalibration(ReportCase{"mixed3.5", "row", "rtn"}));
}

}  // namespace
}  // namespace pot
