// Load tests: when requests are due, what is counted, and the command.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "client/load_plan.h"
#include "client/load_plot.h"
#include "client/load_prompts.h"
#include "client/load_report.h"
#include "client/load_statistics.h"
#include "engine/base/philox.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/client/client_testing.h"
#include "tests/client/fake_server.h"

namespace pot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(NearestRankTest, IsTheSmallestValueThatEnoughDoNotExceed) {
  for (const int count : {1, 2, 3, 7, 100, 101, 1000}) {
    std::vector<float> values;
    for (int i = 0; i < count; ++i) {
      // Coarse, so that some are equal.
      values.push_back(static_cast<float>(
          std::floor(50 * PhiloxUniform(3, 0, static_cast<uint64_t>(i)))));
    }
    std::sort(values.begin(), values.end());
    for (const double share : {0.001, 0.25, 0.5, 0.9, 0.95, 0.99, 1.0}) {
      const double rank = NearestRank(values, share);
      const auto not_above = [&](double limit) {
        return std::count_if(values.begin(), values.end(), [&](float value) {
          return static_cast<double>(value) <= limit;
        });
      };
      EXPECT_TRUE(std::count(values.begin(), values.end(),
                             static_cast<float>(rank)) > 0);
      EXPECT_GE(static_cast<double>(not_above(rank)), share * count);
      EXPECT_LT(static_cast<double>(not_above(rank - 0.5)), share * count);
    }
  }
}

TEST(NearestRankTest, OfTen) {
  const std::vector<float> values = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  EXPECT_EQ(NearestRank(values, 0.5), 5);
  EXPECT_EQ(NearestRank(values, 0.9), 9);
  EXPECT_EQ(NearestRank(values, 0.91), 10);
  EXPECT_EQ(NearestRank(values, 0.99), 10);
}

RequestRecord Answered(double due, double first_token,
                       std::vector<float> gaps) {
  RequestRecord record;
  record.due = record.sent = due;
  record.first_token = first_token;
  record.end = first_token;
  for (const float gap : gaps) record.end += static_cast<double>(gap);
  record.gaps = std::move(gaps);
  return record;
}

TEST(LoadStatisticsTest, CountsFromWhenARequestWasDue) {
  RequestRecord late = Answered(1, 3, {0.5f, 0.5f});
  late.sent = 2.5;
  const LoadSummary summary = SummarizeLoad({late}, 0, 10, {});
  EXPECT_EQ(summary.first_token.max, 2);
  EXPECT_EQ(summary.total.max, 3);
  EXPECT_EQ(summary.inter_token.count, 2);
  EXPECT_EQ(summary.max_send_delay, 1.5);
}

TEST(LoadStatisticsTest, RatesAreOfWhatArrivesInTheWindow) {
  // Of the first, due before the window, the second token and the end are in
  // it; of the last, due in it, the first token is.
  const std::vector<RequestRecord> records = {
      Answered(0.5, 0.75, {0.5f}), Answered(1.5, 1.75, {0.25f, 0.25f}),
      Answered(2.5, 2.75, {0.5f})};
  const LoadSummary summary = SummarizeLoad(records, 1, 2, {});
  EXPECT_EQ(summary.requests, 2);
  EXPECT_EQ(summary.answered, 2);
  EXPECT_EQ(summary.answers_per_second, 1);
  EXPECT_EQ(summary.tokens_per_second, 2.5);
  EXPECT_EQ(summary.inter_token.count, 3);
  EXPECT_EQ(summary.goodput, 1);  // nothing is asked for
}

TEST(LoadStatisticsTest, GoodputIsOfAnswersWithinEveryLimit) {
  const Slo slo = {.first_token = 0.3, .inter_token = 0.2, .total = 0.9};
  // The mean gap counts, not the largest.
  const RequestRecord good = Answered(0, 0.25, {0.125f, 0.25f});
  EXPECT_TRUE(MeetsSlo(good, slo));
  EXPECT_FALSE(MeetsSlo(Answered(0, 0.5, {0.125f}), slo));
  EXPECT_FALSE(MeetsSlo(Answered(0, 0.25, {0.25f}), slo));
  EXPECT_FALSE(MeetsSlo(Answered(0, 0.25, std::vector<float>(8, 0.125f)), slo));
  RequestRecord failed = good;
  failed.code = absl::StatusCode::kUnavailable;
  EXPECT_FALSE(MeetsSlo(failed, slo));
  EXPECT_FALSE(MeetsSlo(RequestRecord(), slo));
  const LoadSummary summary =
      SummarizeLoad({good, failed, Answered(0, 0.5, {})}, 0, 1, slo);
  EXPECT_EQ(summary.goodput, 1);
  EXPECT_EQ(summary.met_slo, 1);
  EXPECT_EQ(summary.answered, 2);
  EXPECT_EQ(summary.requests, 3);
}

