// Flags, where their values come from, and completion made of them.
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "client/command_line.h"
#include "client/completion.h"
#include "client/flag_sources.h"
#include "client/transport/channel_security.h"
#include "client/transport/server_address.h"
#include "client/transport/token.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/client_testing.h"
#include "tests/client/fake_server.h"

namespace pot {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class ScratchFile {
 public:
  explicit ScratchFile(const std::string& content) {
    const int fd = mkstemp(path_.data());
    EXPECT_GE(fd, 0);
    close(fd);
    std::ofstream(path_) << content;
  }
  ~ScratchFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_; }

 private:
  std::string path_ = testing::TempDir() + "/pot_client_test.XXXXXX";
};

TEST(FlagsTest, EnvironmentNames) {
  EXPECT_EQ(EnvironmentName({}, "server"), "POT_SERVER");
  EXPECT_EQ(EnvironmentName({"generate"}, "top-k"), "POT_GENERATE_TOP_K");
  EXPECT_EQ(EnvironmentName({"generate"}, "model"), "POT_MODEL");
  EXPECT_EQ(EnvironmentName({"models", "import"}, "load"),
            "POT_MODELS_IMPORT_LOAD");
}

TEST(FlagsTest, CommandLineThenEnvironmentThenFile) {
  FakeServer server;
  const ScratchFile config("server = \"" + server.address() +
                           "\"\n"
                           "model = \"tiny@1\"\n"
                           "[generate]\n"
                           "top-k = 1\n"
                           "temperature = 0.1\n"
                           "seed = 1\n"
                           "ignore-eos = true\n"
                           "stop = [\"a\", \"b\"]\n");
  ClientInput input;
  input.environment = {{"POT_CONFIG", config.path()},
                       {"POT_GENERATE_TEMPERATURE", "0.2"},
                       {"POT_GENERATE_SEED", "2"},
                       {"POT_GENERATE_MIN_P", ""}};
  const ClientRun run = RunPotClient({"generate", "p", "--seed", "3"}, input);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const v1::GenerateRequest& request = server.inference.generated;
  EXPECT_EQ(request.model().version(), 1);
  EXPECT_EQ(request.sampling().top_k(), 1);
  EXPECT_FLOAT_EQ(request.sampling().temperature(), 0.2f);
  EXPECT_EQ(request.sampling().seed(), 3u);
  EXPECT_FALSE(request.sampling().has_min_p());
  EXPECT_TRUE(request.stopping().ignore_eos());
  EXPECT_THAT(request.stopping().stop_strings(),
              testing::ElementsAre("a", "b"));
}

TEST(FlagsTest, WrongSourcesAreNamed) {
  ClientInput input;
  input.environment = {{"POT_GENERATE_TOP_K", "many"}};
  ClientRun run = RunPotClient({"generate", "p"}, input);
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, StartsWith("pot-client: INVALID_ARGUMENT: "
                                  "POT_GENERATE_TOP_K: "));
  input.environment = {{"POT_OUTPUT", "xml"}};
  run = RunPotClient({"generate", "p"}, input);
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, HasSubstr("POT_OUTPUT"));
  input.environment = {{"POT_MODEL", "\xff"}};
  run = RunPotClient({"generate", "p"}, input);
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, HasSubstr("POT_MODEL: not UTF-8"));

  const ScratchFile unknown("[generate]\ntop-j = 3\n");
  run = RunPotClient({"--config", unknown.path(), "generate", "p"});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, HasSubstr("no command has the key \"generate.top-j\""));
  run = RunPotClient({"--config", "/nonexistent", "generate", "p"});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, HasSubstr("/nonexistent"));
}

