// Every command against a server of fixed answers.
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/client/client_testing.h"
#include "tests/client/fake_server.h"

namespace pot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class CommandsTest : public testing::Test {
 protected:
  ClientRun Run(std::vector<std::string> arguments, ClientInput input = {}) {
    arguments.insert(arguments.begin(), {"--server", server_.address()});
    return RunPotClient(arguments, input);
  }

  FakeServer server_;
};

TEST_F(CommandsTest, GenerateWritesTextAndOnlyText) {
  const ClientRun run = Run({"generate", "Once"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_EQ(run.out, "Hello\n");
  EXPECT_EQ(run.err, "");
  EXPECT_EQ(server_.inference.generated.text(), "Once");
  // The only model that the server has.
  EXPECT_EQ(server_.inference.generated.model().name(), "tiny");
  EXPECT_EQ(server_.inference.generated.model().selector_case(),
            v1::ModelRef::SELECTOR_NOT_SET);
}

TEST_F(CommandsTest, GenerateSendsEveryFlag) {
  const ClientRun run = Run({"generate",
                             "-m",
                             "tiny@prod",
                             "--temperature",
                             "0.5",
                             "--top-k",
                             "3",
                             "--top-p",
                             "0.9",
                             "--min-p",
                             "0.1",
                             "--typical-p",
                             "0.8",
                             "--repetition-penalty",
                             "1.5",
                             "--presence-penalty",
                             "-0.5",
                             "--frequency-penalty",
                             "0.25",
                             "--logit-bias",
                             "5=-1.5,6=2",
                             "--allowed-token-ids",
                             "1,2",
                             "--allowed-token-ids",
                             "3",
                             "--banned-token-ids",
                             "4",
                             "--seed",
                             "18446744073709551615",
                             "--n",
                             "2",
                             "--best-of",
                             "4",
                             "--max-new-tokens",
                             "20",
                             "--min-new-tokens",
                             "2",
                             "--stop",
                             "\n\n",
                             "--stop",
                             "END",
                             "--stop-token-ids",
                             "7",
                             "--ignore-eos",
                             "--echo",
                             "--logprobs",
                             "0",
                             "--prompt-logprobs",
                             "2",
                             "--return-token-ids",
                             "--overflow",
                             "truncate-left",
                             "--request-id",
                             "me",
                             "Once"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  v1::GenerateRequest expected;
  expected.mutable_model()->set_name("tiny");
  expected.mutable_model()->set_alias("prod");
  expected.set_request_id("me");
  expected.set_text("Once");
  v1::Sampling& sampling = *expected.mutable_sampling();
  sampling.set_temperature(0.5f);
  sampling.set_top_k(3);
  sampling.set_top_p(0.9f);
  sampling.set_min_p(0.1f);
  sampling.set_typical_p(0.8f);
  sampling.set_repetition_penalty(1.5f);
  sampling.set_presence_penalty(-0.5f);
  sampling.set_frequency_penalty(0.25f);
  (*sampling.mutable_logit_bias())[5] = -1.5f;
  (*sampling.mutable_logit_bias())[6] = 2;
  for (const int id : {1, 2, 3}) sampling.add_allowed_token_ids(id);
  sampling.add_banned_token_ids(4);
  sampling.set_seed(UINT64_MAX);
  sampling.set_n(2);
  sampling.set_best_of(4);
  v1::Stopping& stopping = *expected.mutable_stopping();
  stopping.set_max_new_tokens(20);
  stopping.set_min_new_tokens(2);
  stopping.add_stop_strings("\n\n");
  stopping.add_stop_strings("END");
  stopping.add_stop_token_ids(7);
  stopping.set_ignore_eos(true);
  v1::Output& output = *expected.mutable_output();
  output.set_echo(true);
  output.set_logprobs(0);
  output.set_prompt_logprobs(2);
  output.set_return_token_ids(true);
  expected.set_overflow(v1::CONTEXT_OVERFLOW_TRUNCATE_LEFT);
  EXPECT_EQ(server_.inference.generated.DebugString(), expected.DebugString());
  EXPECT_EQ(run.out, "=== 1 of 2 ===\nHello\n\n=== 2 of 2 ===\nWorld\n");
}

TEST_F(CommandsTest, GenerateReadsPipes) {
  ClientInput input;
  input.in = "CLERK:\n";
  EXPECT_EQ(Run({"generate", "-"}, input).exit_code, 0);
  EXPECT_EQ(server_.inference.generated.text(), "CLERK:\n");
  input.in = "other";
  EXPECT_EQ(Run({"generate"}, input).exit_code, 0);
  EXPECT_EQ(server_.inference.generated.text(), "other");
  input.in = "bad \xff";
  const ClientRun run = Run({"generate"}, input);
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, HasSubstr("not UTF-8 from byte 4"));
}

TEST_F(CommandsTest, GenerateStreams) {
  const ClientRun run =
      Run({"generate", "--stream", "-v", "--prompt-token-ids", "1,2"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_EQ(run.out, "Hello\n");
  // 11 tokens of one sequence, the first of them during prefill, in 0.5 s.
  EXPECT_EQ(run.err,
            "tiny@2: 3 prompt + 11 new tokens, 20 tokens/s, first after 2.0 "
            "ms, ended by length, seed 42\n");
  EXPECT_THAT(server_.inference.generated.token_ids().ids(), ElementsAre(1, 2));
  EXPECT_EQ(Run({"generate", "--stream", "--n", "2", "x"}).out,
            "=== 1 of 2 ===\nHello\n\n=== 2 of 2 ===\nWorld\n");
}

TEST_F(CommandsTest, GenerateJson) {
  const ClientRun whole = Run({"--output", "json", "generate", "x"});
  const auto json = nlohmann::json::parse(whole.out);
  EXPECT_EQ(json["sequences"][0]["text"], "Hello");
  EXPECT_EQ(json["summary"]["seed"], "42");
  std::istringstream lines(Run({"generate", "x", "--output", "jsonl"}).out);
  std::vector<std::string> kinds;
  for (std::string line; std::getline(lines, line);) {
    kinds.push_back(nlohmann::json::parse(line).items().begin().key());
  }
  EXPECT_THAT(kinds, ElementsAre("chunk", "chunk", "summary"));
}

TEST_F(CommandsTest, ErrorsAreOneLineWithTheirCode) {
  server_.inference.error =
      DetailedError(grpc::StatusCode::INVALID_ARGUMENT, "too long",
                    "CONTEXT_OVERFLOW", "prompt");
  ClientRun run = Run({"generate", "x"});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_EQ(run.out, "");
  EXPECT_EQ(run.err,
            "pot-client: INVALID_ARGUMENT: too long (reason CONTEXT_OVERFLOW; "
            "limit 64; value 100; field prompt)\n");
  server_.inference.error =
      grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full");
  EXPECT_EQ(Run({"generate", "x"}).exit_code, 6);
  // Cancelled by the server, not by Ctrl-C.
  server_.inference.error = grpc::Status(grpc::StatusCode::CANCELLED, "no");
  EXPECT_EQ(Run({"generate", "x"}).exit_code, 1);
  run = Run({"generate", "--stream", "fail"});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_EQ(run.out, "Hel");
  EXPECT_THAT(run.err, HasSubstr("NON_FINITE_LOGITS"));
}

TEST_F(CommandsTest, RetriesUnavailable) {
  server_.inference.unavailable_calls = 2;
  const ClientRun run = Run({"generate", "x"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out, "Hello\n");
  EXPECT_EQ(server_.inference.unavailable_calls, 0);
}

TEST_F(CommandsTest, SeveralModelsNeedAName) {
  server_.models.versions[0].set_name("big");
  const ClientRun run = Run({"generate", "x"});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, HasSubstr("the server has big, tiny"));
  server_.models.versions.clear();
  EXPECT_EQ(Run({"generate", "x"}).exit_code, 3);
}

TEST_F(CommandsTest, InterruptCancelsTheCall) {
  ClientInput input;
  input.beside = [](Interrupter* interrupter,
                    const std::function<int64_t()>& out_bytes) {
    while (out_bytes() == 0) std::this_thread::yield();
    interrupter->Interrupt();
  };
  const ClientRun run =
      Run({"generate", "-m", "tiny", "--stream", "forever"}, input);
  EXPECT_EQ(run.exit_code, 130);
  EXPECT_EQ(run.out, "Hel");
  EXPECT_EQ(run.err, "");
  for (int i = 0; i < 5000 && !server_.inference.cancelled; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(server_.inference.cancelled);
}

TEST_F(CommandsTest, TimeoutEndsTheCall) {
  const ClientRun run = Run(
      {"generate", "-m", "tiny", "--stream", "forever", "--timeout", "200ms"});
  EXPECT_EQ(run.exit_code, 5);
  EXPECT_THAT(run.err, StartsWith("pot-client: DEADLINE_EXCEEDED: "));
}

TEST_F(CommandsTest, ReplKeepsTheConversation) {
  ClientInput input;
  input.in =
      "first\n"
      "/set temperature 0.25\n"
      "/set nonsense 1\n"
      "/set top-k x\n"
      "/seed 9\n"
      "/model tiny@1\n"
      "second\n"
      "/reset\n"
      "third\n"
      "/quit\n"
      "not reached\n";
  const ClientRun run = Run({"repl", "--top-k", "5"}, input);
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out, "Hello\nHello\nHello\n");
  EXPECT_THAT(server_.inference.prompts,
              ElementsAre("first\n", "first\nHello\nsecond\n", "third\n"));
  const v1::GenerateRequest& request = server_.inference.generated;
  EXPECT_FLOAT_EQ(request.sampling().temperature(), 0.25f);
  EXPECT_EQ(request.sampling().top_k(), 5);
  EXPECT_EQ(request.sampling().seed(), 9u);
  EXPECT_EQ(request.model().version(), 1);
  EXPECT_EQ(request.overflow(), v1::CONTEXT_OVERFLOW_TRUNCATE_LEFT);
  // Half the context of 64.
  EXPECT_EQ(request.stopping().max_new_tokens(), 32);
  EXPECT_THAT(run.err, HasSubstr("no setting \"nonsense\""));
}

TEST_F(CommandsTest, PerplexityTableIsBeautiful) {
  ClientInput input;
  input.in = std::string(1235, 'x');
  const ClientRun run = Run(
      {"perplexity", "-", "--model", "tiny@1", "--model", "tiny@2", "--table"},
      input);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.err, "");
  EXPECT_EQ(server_.inference.perplexity_text, input.in);
  EXPECT_EQ(
      run.out,
      "standard input: 1,234 predicted tokens (1,234 bytes) in windows of 64, "
      "stride 64; every token but the first counts once.\n"
      "\n"
      "model   format    weights in memory      vs fp32  tokens"
      "       perplexity  vs first row  bits per byte\n"
      "──────  ────────  ─────────────────  ───────────  ──────"
      "  ───────────────  ────────────  ─────────────\n"
      "tiny@1  f32                 1.00 kB         same   1,234"
      "  4.0000 ± 0.0400                       2.0000\n"
      "tiny@2  pot4 row              130 B  87.0 % less   1,234"
      "  5.0000 ± 0.0500       +25.0 %         2.3219\n");
}

TEST_F(CommandsTest, PerplexityOfOneModelAndAReference) {
  const std::string path = testing::TempDir() + "/pot_client_text";
  std::ofstream(path) << std::string(300'000, 'y');
  ClientRun run = Run({"perplexity", path, "--reference", "tiny@1", "--window",
                       "32", "--stride", "16"});
  std::filesystem::remove(path);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(server_.inference.perplexity_text.size(), 300'000u);
  EXPECT_EQ(server_.inference.options.window(), 32);
  EXPECT_EQ(server_.inference.options.stride(), 16);
  EXPECT_THAT(run.out, HasSubstr("perplexity      5.0000 ± 0.0500\n"));
  EXPECT_THAT(run.out, HasSubstr("weights         130 B in memory, 87.0 % less "
                                 "than fp32 (1.00 kB)\n"));
  EXPECT_THAT(run.out, HasSubstr("KL divergence   0.12500 nats"));
  EXPECT_THAT(run.out, HasSubstr("same top token  75.00 %"));

  ClientInput input;
  input.in = "text";
  run = Run({"perplexity", "-", "--output", "json"}, input);
  const auto json = nlohmann::json::parse(run.out);
  ASSERT_EQ(json.size(), 1u);
  EXPECT_EQ(json[0]["result"]["tokens"], "3");
  EXPECT_EQ(json[0]["model"]["resident_bytes"], "130");
}

TEST_F(CommandsTest, PerplexityReadsPipesOnceOrMore) {
  ClientInput input;
  input.in = std::string(200'000, 'z');
  input.in_is_pipe = true;
  ASSERT_EQ(Run({"perplexity", "-"}, input).exit_code, 0);
  EXPECT_EQ(server_.inference.perplexity_text, input.in);
  const ClientRun run =
      Run({"perplexity", "-", "-m", "tiny@1", "-m", "tiny@2"}, input);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(server_.inference.perplexity_text, input.in);
  EXPECT_THAT(run.out, HasSubstr("standard input: 199,999 predicted tokens"));
  EXPECT_THAT(run.out, HasSubstr("\ntiny@1 "));
  EXPECT_THAT(run.out, HasSubstr("\ntiny@2 "));
}

TEST_F(CommandsTest, NobodyReadingIsNoError) {
  ClientInput input;
  input.out_is_closed = true;
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"generate", "x"},
                                             {"generate", "--stream", "x"},
                                             {"models", "list"},
                                             {"--help"}}) {
    const ClientRun run = Run(arguments, input);
    EXPECT_EQ(run.exit_code, 0) << testing::PrintToString(arguments);
    EXPECT_EQ(run.err, "") << testing::PrintToString(arguments);
  }
}

TEST_F(CommandsTest, PerplexityErrors) {
  EXPECT_EQ(Run({"perplexity", "/nonexistent"}).exit_code, 3);
  EXPECT_EQ(Run({"perplexity", "/"}).exit_code, 2);
  ClientInput input;
  input.in = std::string(2'000'000, 'x');
  const ClientRun run = Run({"perplexity", "-", "-m", "none"}, input);
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_THAT(run.err, HasSubstr("MODEL_NOT_FOUND"));
}

TEST_F(CommandsTest, Score) {
  const ClientRun run = Run({"score", "-p", "Once", "-c", " upon", "-c", "\n"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(server_.inference.scored.continuations_size(), 2);
  EXPECT_EQ(run.out,
            "text     tokens  logprob  per token  perplexity  greedy\n"
            "───────  ──────  ───────  ─────────  ──────────  ──────\n"
            "\" upon\"       2  -2.0000    -1.0000      2.7183  yes\n"
            "\"\\n\"          2  -4.0000    -2.0000      7.3891  no\n");
}

TEST_F(CommandsTest, TokenizeAndBack) {
  EXPECT_EQ(Run({"tokenize", "Hi\n"}).out, "72 105 10\n");
  EXPECT_EQ(Run({"tokenize", "--pieces", "H"}).out,
            "token  piece\n─────  ─────\n   72  \"H\"\n");
  EXPECT_EQ(Run({"detokenize", "72", "105"}).out, "Hi");
  ClientInput input;
  input.in = "72 105\n255,0";
  EXPECT_EQ(Run({"detokenize", "-"}, input).out, std::string("Hi\xff\0", 4));
}

TEST_F(CommandsTest, ModelsListShowAndWatch) {
  EXPECT_THAT(Run({"models", "list"}).out, HasSubstr("default, prod  2 h\n"));
  EXPECT_THAT(Run({"models", "show", "tiny@1"}).out,
              HasSubstr("weights         1.00 kB in memory, the same as fp32"));
  EXPECT_EQ(Run({"models", "watch"}).out,
            "01:00:00 SNAPSHOT tiny@2 AVAILABLE pot4 row aliases "
            "default,prod\n");
  const auto json =
      nlohmann::json::parse(Run({"models", "list", "--output", "json"}).out);
  EXPECT_EQ(json["versions"][1]["state"], "MODEL_VERSION_STATE_AVAILABLE");
}

TEST_F(CommandsTest, ModelsAliasAndRemove) {
  ClientRun run = Run({"models", "alias", "tiny", "prod", "2", "--expect", "1",
                       "--comment", "better"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out, "tiny: alias prod 1 -> 2\n");
  EXPECT_EQ(server_.models.alias.expected_version(), 1);
  EXPECT_EQ(server_.models.alias.comment(), "better");
  EXPECT_EQ(Run({"models", "alias", "tiny", "prod", "--remove"}).out,
            "tiny: alias prod 1 -> none\n");
  EXPECT_TRUE(server_.models.alias.remove());
  run = Run({"models", "alias", "tiny", "prod", "2", "--expect", "0"});
  EXPECT_EQ(run.exit_code, 8);
  EXPECT_TRUE(server_.models.alias.has_expected_version());
  EXPECT_EQ(Run({"models", "rm", "tiny@1", "tiny@2"}).out,
            "deleted tiny@1\ndeleted tiny@2\n");
  EXPECT_THAT(server_.models.deleted, ElementsAre(1, 2));
  // Not in the fake server.
  EXPECT_EQ(Run({"models", "load", "tiny"}).exit_code, 1);
}

TEST_F(CommandsTest, ModelsImport) {
  const ClientRun run =
      Run({"models", "import", "new", "dir/x", "--format", "pot4",
           "--granularity", "g64", "--method", "paper", "--embedding-format",
           "pot6", "--embedding-granularity", "tensor", "--load"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const v1::ImportModelRequest& request = server_.models.imported;
  EXPECT_EQ(request.name(), "new");
  EXPECT_EQ(request.directory(), "dir/x");
  EXPECT_EQ(request.quantization().format(), "pot4");
  EXPECT_EQ(request.quantization().granularity(), "g64");
  EXPECT_EQ(request.quantization().method(), "paper");
  EXPECT_EQ(request.quantization().embedding_format(), "pot6");
  EXPECT_EQ(request.quantization().embedding_granularity(), "tensor");
  EXPECT_TRUE(request.load());
  EXPECT_THAT(run.out, StartsWith("model           tiny@2\n"));
}

class RegisterTest : public CommandsTest {
 protected:
  RegisterTest() {
    directory_ = testing::TempDir() + "/pot_client_register.XXXXXX";
    EXPECT_NE(mkdtemp(directory_.data()), nullptr);
  }
  ~RegisterTest() override { std::filesystem::remove_all(directory_); }

  void Write(const std::string& name, const std::string& content) {
    std::ofstream(directory_ + "/" + name) << content;
  }
  ClientRun Register() {
    return Run({"models", "register", "new", directory_, "--version-number",
                "7", "--load"});
  }

  std::string directory_;
};

TEST_F(RegisterTest, UploadsTheDirectory) {
  const std::string weights(2'500'000, 'w');
  const std::string manifest = R"({"files": {
      "config.json": {"bytes": 2, "sha256": "c"},
      "empty": {"bytes": 0, "sha256": "e"},
      "model.safetensors": {"bytes": 2500000, "sha256": "w"}}})";
  Write("config.json", "{}");
  Write("empty", "");
  Write("model.safetensors", weights);
  Write("manifest.json", manifest);
  const ClientRun run = Register();
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const v1::CheckpointHeader& header = server_.models.header;
  EXPECT_EQ(header.name(), "new");
  EXPECT_EQ(header.version(), 7);
  EXPECT_TRUE(header.load());
  ASSERT_EQ(header.files_size(), 4);
  EXPECT_EQ(header.files(3).path(), "manifest.json");
  EXPECT_EQ(header.files(3).sha256().size(), 64u);
  EXPECT_THAT(server_.models.uploaded,
              ElementsAre("{}", "", weights, manifest));
  EXPECT_EQ(server_.models.largest_chunk, size_t{1} << 20);
}

TEST_F(RegisterTest, RefusesWhatTheManifestDoesNotSay) {
  EXPECT_EQ(Register().exit_code, 3);  // no manifest
  Write("manifest.json", "{");
  EXPECT_EQ(Register().exit_code, 2);
  Write("manifest.json", R"({"files": {"../x": {"bytes": 1, "sha256": "a"}}})");
  ClientRun run = Register();
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, HasSubstr("is a path"));
  Write("manifest.json", R"({"files": {"a": {"bytes": -1, "sha256": "a"}}})");
  EXPECT_EQ(Register().exit_code, 2);
  Write("manifest.json", R"({"files": {"a": {"bytes": 9, "sha256": "a"}}})");
  EXPECT_EQ(Register().exit_code, 1);  // no such file
  Write("a", "short");
  run = Register();
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.err, HasSubstr("has 5 bytes, its manifest says 9"));
  EXPECT_EQ(server_.models.header.files_size(), 0);
}

TEST_F(CommandsTest, Health) {
  ClientRun run = Run({"health"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_EQ(run.out, "SERVING\n");
  EXPECT_EQ(Run({"health", "--wait"}).out, "SERVING\n");
  server_.health.status = grpc::health::v1::HealthCheckResponse::NOT_SERVING;
  run = Run({"health", "pot.model.tiny"});
  EXPECT_EQ(run.exit_code, 4);
  EXPECT_EQ(run.out, "NOT_SERVING\n");
  run = Run({"health", "--wait", "--timeout", "300ms"});
  EXPECT_EQ(run.exit_code, 5);
  EXPECT_THAT(run.err, HasSubstr("is not serving after 300ms (last state "
                                 "NOT_SERVING)"));
}

TEST(HealthTest, WaitsForAServerThatIsNotUp) {
  std::string address;
  { address = FakeServer().address(); }
  ClientRun run = RunPotClient({"--server", address, "models", "list"});
  EXPECT_EQ(run.exit_code, 4);
  EXPECT_THAT(run.err, HasSubstr(address));
  EXPECT_THAT(run.err, HasSubstr("is pot-server running"));
  std::unique_ptr<FakeServer> server;
  ClientInput input;
  input.beside = [&](Interrupter*, const std::function<int64_t()>&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    server = std::make_unique<FakeServer>(address);
  };
  run = RunPotClient(
      {"--server", address, "health", "--wait", "--timeout", "30s"}, input);
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out, "SERVING\n");
}

}  // namespace
}  // namespace pot