TEST(LoadStatisticsTest, FailuresAreApartByCode) {
  RequestRecord full;
  full.due = 1;
  full.end = 1.25;
  full.code = absl::StatusCode::kResourceExhausted;
  full.reason = "QUEUE_FULL";
  full.told_when_to_retry = true;
  RequestRecord gone = full;
  gone.code = absl::StatusCode::kUnavailable;
  gone.reason = "";
  gone.told_when_to_retry = false;
  const LoadSummary summary = SummarizeLoad({full, gone, full}, 0, 2, {});
  ASSERT_EQ(summary.failures.size(), 2);
  const FailureSummary& failure = summary.failures.at("RESOURCE_EXHAUSTED");
  EXPECT_EQ(failure.requests, 2);
  EXPECT_EQ(failure.told_when_to_retry, 2);
  EXPECT_EQ(failure.reasons.at("QUEUE_FULL"), 2);
  EXPECT_EQ(failure.latency.p50, 0.25);
  EXPECT_TRUE(summary.failures.at("UNAVAILABLE").reasons.empty());
  EXPECT_EQ(summary.first_token.count, 0);
}

TEST(ArrivalsTest, EvenOnesAreEquallyFarApart) {
  Arrivals arrivals(4, /*poisson=*/false, 0);
  EXPECT_EQ(arrivals.Next(), 0);
  EXPECT_EQ(arrivals.Next(), 0.25);
  EXPECT_EQ(arrivals.Next(), 0.5);
}

TEST(ArrivalsTest, PoissonGapsAreExponential) {
  Arrivals arrivals(50, /*poisson=*/true, 7);
  Arrivals same(50, /*poisson=*/true, 7);
  constexpr int kCount = 20000;
  double last = 0, sum_of_squares = 0;
  for (int i = 0; i < kCount; ++i) {
    const double time = arrivals.Next();
    ASSERT_EQ(time, same.Next());
    ASSERT_GE(time, last);
    sum_of_squares += (time - last) * (time - last);
    last = time;
  }
  // Mean 1/50 with standard error 1/50/sqrt(n); the mean square is 2/50^2 with
  // standard error sqrt(20)/50^2/sqrt(n). Five standard errors either way.
  EXPECT_NEAR(50 * last / kCount, 1, 5 / std::sqrt(kCount));
  EXPECT_NEAR(2500 * sum_of_squares / kCount, 2, 5 * std::sqrt(20.0 / kCount));
}

TEST(LoadPromptsTest, AreAFunctionOfSeedAndIndex) {
  LoadPrompts::Options options;
  options.prompt_tokens = {3, 9};
  options.max_new_tokens = {1, 4};
  options.vocabulary = 10;
  options.seed = 5;
  const LoadPrompts prompts(options);
  std::vector<int> lengths, new_tokens;
  for (uint64_t i = 0; i < 300; ++i) {
    const v1::GenerateRequest request = prompts.Request(i);
    EXPECT_EQ(request.SerializeAsString(),
              LoadPrompts(options).Request(i).SerializeAsString());
    lengths.push_back(request.token_ids().ids_size());
    new_tokens.push_back(request.stopping().max_new_tokens());
    for (const int32_t id : request.token_ids().ids()) {
      ASSERT_GE(id, 0);
      ASSERT_LT(id, 10);
    }
  }
  EXPECT_EQ(*std::min_element(lengths.begin(), lengths.end()), 3);
  EXPECT_EQ(*std::max_element(lengths.begin(), lengths.end()), 9);
  EXPECT_EQ(*std::min_element(new_tokens.begin(), new_tokens.end()), 1);
  EXPECT_EQ(*std::max_element(new_tokens.begin(), new_tokens.end()), 4);
  EXPECT_NE(prompts.Request(0).token_ids().SerializeAsString(),
            prompts.Request(1).token_ids().SerializeAsString());
}

TEST(LoadPromptsTest, LinesTakeTurns) {
  const auto lines = SplitPrompts("one\r\n\ntwo\n", "f");
  ASSERT_TRUE(lines.ok());
  EXPECT_THAT(*lines, ElementsAre("one", "two"));
  LoadPrompts::Options options;
  options.lines = *lines;
  const LoadPrompts prompts(options);
  EXPECT_EQ(prompts.Request(1).text(), "two");
  EXPECT_EQ(prompts.Request(2).text(), "one");
  EXPECT_FALSE(SplitPrompts("\n\n", "f").ok());
  EXPECT_THAT(std::string(SplitPrompts("a\n\xff", "f").status().message()),
              HasSubstr("line 2 of f"));
}

TEST(LoadPlanTest, SloIsReadAndWritten) {
  const auto slo = ParseSlo("ttft=200ms,total=2s");
  ASSERT_TRUE(slo.ok());
  EXPECT_EQ(slo->first_token, 0.2);
  EXPECT_EQ(slo->inter_token, std::nullopt);
  EXPECT_EQ(slo->total, 2);
  EXPECT_EQ(FormatSlo(*slo), "ttft=200ms,total=2s");
  for (const char* const bad :
       {"", "ttft", "ttft=", "ttft=-1s", "x=1s", "itl=1s,itl=2s", "itl=0"}) {
    EXPECT_FALSE(ParseSlo(bad).ok()) << bad;
  }
}

