// What people read and type, without any server: references to models,
// figures, tables, errors, exit codes.
#include <string>

#include "absl/status/status.h"
#include "client/exit_code.h"
#include "client/model_ref.h"
#include "client/model_report.h"
#include "client/perplexity_report.h"
#include "client/rpc_status.h"
#include "client/table.h"
#include "client/text_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"

namespace pot {
namespace {

using ::testing::HasSubstr;

TEST(ModelRefTest, ReadsEverySelector) {
  EXPECT_EQ(ParseModelRef("gpt2")->name(), "gpt2");
  EXPECT_EQ(ParseModelRef("gpt2")->selector_case(),
            v1::ModelRef::SELECTOR_NOT_SET);
  EXPECT_EQ(ParseModelRef("gpt2@12")->version(), 12);
  EXPECT_EQ(ParseModelRef("gpt2@12a")->alias(), "12a");
  const std::string digest(64, 'a');
  EXPECT_EQ(ParseModelRef("gpt2@sha256:" + digest)->digest(), digest);
  for (const std::string& text :
       {std::string("a"), std::string("a.b-c_d@1"), std::string("a@prod"),
        "a@sha256:" + digest}) {
    EXPECT_EQ(FormatModelRef(*ParseModelRef(text)), text);
  }
}

TEST(ModelRefTest, RefusesWhatTheServerWouldNot) {
  for (const char* const text :
       {"", "@1", ".a", "a/b", "a b", "a@", "a@0", "a@9223372036854775808",
        "a@b@c", "a@sha256:", "a@sha256:ABC", "a@sha256:../x", "a@..",
        "\x1b[2J"}) {
    const auto parsed = ParseModelRef(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_TRUE(absl::IsInvalidArgument(parsed.status())) << text;
    EXPECT_EQ(std::string(parsed.status().message()).find('\x1b'),
              std::string::npos);
  }
  EXPECT_FALSE(ParseModelRef(std::string(65, 'a')).ok());
  EXPECT_TRUE(ParseModelRef(std::string(64, 'a')).ok());
}

TEST(TextFormatTest, KeepsTerminalsSafe) {
  EXPECT_EQ(Printable("a\n\t\x1b[0m\x7f"), "a\\n\\t\\x1b[0m\\x7f");
  EXPECT_EQ(Printable("\xc2\x9b"), "\\xc2\\x9b");  // C1: CSI
  EXPECT_EQ(Quoted("\xff\"\\é"), "\"\\xff\\\"\\\\é\"");
}

TEST(TextFormatTest, Figures) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1000), "1,000");
  EXPECT_EQ(FormatCount(1234567), "1,234,567");
  EXPECT_EQ(FormatBytes(0), "-");
  EXPECT_EQ(FormatBytes(999), "999 B");
  EXPECT_EQ(FormatBytes(1000), "1.00 kB");
  EXPECT_EQ(FormatBytes(999499), "999 kB");
  EXPECT_EQ(FormatBytes(999500), "1.00 MB");
  EXPECT_EQ(FormatBytes(62'400'000), "62.4 MB");
  EXPECT_EQ(FormatSaving(130, 1000), "87.0 % less");
  EXPECT_EQ(FormatSaving(1000, 1000), "same");
  EXPECT_EQ(FormatSaving(1020, 1000), "2.0 % more");
  EXPECT_EQ(FormatSaving(0, 1000), "-");
  EXPECT_EQ(FormatAge(absl::Seconds(-5)), "0 s");
  EXPECT_EQ(FormatAge(absl::Seconds(125)), "2 min");
  EXPECT_EQ(FormatAge(absl::Hours(47)), "47 h");
  EXPECT_EQ(FormatAge(absl::Hours(49)), "2 d");
}

TEST(TextFormatTest, Timeouts) {
  absl::Duration timeout;
  ASSERT_TRUE(ParseTimeout("60s", &timeout));
  EXPECT_EQ(timeout, absl::Seconds(60));
  ASSERT_TRUE(ParseTimeout("500ms", &timeout));
  EXPECT_EQ(timeout, absl::Milliseconds(500));
  ASSERT_TRUE(ParseTimeout("1.5", &timeout));
  EXPECT_EQ(timeout, absl::Seconds(1.5));
  for (const char* text : {"", "0", "-1", "0s", "-3s", "nan", "5 minutes"}) {
    EXPECT_FALSE(ParseTimeout(text, &timeout)) << text;
  }
}

