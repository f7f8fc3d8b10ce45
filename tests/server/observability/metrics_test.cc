#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/observability/histogram.h"
#include "server/observability/metrics_exporter.h"
#include "server/observability/process_metrics.h"
#include "server/observability/rpc_metrics.h"
#include "server/observability/serving_metrics.h"
#include "server/observability/trace_context.h"

namespace pot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kBounds[] = {1, 2, 4};

TEST(HistogramTest, BoundsBelongToTheCellBelow) {
  Histogram histogram(kBounds);
  for (const double value : {0.5, 1.0, 1.5, 4.0, 5.0, 100.0}) {
    histogram.Observe(value);
  }
  const HistogramCounts counts = histogram.Read();
  EXPECT_THAT(counts.counts, ElementsAre(2, 1, 1, 2));
  EXPECT_EQ(counts.sum, 112.0);
}

const MetricFamily* Find(const MetricFamilies& families,
                         const std::string& name) {
  for (const MetricFamily& family : families) {
    if (family.name == name) return &family;
  }
  ADD_FAILURE() << "no " << name;
  return nullptr;
}

TEST(ServingMetricsTest, SeriesOfAVersionEndWhenItIsUnloaded) {
  ServingMetrics metrics;
  const auto held = metrics.Of("m", 3);
  held->generated_tokens += 7;
  held->CountCall("Generate", "OK");
  metrics.without_model()->CountCall("Generate", "NOT_FOUND");
  MetricFamilies before;
  metrics.Collect(&before);
  const MetricFamily* tokens = Find(before, "pot_generated_tokens_total");
  ASSERT_EQ(tokens->samples.size(), 1u);
  EXPECT_EQ(tokens->samples[0].value, 7);
  EXPECT_EQ(tokens->samples[0].labels,
            (MetricLabels{{"model", "m"}, {"version", "3"}}));
  EXPECT_EQ(Find(before, "pot_requests_total")->samples.size(), 2u);

  metrics.Drop("m", 3);
  held->CountCall("Generate", "OK");  // one that ends later
  MetricFamilies after;
  metrics.Collect(&after);
  EXPECT_TRUE(Find(after, "pot_generated_tokens_total")->samples.empty());
  const MetricFamily* calls = Find(after, "pot_requests_total");
  ASSERT_EQ(calls->samples.size(), 1u);
  EXPECT_EQ(calls->samples[0].labels,
            (MetricLabels{{"method", "Generate"}, {"code", "NOT_FOUND"}}));
  EXPECT_EQ(metrics.Of("m", 3)->generated_tokens, 0u);
}

TEST(ServingMetricsTest, StepsByWhatTheyCompute) {
  ServingMetrics metrics;
  metrics.RecordStep(4, 0, absl::Milliseconds(1));
  metrics.RecordStep(0, 32, absl::Milliseconds(2));
  metrics.RecordStep(2, 8, absl::Milliseconds(4));
  MetricFamilies families;
  metrics.Collect(&families);
  std::map<std::string, double> sums;
  for (const char* name : {"pot_batch_size", "pot_step_duration_seconds"}) {
    for (const MetricSample& sample : Find(families, name)->samples) {
      sums[absl::StrCat(name, " ", sample.labels[0].second)] =
          sample.counts.sum;
    }
  }
  EXPECT_EQ(sums, (std::map<std::string, double>{
                      {"pot_batch_size decode", 6},
                      {"pot_batch_size prefill", 40},
                      {"pot_step_duration_seconds decode", 0.001},
                      {"pot_step_duration_seconds prefill", 0.002},
                      {"pot_step_duration_seconds mixed", 0.004}}));
}

TEST(RpcMetricsTest, EveryOutcomeCountsAndOkIsThereFromTheStart) {
  RpcMetrics metrics({{"unary", "s", "A"}, {"bidi_stream", "s", "B"}});
  EXPECT_EQ(metrics.Find("C"), nullptr);
  RpcMetrics::Method* const method = metrics.Find("A");
  ASSERT_NE(method, nullptr);
  method->Started();
  method->Started();
  method->Handled(absl::StatusCode::kNotFound, absl::Seconds(1));
  method->Handled(static_cast<absl::StatusCode>(99), absl::Seconds(1));
  MetricFamilies families;
  metrics.Collect(&families);
  std::map<std::string, double> handled;
  for (const auto& sample :
       Find(families, "grpc_server_handled_total")->samples) {
    handled[absl::StrCat(sample.labels[2].second, " ",
                         sample.labels[3].second)] = sample.value;
  }
  EXPECT_EQ(
      handled,
      (std::map<std::string, double>{
          {"A OK", 0}, {"A NOT_FOUND", 1}, {"A UNKNOWN", 1}, {"B OK", 0}}));
  EXPECT_EQ(Find(families, "grpc_server_started_total")->samples[0].value, 2);
}

