// Receipts as files, good and hostile, and replays against a server of fixed
// answers.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/receipt.h"
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

// Of tokens 1, 2 and 3, with logits 10, 20 and 2^64 - 1. The digest:
// python3 -c 'import hashlib, struct; print(hashlib.sha256(struct.pack(
//   "<Q3i3Q", 3, 1, 2, 3, 10, 20, 2**64 - 1)).hexdigest())'
v1::ReplayReceipt TinyReceipt() {
  v1::ReplayReceipt receipt;
  receipt.mutable_model()->set_name("tiny");
  receipt.mutable_model()->set_version(2);
  receipt.mutable_model()->set_sha256(std::string(64, 'a'));
  receipt.mutable_model()->set_engine("pot/0.1.0 avx2 affine");
  receipt.set_arithmetic("affine f16");
  receipt.mutable_request()->mutable_token_ids()->add_ids(5);
  receipt.mutable_request()->set_request_id("first");
  receipt.mutable_request()->mutable_sampling()->set_seed(7);
  receipt.mutable_request()->mutable_sampling()->set_n(1);
  receipt.mutable_request()->mutable_sampling()->set_temperature(0.1f);
  v1::ReceiptSequence* sequence = receipt.add_sequences();
  const uint64_t checksums[] = {10, 20, ~uint64_t{0}};
  for (int i = 0; i < 3; ++i) {
    sequence->add_token_ids(i + 1);
    sequence->add_logits_xxh64(checksums[i]);
  }
  receipt.set_output_sha256(
      "6d0ef20f0101d946903b2535c2b9c8392ceaf9688921297337321b3deb0ac110");
  return receipt;
}

class ReplayTest : public testing::Test {
 protected:
  ReplayTest() {
    std::string pattern = testing::TempDir() + "/pot_replay_XXXXXX";
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    path_ = directory_ + "/receipt.json";
    server_.inference.receipt = TinyReceipt();
  }
  ~ReplayTest() override { std::filesystem::remove_all(directory_); }

  ClientRun Run(std::vector<std::string> arguments, ClientInput input = {}) {
    arguments.insert(arguments.begin(), {"--server", server_.address()});
    return RunPotClient(arguments, input);
  }
  std::string Read() {
    std::ostringstream content;
    content << std::ifstream(path_, std::ios::binary).rdbuf();
    return content.str();
  }
  void Write(const std::string& content) {
    std::ofstream(path_, std::ios::binary) << content;
  }
  // How the error of replaying such a file begins after "pot-client: ".
  void ExpectRefused(const std::string& content, const std::string& fragment) {
    Write(content);
    const ClientRun run = Run({"replay", path_});
    EXPECT_EQ(run.exit_code, 2) << content.substr(0, 1000);
    EXPECT_THAT(run.err, StartsWith("pot-client: INVALID_ARGUMENT: "));
    EXPECT_THAT(run.err, HasSubstr(fragment));
    EXPECT_LT(run.err.size(), 2000);
    EXPECT_EQ(run.out, "");
  }

  FakeServer server_;
  std::string directory_, path_;
};