TEST(FlagsTest, UsageErrorsAreOneLineWithCode2) {
  const std::vector<std::vector<std::string>> cases = {
      {},
      {"frobnicate"},
      {"models"},
      {"models", "frobnicate"},
      {"generate", "--no-such-flag", "p"},
      {"generate", "--top-k", "x", "p"},
      {"generate", "--top-k", "99999999999", "p"},
      {"generate", "--seed", "-1", "p"},
      {"generate", "--seed", "18446744073709551616", "p"},
      {"generate", "--top-k", "0x10", "p"},
      {"models", "alias", "tiny", "prod", "9223372036854775808"},
      {"generate", "--logit-bias", "1:2", "p"},
      {"generate", "--stop-token-ids", "1,x", "p"},
      {"generate", "--overflow", "cut", "p"},
      {"generate", "-m", "a/b", "p"},
      {"generate", "--stream", "--output", "json", "p"},
      {"generate", "--prompt-token-ids", "1", "p"},
      {"generate", "a\xff"},
      {"--timeout", "0", "generate", "p"},
      {"--output", "xml", "models", "list"},
      {"perplexity"},
      {"tokenize", "-m", "a@0", "p"},
      {"detokenize", "x"},
      {"models", "unload", "tiny"},
      {"models", "rm", "tiny"},
      {"models", "rm", "tiny@prod"},
      {"models", "alias", "tiny", "prod"},
      {"models", "alias", "tiny", "prod", "1", "--remove"},
      {"models", "import", "tiny"},
      {"models", "import", "tiny", "dir", "--hub", "x/y"},
      {"models", "diff", "tiny@1"},
      {"submit-qat"},
      {"submit-qat", "--base", "tiny"},
      {"submit-qat", "--base", "tiny", "--train", "self", "--ste", "soft"},
      {"submit-qat", "--base", "tiny", "--train", "self", "--steps", "1e3"},
      {"jobs"},
      {"jobs", "show"},
      {"jobs", "watch", "a", "--after", "x"},
      {"jobs", "plot", "a", "--out", "a.jpeg"},
      {"completion", "tcsh"}};
  for (const auto& arguments : cases) {
    const ClientRun run = RunPotClient(arguments);
    const std::string shown = testing::PrintToString(arguments);
    EXPECT_EQ(run.exit_code, 2) << shown << run.err;
    EXPECT_EQ(run.out, "") << shown;
    EXPECT_THAT(run.err, StartsWith("pot-client: INVALID_ARGUMENT: ")) << shown;
    EXPECT_EQ(run.err.find('\n'), run.err.size() - 1) << shown << run.err;
  }
  EXPECT_THAT(RunPotClient({"frobnicate"}).err, HasSubstr("frobnicate"));
}