TEST(ProcessMetricsTest, KnowThisProcess) {
  MetricFamilies families;
  CollectProcessMetrics(&families);
  // This program has some memory, the three standard files and a thread.
  EXPECT_GT(Find(families, "process_resident_memory_bytes")->samples[0].value,
            1 << 20);
  EXPECT_GE(Find(families, "process_open_fds")->samples[0].value, 3);
  EXPECT_GE(Find(families, "process_threads")->samples[0].value, 1);
  // Started after 2020.
  EXPECT_GT(Find(families, "process_start_time_seconds")->samples[0].value,
            1577836800);
}

// The whole answer to a GET on the loopback `port`.
std::string Get(int port, const std::string& path) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)),
            0);
  const std::string request = absl::StrCat("GET ", path, " HTTP/1.0\r\n\r\n");
  EXPECT_EQ(write(fd, request.data(), request.size()),
            static_cast<ssize_t>(request.size()));
  std::string answer;
  char buffer[4096];
  for (ssize_t size; (size = read(fd, buffer, sizeof(buffer))) > 0;) {
    answer.append(buffer, static_cast<size_t>(size));
  }
  close(fd);
  return answer;
}

TEST(MetricsExporterTest, ServesWhatIsCollectedAndNothingElse) {
  int scrapes = 0;
  auto exporter = MetricsExporter::Start("127.0.0.1:0", [&scrapes] {
    Histogram histogram(kBounds);
    histogram.Observe(1.5);
    histogram.Observe(9.0);
    MetricFamilies families;
    families.push_back(SingleMetric("a_total", "Help.", MetricType::kCounter,
                                    static_cast<double>(++scrapes)));
    families.push_back({"b_seconds", "Help.", MetricType::kHistogram, {}});
    families.back().Add({{"quoted", "\"x\"\n"}}, histogram.Read());
    families.push_back({"without_series", "", MetricType::kGauge, {}});
    return families;
  });
  ASSERT_TRUE(exporter.ok()) << exporter.status();
  EXPECT_THAT(Get((*exporter)->port(), "/metrics"), HasSubstr("\na_total 1\n"));
  const std::string answer = Get((*exporter)->port(), "/metrics");
  EXPECT_THAT(answer, HasSubstr("\na_total 2\n"));
  EXPECT_THAT(answer, HasSubstr("# TYPE b_seconds histogram\n"));
  EXPECT_THAT(
      answer,
      HasSubstr("b_seconds_bucket{quoted=\"\\\"x\\\"\\n\",le=\"2\"} 1"));
  EXPECT_THAT(
      answer,
      HasSubstr("b_seconds_bucket{quoted=\"\\\"x\\\"\\n\",le=\"+Inf\"} 2"));
  EXPECT_THAT(answer, Not(HasSubstr("without_series")));
  EXPECT_THAT(Get((*exporter)->port(), "/"), HasSubstr(" 404 "));
  EXPECT_THAT(Get((*exporter)->port(), "/../etc/passwd"),
              Not(HasSubstr("root:")));
}

TEST(MetricsExporterTest, APortInUseIsAnError) {
  const auto collect = [] { return MetricFamilies(); };
  auto first = MetricsExporter::Start("localhost:0", collect);
  ASSERT_TRUE(first.ok()) << first.status();
  const std::string address = absl::StrCat("127.0.0.1:", (*first)->port());
  const auto second = MetricsExporter::Start(address, collect);
  EXPECT_TRUE(absl::IsUnavailable(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(address));
}

TEST(TraceContextTest, TakesTheTraceOfWhatTheStandardCallsValid) {
  const std::string trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  const std::string parent = "00f067aa0ba902b7";
  const auto header = [](const std::string& version, const std::string& id,
                         const std::string& from, const std::string& rest) {
    return absl::StrCat(version, "-", id, "-", from, "-", rest);
  };
  EXPECT_EQ(TraceIdOf(header("00", trace, parent, "01")), trace);
  EXPECT_EQ(TraceIdOf(header("cc", trace, parent, "01")), trace);
  EXPECT_EQ(TraceIdOf(header("cc", trace, parent, "01-what-comes")), trace);

  EXPECT_EQ(TraceIdOf(""), "");
  EXPECT_EQ(TraceIdOf("00-short"), "");
  EXPECT_EQ(TraceIdOf(header("00", trace, parent, "01-more")), "");
  EXPECT_EQ(TraceIdOf(header("cc", trace, parent, "01.more")), "");
  EXPECT_EQ(TraceIdOf(header("ff", trace, parent, "01")), "");
  EXPECT_EQ(TraceIdOf(header("0x", trace, parent, "01")), "");
  EXPECT_EQ(TraceIdOf(header("00", std::string(32, '0'), parent, "01")), "");
  EXPECT_EQ(TraceIdOf(header("00", trace, std::string(16, '0'), "01")), "");
  EXPECT_EQ(
      TraceIdOf(header("00", "4BF92F3577B34DA6A3CE929D0E0E4736", parent, "01")),
      "");
  EXPECT_EQ(TraceIdOf(header("00", "4bf92f3577b34da6a3ce929d0e0e473\n", parent,
                             "01")),
            "");
  EXPECT_EQ(TraceIdOf("00_" + trace + "-" + parent + "-01"), "");
}

}  // namespace
}  // namespace pot