TEST_F(ReplayTest, GenerateWritesTheReceiptInEveryOutputFormat) {
  std::string first;
  for (const std::vector<std::string>& flags :
       std::vector<std::vector<std::string>>{
           {}, {"--stream"}, {"--output", "json"}, {"--output", "jsonl"}}) {
    std::vector<std::string> arguments = {"generate", "x", "--receipt", path_};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const ClientRun run = Run(arguments);
    EXPECT_EQ(run.exit_code, 0) << run.err;
    EXPECT_TRUE(server_.inference.generated.output().receipt());
    if (first.empty()) first = Read();
    EXPECT_EQ(Read(), first);
    std::filesystem::remove(path_);
  }
  const auto receipt = ParseReceipt(first, "it");
  ASSERT_TRUE(receipt.ok()) << receipt.status();
  EXPECT_EQ(receipt->DebugString(), TinyReceipt().DebugString());
  // Nothing else was left behind.
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

TEST_F(ReplayTest, PathsThatCannotWorkAreRefusedBeforeGenerating) {
  for (const auto& [path, code] :
       std::map<std::string, int>{{"/dev/null", 2},
                                  {directory_, 2},
                                  {"", 2},
                                  {directory_ + "/no/receipt", 3}}) {
    const ClientRun run = Run({"generate", "x", "--receipt", path});
    EXPECT_EQ(run.exit_code, code) << path << run.err;
    EXPECT_EQ(run.out, "");
    EXPECT_EQ(server_.inference.generated.text(), "");
  }
}

TEST_F(ReplayTest, AServerWithoutReceiptsIsNamed) {
  server_.inference.receipt.reset();
  Write("before");
  const ClientRun run = Run({"generate", "x", "--receipt", path_});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.err, HasSubstr(server_.address()));
  EXPECT_THAT(run.err, HasSubstr("gives no receipts"));
  EXPECT_EQ(Read(), "before");
  Write(ToJson(TinyReceipt(), true));
  EXPECT_THAT(Run({"replay", path_}).err, HasSubstr("gives no receipts"));
}

TEST_F(ReplayTest, Identical) {
  Write(ToJson(TinyReceipt(), true));
  const ClientRun run = Run({"replay", path_});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.err, "");
  EXPECT_THAT(run.out, StartsWith("identical: 3 tokens in 1 sequence, from "
                                  "bitwise the same logits\n"));
  EXPECT_THAT(run.out, HasSubstr("tiny@2 sha256:aaaa"));
  const v1::GenerateRequest& sent = server_.inference.generated;
  EXPECT_EQ(sent.model().digest(), std::string(64, 'a'));
  EXPECT_EQ(sent.request_id(), "");
  EXPECT_EQ(sent.sampling().DebugString(),
            TinyReceipt().request().sampling().DebugString());
  EXPECT_THAT(sent.token_ids().ids(), ElementsAre(5));
  EXPECT_TRUE(sent.output().receipt());

  const ClientRun piped =
      Run({"--output", "json", "replay", "-"}, {.in = Read()});
  EXPECT_EQ(piped.exit_code, 0) << piped.err;
  const auto json = nlohmann::json::parse(piped.out);
  EXPECT_EQ(json["identical"], true);
  EXPECT_EQ(json["tokens"], 3);
}

TEST_F(ReplayTest, TheFirstDifferenceIsNamed) {
  Write(ToJson(TinyReceipt(), true));
  v1::ReplayReceipt& now = *server_.inference.receipt;
  now.mutable_sequences(0)->set_logits_xxh64(1, 21);
  now.mutable_sequences(0)->set_token_ids(2, 9);
  ClientRun run = Run({"replay", path_});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_EQ(run.out, "");
  EXPECT_THAT(run.err,
              HasSubstr("not identical: sequence 0, token 1: the receipt has "
                        "token 2 from logits 0000000000000014, the server now "
                        "token 2 from logits 0000000000000015"));
  run = Run({"--output", "jsonl", "replay", path_});
  EXPECT_EQ(run.exit_code, 1);
  const auto json = nlohmann::json::parse(run.out);
  EXPECT_EQ(json["identical"], false);
  EXPECT_EQ(json["first_difference"]["position"], 1);
  EXPECT_EQ(json["first_difference"]["same_logits"], false);

  now = TinyReceipt();
  now.mutable_sequences(0)->mutable_token_ids()->RemoveLast();
  now.mutable_sequences(0)->mutable_logits_xxh64()->RemoveLast();
  EXPECT_THAT(Run({"replay", path_}).err,
              HasSubstr("token 2: the receipt has token 3 from logits "
                        "ffffffffffffffff, the server now no token"));
}