TEST(LoadPlanTest, BadPlansNameTheLimit) {
  LoadPlan plan;
  plan.levels = {{.rate = 90000}};
  plan.duration = absl::Hours(1);
  EXPECT_THAT(std::string(CheckLoadPlan(plan).message()),
              HasSubstr("the limit is 10000000"));
  plan.levels = {{.concurrency = 20000}};
  EXPECT_THAT(std::string(CheckLoadPlan(plan).message()),
              HasSubstr("--concurrency 20000 is not within [1, 10000]"));
}

class BenchCommandTest : public testing::Test {
 protected:
  ClientRun Run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"--server", server_.address(), "bench",
                                         "-m", "tiny", "--connections", "2"});
    return RunPotClient(arguments);
  }

  FakeServer server_;
};

TEST_F(BenchCommandTest, MeasuresEveryLevel) {
  const ClientRun run =
      Run({"--output", "json", "--concurrency", "1,3", "--duration", "200ms",
           "--warmup", "0", "--slo", "ttft=10s", "--max-new-tokens", "5"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto json = nlohmann::json::parse(run.out);
  EXPECT_EQ(json["model"]["name"], "tiny");
  EXPECT_EQ(json["slo"]["first_token_seconds"], 10);
  ASSERT_EQ(json["levels"].size(), 2);
  EXPECT_EQ(json["levels"][1]["concurrency"], 3);
  for (const auto& level : json["levels"]) {
    EXPECT_GT(level["requests"], 0);
    EXPECT_EQ(level["requests"], level["answered"]);
    EXPECT_EQ(level["requests"], level["met_slo"]);
    EXPECT_TRUE(level["failures"].empty());
    // "Hel" and "lo": one gap to each first token.
    EXPECT_EQ(level["first_token_seconds"]["count"], level["answered"]);
    EXPECT_EQ(level["inter_token_seconds"]["count"], level["answered"]);
  }
}

TEST_F(BenchCommandTest, OpenLoopSendsAsManyAsAreDue) {
  const ClientRun run = Run({"--output", "jsonl", "--rate", "100,200",
                             "--duration", "300ms", "--warmup", "0"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const size_t end = run.out.find('\n');
  // Due at 0, 10 ms, ..: 30 within the 300 ms, however slow the answers.
  EXPECT_EQ(
      nlohmann::json::parse(run.out.substr(0, end))["levels"][0]["requests"],
      30);
  EXPECT_EQ(nlohmann::json::parse(run.out.substr(end))["levels"][0]["requests"],
            60);
}

TEST_F(BenchCommandTest, TheErrorOfAllIsTheCommands) {
  server_.inference.stream_error = DetailedError(
      grpc::StatusCode::RESOURCE_EXHAUSTED, "too many calls", "QUEUE_FULL", "");
  const ClientRun run =
      Run({"--duration", "100ms", "--warmup", "0", "--concurrency", "2"});
  EXPECT_EQ(run.exit_code, 6);
  EXPECT_EQ(run.out, "");
  EXPECT_THAT(run.err, HasSubstr("QUEUE_FULL"));
}

TEST_F(BenchCommandTest, TableAndFigure) {
  const std::string path = testing::TempDir() + "/load.svg";
  const ClientRun run = Run({"--duration", "100ms", "--warmup", "0", "--plot",
                             path, "--slo", "itl=1s"});
  EXPECT_THAT(run.out, HasSubstr("concurrency 1"));
  EXPECT_THAT(run.out, HasSubstr("inter-token"));
  EXPECT_THAT(run.out, HasSubstr("100.0 %"));
  // 8: gnuplot is not installed.
  EXPECT_TRUE(run.exit_code == 0 || run.exit_code == 8) << run.err;
}

TEST(LoadPlotTest, RunsNothingThatNamesSay) {
  LoadDescription description;
  description.model.set_name("x'; system 'true");
  description.prompts = "1 prompts of '\n!true";
  LevelResult result;
  result.level.concurrency = 2;
  result.summary.first_token = SummarizeLatencies({0.5f, 0.25f});
  const std::string script =
      MakeLoadPlotScript(description, {}, {result}, PlotFormat::kSvg);
  EXPECT_THAT(script, HasSubstr("x''; system ''true"));
  EXPECT_FALSE(absl::StrContains(script, "\n!true"));
  EXPECT_THAT(script, HasSubstr("250 0.5\n500 1\n"));
}

TEST_F(BenchCommandTest, BadFlagsAreUsage) {
  for (const std::vector<std::string>& flags :
       std::vector<std::vector<std::string>>{
           {"--concurrency", "0"},
           {"--rate", "0"},
           {"--rate", "nan"},
           {"--rate", "5", "--concurrency", "5"},
           {"--poisson"},
           {"--duration", "0s"},
           {"--connections", "0"},
           {"--prompt-tokens", "5:3"},
           {"--prompt-tokens", "3", "--prompt-file", "x"},
           {"--plot", "x.gif"},
           {"--slo", "fast"}}) {
    EXPECT_EQ(Run(flags).exit_code, 2) << flags[0];
  }
  EXPECT_EQ(Run({"--prompt-file", "/nonexistent"}).exit_code, 3);
}

}  // namespace
}  // namespace pot