TEST(TableTest, AlignsByCodePoints) {
  Table table({{"a"}, {"b", Table::Align::kRight}, {"c"}});
  table.AddRow({"é±", "1", "x"});
  table.AddRow({"long", "22", ""});
  EXPECT_EQ(table.ToString(),
            "a      b  c\n"
            "────  ──  ─\n"
            "é±     1  x\n"
            "long  22\n");
}

TEST(ExitCodeTest, FollowsTheDocument) {
  EXPECT_EQ(ExitCodeOf(absl::StatusCode::kOk), 0);
  EXPECT_EQ(ExitCodeOf(absl::StatusCode::kInternal), 1);
  EXPECT_EQ(ExitCodeOf(absl::StatusCode::kDataLoss), 1);
  EXPECT_EQ(ExitCodeOf(absl::StatusCode::kInvalidArgument), 2);
  EXPECT_EQ(ExitCodeOf(absl::StatusCode::kNotFound), 3);
  EXPECT_EQ(ExitCodeOf(absl::StatusCode::kUnavailable), 4);
  EXPECT_EQ(ExitCodeOf(absl::StatusCode::kDeadlineExceeded), 5);
  EXPECT_EQ(ExitCodeOf(absl::StatusCode::kResourceExhausted), 6);
  EXPECT_EQ(ExitCodeOf(absl::StatusCode::kUnauthenticated), 7);
  EXPECT_EQ(ExitCodeOf(absl::StatusCode::kPermissionDenied), 7);
  EXPECT_EQ(ExitCodeOf(absl::StatusCode::kFailedPrecondition), 8);
  EXPECT_EQ(ExitCodeOf(absl::StatusCode::kAborted), 8);
  EXPECT_EQ(ExitCodeOf(absl::StatusCode::kCancelled), 130);
}

TEST(RpcStatusTest, FoldsDetailsIntoOneLine) {
  const absl::Status status =
      FromGrpcStatus(DetailedError(grpc::StatusCode::INVALID_ARGUMENT,
                                   "too\nlong", "CONTEXT_OVERFLOW", "prompt"),
                     "h:1");
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_EQ(status.message(),
            "too\\nlong (reason CONTEXT_OVERFLOW; limit 64; value 100; field "
            "prompt)");
}

TEST(RpcStatusTest, UnavailableNamesTheServer) {
  const absl::Status bare = FromGrpcStatus(
      grpc::Status(grpc::StatusCode::UNAVAILABLE, "refused"), "h:1");
  EXPECT_THAT(std::string(bare.message()),
              HasSubstr("refused (server h:1; is pot-server running"));
  const absl::Status loading = FromGrpcStatus(
      DetailedError(grpc::StatusCode::UNAVAILABLE, "soon", "MODEL_LOADING", ""),
      "h:1");
  EXPECT_EQ(loading.message(),
            "soon (reason MODEL_LOADING; limit 64; value 100; server h:1)");
  EXPECT_TRUE(FromGrpcStatus(grpc::Status::OK, "h:1").ok());
}

TEST(RpcStatusTest, DetailsThatAreNoneAreIgnored) {
  const absl::Status status = FromGrpcStatus(
      grpc::Status(grpc::StatusCode::NOT_FOUND, "gone", "\xff\xff junk"), "h");
  EXPECT_EQ(status.message(), "gone");
}

TEST(ModelReportTest, NamesFormats) {
  v1::Quantization quantization;
  EXPECT_EQ(FormatName(quantization), "-");
  quantization.set_format("pot4");
  quantization.set_granularity("g64");
  EXPECT_EQ(FormatName(quantization), "pot4 g64");
  quantization.set_embedding_format("pot6");
  EXPECT_EQ(FormatName(quantization), "pot4 g64, embedding pot6");
}

TEST(ModelReportTest, ListsVersions) {
  google::protobuf::RepeatedPtrField<v1::ModelVersion> versions;
  *versions.Add() = TinyVersion(1);
  *versions.Add() = TinyVersion(2);
  versions.Mutable(0)->set_state(v1::MODEL_VERSION_STATE_UNLOADED);
  versions.Mutable(0)->set_resident_bytes(0);
  EXPECT_EQ(
      FormatModelTable(versions, absl::FromUnixSeconds(1'800'000'000)),
      "model  version  state      format    weights      vs fp32  aliases      "
      "  age\n"
      "─────  ───────  ─────────  ────────  ───────  ───────────  ─────────────"
      "  ───\n"
      "tiny         1  UNLOADED   f32             -            -  fp32         "
      "  2 h\n"
      "tiny         2  AVAILABLE  pot4 row    130 B  87.0 % less  default, prod"
      "  2 h\n");
}

}  // namespace
}  // namespace pot