TEST_F(ReplayTest, OtherSoftwareIsAWarningOtherArithmeticAnError) {
  Write(ToJson(TinyReceipt(), true));
  server_.inference.receipt->mutable_model()->set_engine(
      "pot/0.2.0 scalar affine");
  ClientRun run = Run({"replay", path_});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_THAT(run.err, HasSubstr("by pot/0.1.0, the server runs pot/0.2.0"));
  server_.inference.receipt->set_arithmetic("symmetric f16");
  run = Run({"replay", path_});
  EXPECT_EQ(run.exit_code, 8);
  EXPECT_THAT(run.err, HasSubstr("\"affine f16\", the server's \"symmetric"));
}

TEST_F(ReplayTest, AModelThatIsNotThereIsNamedWithWhatIs) {
  Write(ToJson(TinyReceipt(), true));
  server_.inference.error =
      DetailedError(grpc::StatusCode::NOT_FOUND, "no version of that digest",
                    "VERSION_NOT_FOUND", "");
  const ClientRun run = Run({"replay", path_});
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_THAT(run.err, HasSubstr("the receipt is of tiny@2 sha256:aaaa"));
  EXPECT_THAT(run.err, HasSubstr("the server's tiny@2 is sha256:bbbb"));
}

TEST_F(ReplayTest, HostileFiles) {
  const std::string good = ToJson(TinyReceipt(), true);
  const auto changed = [&good](const std::string& from, const std::string& to) {
    EXPECT_THAT(good, HasSubstr(from));
    return absl::StrReplaceAll(good, {{from, to}});
  };
  ExpectRefused("", "is no receipt");
  ExpectRefused("[]", "is no receipt");
  ExpectRefused("{}", "model.sha256");
  ExpectRefused("null", "is no receipt");
  ExpectRefused(good.substr(0, good.size() / 2), "is no receipt");
  ExpectRefused(std::string("\0\0\0\0", 4), "is no receipt");
  ExpectRefused("{\"model\": \"\xff\"}", "not UTF-8 from byte 11");
  ExpectRefused(std::string(100000, '['), "is no receipt");
  ExpectRefused(std::string(100000, '{'), "is no receipt");
  ExpectRefused(changed("\"arithmetic\"", "\"arithmetics\""), "arithmetics");
  ExpectRefused(changed("\"sequences\": [", "\"sequences\": 1, \"x\": ["),
                "is no receipt");
  ExpectRefused(changed("\"seed\": \"7\"", "\"seed\": \"-7\""), "-7");
  ExpectRefused(changed("\"seed\": \"7\"", "\"seed\": 1e300"), "1e");
  ExpectRefused(changed("\"n\": 1", "\"n\": 2"), "n is 2");
  ExpectRefused(changed("\"n\": 1", "\"n\": 99999999999"), "99999999999");
  ExpectRefused(changed(std::string(64, 'a'), std::string(64, 'A')),
                "model.sha256");
  ExpectRefused(changed(std::string(64, 'a'), "\\u001b[2J"), "\\x1b[2J");
  ExpectRefused(changed("\"20\"", "\"21\""), "it was changed");
  ExpectRefused(changed("\"10\",", ""), "3 token_ids, but 2 logits_xxh64");
  std::ofstream(path_).close();
  std::filesystem::resize_file(path_, (uintmax_t{32} << 20) + 1);
  const ClientRun huge = Run({"replay", path_});
  EXPECT_EQ(huge.exit_code, 2);
  EXPECT_THAT(huge.err, HasSubstr("33554433"));
  EXPECT_EQ(Run({"replay", directory_}).exit_code, 2);
  EXPECT_EQ(Run({"replay", directory_ + "/nothing"}).exit_code, 3);
  EXPECT_EQ(Run({"replay"}).exit_code, 2);
  // No call was made for any of them.
  EXPECT_FALSE(server_.inference.generated.has_model());
}

}  // namespace
}  // namespace pot
