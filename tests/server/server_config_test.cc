#include "server/server_config.h"

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/hub/url.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/listen_address.h"

namespace pot {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

absl::StatusOr<ServerCommand> Parse(
    std::vector<std::string> arguments,
    const std::map<std::string, std::string>& environment = {}) {
  return ParseServerCommand(arguments, [&](const char* name) {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

std::string Error(const absl::StatusOr<ServerCommand>& command) {
  EXPECT_EQ(command.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(command.status().message());
}

std::string ConfigFile(const std::string& contents) {
  const std::string path = testing::TempDir() + "/pot-server.ini";
  std::ofstream(path) << contents;
  return path;
}

TEST(ServerConfigTest, DefaultsListenOnLoopback) {
  const auto command = Parse({"--repository", "/models"});
  ASSERT_TRUE(command.ok()) << command.status();
  ASSERT_TRUE(command->config.has_value());
  const ServerConfig& config = *command->config;
  EXPECT_EQ(config.listen, "127.0.0.1:8500");
  EXPECT_EQ(config.repository, "/models");
  EXPECT_EQ(config.kv_memory, int64_t{1} << 30);
  EXPECT_EQ(config.prefix_cache, int64_t{256} << 20);
  EXPECT_EQ(config.drain_timeout, absl::Seconds(30));
  EXPECT_EQ(config.write_timeout, absl::Minutes(5));
  EXPECT_EQ(config.activations, ActivationMode::kAffine);
  EXPECT_GE(config.threads, 1);
  EXPECT_FALSE(config.allow_insecure);
  EXPECT_TRUE(config.training);
  EXPECT_EQ(config.worker_listen, "");
  EXPECT_EQ(config.metrics_listen, "127.0.0.1:8501");
  EXPECT_FALSE(config.log_prompts);
  EXPECT_EQ(config.max_dataset_size, int64_t{4} << 30);
  EXPECT_EQ(config.max_queued_jobs, 256);
  EXPECT_EQ(config.dataset_age, absl::Hours(168));
}

TEST(ServerConfigTest, FlagsBeatEnvironmentBeatsFile) {
  const std::string file = ConfigFile(
      "threads = 3\nkv-memory = \"64MiB\"\nrepository = \"/file\"\n");
  const auto threads = [&](std::vector<std::string> arguments,
                           std::map<std::string, std::string> environment) {
    const auto command = Parse(std::move(arguments), environment);
    EXPECT_TRUE(command.ok()) << command.status();
    return command.ok() ? command->config->threads : -1;
  };
  EXPECT_EQ(threads({"--config", file}, {}), 3);
  EXPECT_EQ(threads({}, {{"POT_SERVER_CONFIG", file}}), 3);
  EXPECT_EQ(threads({"--config", file}, {{"POT_SERVER_THREADS", "5"}}), 5);
  EXPECT_EQ(threads({"--config", file}, {{"POT_SERVER_THREADS", ""}}), 3);
  EXPECT_EQ(threads({"--config", file, "--threads", "7"},
                    {{"POT_SERVER_THREADS", "5"}}),
            7);
  EXPECT_EQ(
      threads({"--config", file, "--threads=7"}, {{"POT_SERVER_THREADS", "5"}}),
      7);
  const auto command = Parse({"--config", file});
  ASSERT_TRUE(command.ok());
  EXPECT_EQ(command->config->kv_memory, int64_t{64} << 20);
}

TEST(ServerConfigTest, AllErrorsAreListedAtOnce) {
  const std::string error = Error(Parse({"--listen",
                                         "0.0.0.0:1",
                                         "--threads",
                                         "0",
                                         "--kv-memory",
                                         "5x",
                                         "--kernel",
                                         "foo",
                                         "--activations",
                                         "float",
                                         "--log-format",
                                         "xml",
                                         "--log-level",
                                         "loud",
                                         "--drain-timeout",
                                         "9",
                                         "--write-timeout",
                                         "25h",
                                         "--max-waiting-tasks",
                                         "99999999999999999999",
                                         "--max-message-size",
                                         "1GiB",
                                         "--worker-listen",
                                         "0.0.0.0:1",
                                         "--metrics-listen",
                                         "0.0.0.0:2",
                                         "--dataset-age",
                                         "old"}));
  EXPECT_THAT(
      error,
      AllOf(HasSubstr("--repository: is required"),
            HasSubstr("--listen: can be reached by other hosts"),
            HasSubstr("--threads: must be a number in [1, 256]; the "
                      "given value is \"0\""),
            HasSubstr("--kv-memory: must be bytes"), HasSubstr("--kernel: "),
            HasSubstr("--activations: must be affine or symmetric"),
            HasSubstr("--log-format: must be text or json"),
            HasSubstr("--log-level: must be debug")));
  EXPECT_THAT(error, AllOf(HasSubstr("--drain-timeout: must be a time"),
                           HasSubstr("--write-timeout: must be a time in "
                                     "[0s, 24h]"),
                           HasSubstr("--max-waiting-tasks: must be a number"),
                           HasSubstr("--max-message-size: must be bytes"),
                           HasSubstr("--worker-listen: can be reached by"),
                           HasSubstr("--metrics-listen: can be reached by"),
                           HasSubstr("--dataset-age: must be a time")));
}

TEST(ServerConfigTest, UnknownNamesAndFilesAreErrors) {
  EXPECT_THAT(Error(Parse({"--bogus"})), HasSubstr("--bogus"));
  EXPECT_THAT(Error(Parse({"--repository"})), HasSubstr("--repository"));
  EXPECT_THAT(Error(Parse({"--config", "/nowhere/at/all.ini"})),
              HasSubstr("/nowhere/at/all.ini"));
  EXPECT_THAT(Error(Parse({"--config", ConfigFile("bogus = 1\n")})),
              HasSubstr("bogus"));
}

TEST(ServerConfigTest, PrintedConfigReadsBackAsTheSame) {
  const auto printed =
      Parse({"--repository", "/a \"b\" \\c", "--threads", "2", "--print-config",
             "--listen", "0.0.0.0:9", "--allow-insecure"});
  ASSERT_TRUE(printed.ok()) << printed.status();
  EXPECT_FALSE(printed->config.has_value());
  const std::string file = ConfigFile(printed->text);
  const auto again = Parse({"--config", file, "--print-config"});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->text, printed->text);
}

TEST(ServerConfigTest, ConnectionsAreLimitedUnlessToldOtherwise) {
  const auto command = Parse({"--repository", "/models"});
  ASSERT_TRUE(command.ok()) << command.status();
  const ConnectionLimits& limits = command->config->connection;
  EXPECT_EQ(limits.max_message_size, 4 << 20);
  EXPECT_EQ(limits.max_metadata_size, 8 << 10);
  EXPECT_EQ(limits.keepalive_time, absl::Minutes(1));
  EXPECT_EQ(limits.handshake_timeout, absl::Seconds(20));
  EXPECT_EQ(limits.max_connection_age, absl::ZeroDuration());
  EXPECT_EQ(command->config->read_timeout, absl::Minutes(5));
  EXPECT_EQ(command->config->min_free_disk, int64_t{256} << 20);
  EXPECT_FALSE(command->config->security.tls());
}

TEST(ServerConfigTest, DownloadsComeFromNamedHostsAlone) {
  EXPECT_TRUE(Parse({"--repository", "/models"})->config->import_hosts.empty());
  const auto command = Parse(
      {"--repository", "/models", "--import-hosts", "huggingface.co, *.hf.co"});
  ASSERT_TRUE(command.ok()) << command.status();
  const auto allows = [&](const char* url) {
    return command->config->import_hosts.Allows(*ParseUrl(url));
  };
  EXPECT_TRUE(allows("https://huggingface.co/gpt2"));
  EXPECT_TRUE(allows("https://cdn.hf.co/file"));
  EXPECT_FALSE(allows("https://hf.co/file"));
  EXPECT_FALSE(allows("https://huggingface.co:8443/gpt2"));
  EXPECT_THAT(Error(Parse({"--repository", "/models", "--import-hosts",
                           "huggingface.co,http://other"})),
              AllOf(HasSubstr("--import-hosts: "), HasSubstr("http://other")));
}

TEST(ServerConfigTest, SecurityThatCannotWorkIsRefusedAllAtOnce) {
  const std::string error = Error(Parse(
      {"--repository", "/models", "--tls-client-ca", "/nowhere/ca",
       "--worker-client-ca", "/nowhere/ca", "--token-file", "/nowhere/keys",
       "--keepalive-time", "0", "--max-connection-age", "-1s"}));
  EXPECT_THAT(error, AllOf(HasSubstr("--tls-cert: is needed for TLS"),
                           HasSubstr("--tls-key: is needed for TLS"),
                           HasSubstr("--worker-client-ca: is for the port"),
                           HasSubstr("--token-file: "),
                           HasSubstr("--keepalive-time: must be more than 0"),
                           HasSubstr("--max-connection-age: ")));
}

TEST(ServerConfigTest, HelpAndVersionNeedNothingElse) {
  const auto help = Parse({"--help"});
  ASSERT_TRUE(help.ok());
  EXPECT_THAT(help->text, HasSubstr("POT_SERVER_KV_MEMORY"));
  const auto version = Parse({"--version"});
  ASSERT_TRUE(version.ok());
  EXPECT_THAT(version->text, HasSubstr("pot "));
}

TEST(ParseBytesTest, UnitsArePowersOfTwoAndNothingOverflows) {
  EXPECT_EQ(ParseBytes("0").value(), 0);
  EXPECT_EQ(ParseBytes("12").value(), 12);
  EXPECT_EQ(ParseBytes("3KiB").value(), 3072);
  EXPECT_EQ(ParseBytes("8589934591GiB").value(), 0x7FFFFFFFC0000000);
  for (const char* text : {"", "-1", "+1", "1 KiB", "KiB", "1.5GiB", "1kb",
                           "0x10", "8589934592GiB", "9223372036854775808"}) {
    EXPECT_FALSE(ParseBytes(text).ok()) << text;
  }
}

TEST(ListenAddressTest, OnlyLoopbackIsAllowedWithoutSaying) {
  for (const char* address : {"127.0.0.1:0", "127.8.9.1:80", "localhost:1",
                              "[::1]:65535", "unix:/tmp/s"}) {
    EXPECT_TRUE(CheckListenAddress(address, false).ok()) << address;
  }
  for (const char* address :
       {"0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.org:1", "*:1"}) {
    EXPECT_FALSE(CheckListenAddress(address, false).ok()) << address;
    EXPECT_TRUE(CheckListenAddress(address, true).ok()) << address;
  }
  for (const char* address :
       {"", ":1", "localhost", "localhost:", "::1:80", "localhost:65536",
        "localhost:-1", "localhost:99999999999", "localhost:1x", "unix:"}) {
    EXPECT_FALSE(CheckListenAddress(address, true).ok()) << address;
  }
}

}  // namespace
}  // namespace pot