TEST(FlagsTest, HelpGoesToStandardOutput) {
  ClientRun run = RunPotClient({"--help"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_THAT(run.out, HasSubstr("POT_GENERATE_TOP_K"));
  EXPECT_EQ(run.err, "");
  run = RunPotClient({"models", "import", "--help"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_THAT(run.out, HasSubstr("--granularity"));
  run = RunPotClient({"--version"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_THAT(run.out, StartsWith("pot-client "));
}

TEST(CompletionTest, KnowsEveryCommandAndFlag) {
  CLI::App app;
  CommonFlags flags;
  CommandFunction selected;
  AddAllCommands(Command(&app), &flags, &selected);
  const CompletionNode program = DescribeCommands(Command(&app));
  ASSERT_EQ(program.commands.size(), 14u);
  bool found = false;
  for (const CompletionFlag& flag : program.flags) {
    if (flag.name != "output") continue;
    found = true;
    EXPECT_TRUE(flag.takes_value);
    EXPECT_THAT(flag.choices, testing::ElementsAre("text", "json", "jsonl"));
  }
  EXPECT_TRUE(found);
  for (const std::string& script :
       {BashCompletion(program), ZshCompletion(program),
        FishCompletion(program)}) {
    for (const CompletionNode& command : program.commands) {
      EXPECT_THAT(script, HasSubstr(command.path));
      for (const CompletionFlag& flag : command.flags) {
        EXPECT_THAT(script, HasSubstr(flag.name));
      }
    }
  }
}

// Output of `script` under `shell`; "no shell" when there is none.
std::string RunShell(const std::string& shell, const std::string& script) {
  const ScratchFile file(script);
  std::FILE* const pipe =
      popen((shell + " " + file.path() + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return "no pipe";
  std::string out;
  std::array<char, 4096> piece;
  for (size_t n; (n = std::fread(piece.data(), 1, piece.size(), pipe)) > 0;) {
    out.append(piece.data(), n);
  }
  pclose(pipe);
  return out;
}

TEST(CompletionTest, BashCompletes) {
  const std::string script = RunPotClient({"completion", "bash"}).out;
  const auto complete = [&](const std::string& words, int at) {
    return RunShell("bash", script + "COMP_WORDS=(" + words +
                                ")\nCOMP_CWORD=" + std::to_string(at) +
                                "\n_pot_client\necho \"${COMPREPLY[@]}\"\n");
  };
  EXPECT_EQ(RunShell("bash", script + "complete -p pot-client"),
            "complete -o default -F _pot_client pot-client\n");
  EXPECT_EQ(complete("pot-client mo", 1), "models\n");
  EXPECT_EQ(complete("pot-client models im", 2), "import\n");
  EXPECT_EQ(complete("pot-client --output models models ro", 4), "rollback\n");
  EXPECT_EQ(complete("pot-client generate --rep", 2), "--repetition-penalty\n");
  EXPECT_EQ(complete("pot-client generate --overflow ''", 3),
            "reject truncate-left\n");
  EXPECT_EQ(complete("pot-client models import --emb", 3),
            "--embedding-format --embedding-granularity\n");
  EXPECT_EQ(complete("pot-client generate --serv", 2), "--server\n");
  EXPECT_EQ(complete("pot-client jobs res", 2), "resume\n");
  EXPECT_EQ(complete("pot-client submit-qat --schedule ''", 3),
            "cosine linear constant\n");
}

TEST(CompletionTest, OtherShellsParseTheirScripts) {
  for (const char* const name : {"zsh", "fish"}) {
    const std::string shell = name;
    if (std::system(("command -v " + shell + " >/dev/null").c_str()) != 0) {
      GTEST_SKIP() << shell << " is not installed: its script is not checked";
    }
    const std::string script = RunPotClient({"completion", shell}).out;
    EXPECT_EQ(RunShell(shell + " -n", script), "") << shell;
  }
}

TEST(ServerAddressTest, OnlyWhatIsSurelyThisMachineIs) {
  for (const char* const server :
       {"localhost:1", "LOCALHOST:1", "127.0.0.1:8500", "127.1.2.3:1",
        "[::1]:8500", "unix:/run/pot", "localhost"}) {
    EXPECT_TRUE(IsLocalServer(server)) << server;
  }
  for (const char* const server :
       {"127.example.com:1", "localhost.example.com:1", "localhost@evil:1",
        "10.0.0.1:1", "128.0.0.1:1", "[::2]:1", "[::1", "[::ffff:8.8.8.8]:1",
        "dns:///localhost:1", "ipv4:127.0.0.1:1", "0.0.0.0:1", ""}) {
    EXPECT_FALSE(IsLocalServer(server)) << server;
  }
}

TEST(ChannelSecurityTest, ATokenNeedsTlsOrThisMachine) {
  ChannelSecurityFlags flags;
  flags.token = "secret";
  EXPECT_TRUE(LoadChannelSecurity(flags, "127.0.0.1:1").ok());
  const auto refused = LoadChannelSecurity(flags, "example.com:1");
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()),
              AllOf(HasSubstr("unencrypted"), Not(HasSubstr("secret"))));
  flags.tls = true;
  const auto secure = LoadChannelSecurity(flags, "example.com:1");
  ASSERT_TRUE(secure.ok()) << secure.status();
  EXPECT_EQ(secure->token, "secret");
  flags.token = "two words";
  EXPECT_FALSE(LoadChannelSecurity(flags, "example.com:1").ok());
  flags.token = "new\nline";
  EXPECT_FALSE(LoadChannelSecurity(flags, "127.0.0.1:1").ok());
}

TEST(TokenTest, NewTokensAreLongDifferentAndReadable) {
  const std::string token = NewToken();
  EXPECT_EQ(token.size(), 4u + 43u);  // 256 bits, 6 a character
  EXPECT_THAT(token, StartsWith("pot_"));
  EXPECT_NE(token, NewToken());
  EXPECT_TRUE(CheckToken(token).ok());
  // FIPS 180-4's example.
  EXPECT_EQ(TokenDigestText("abc"),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f2"
            "0015ad");
}

TEST(TokenTest, TheCommandRefusesNamesAndScopesThatNoServerTakes) {
  for (const auto& [name, scopes] :
       {std::pair("a b", "infer"), std::pair("", "infer"),
        std::pair("a", "root"), std::pair("a", "infer,infer"),
        std::pair("a", "")}) {
    EXPECT_EQ(
        RunPotClient({"tokens", "new", "--name", name, "--scopes", scopes})
            .exit_code,
        2)
        << name << " " << scopes;
  }
}

}  // namespace
}  // namespace pot
