#include "engine/base/json.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace pot {
namespace {

using nlohmann::json;
using testing::HasSubstr;

TEST(JsonTest, BuildsTheDocument) {
  const absl::StatusOr<json> document = ParseJson(
      R"( {"a": [1, -2, 3.5, true, null, {"b": []}], "c": "\u00e9", "d": {},
          "e": 18446744073709551615} )",
      "test");
  ASSERT_TRUE(document.ok()) << document.status();
  EXPECT_EQ(*document,
            json({{"a", {1, -2, 3.5, true, nullptr, {{"b", json::array()}}}},
                  {"c", "\xC3\xA9"},
                  {"d", json::object()},
                  {"e", 18446744073709551615u}}));
  EXPECT_TRUE((*document)["e"].is_number_unsigned());
}

TEST(JsonTest, ScalarDocuments) {
  EXPECT_EQ(ParseJson("3", "test").value(), json(3));
  EXPECT_EQ(ParseJson("\"s\"", "test").value(), json("s"));
  EXPECT_EQ(ParseJson("null", "test").value(), json(nullptr));
}

TEST(JsonTest, EqualKeysOfDifferentObjectsAreFine) {
  EXPECT_TRUE(ParseJson(R"({"a": {"a": {"a": 1}}, "b": {"a": 2}})", "t").ok());
}

void ExpectRefused(absl::string_view text, const std::string& message) {
  const absl::StatusOr<json> document = ParseJson(text, "vocab.json");
  ASSERT_FALSE(document.ok()) << text;
  EXPECT_EQ(document.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(document.status().message()), HasSubstr(message));
  EXPECT_TRUE(absl::StartsWith(document.status().message(), "vocab.json: "));
}

TEST(JsonTest, RefusesWhatIsNotJson) {
  for (absl::string_view text :
       {"", " ", "{", "[1,]", "{\"a\"}", "{'a': 1}", "01", "1 2", "nul", "NaN",
        "[1, // comment\n 2]", "\"\n\"", "1e999", "\"\\ud800\"", "{} {}"}) {
    ExpectRefused(text, "not JSON at byte");
  }
}

TEST(JsonTest, RefusesDuplicateKeys) {
  ExpectRefused(R"({"x": {"key": 1, "other": 2, "key": 3}})",
                "duplicate key \"key\"");
  ExpectRefused(R"({"a": 1, "\u0061": 2})", "duplicate key \"a\"");
}

TEST(JsonTest, DepthLimit) {
  const std::string at_limit =
      std::string(kMaxJsonDepth, '[') + std::string(kMaxJsonDepth, ']');
  EXPECT_TRUE(ParseJson(at_limit, "test").ok());
  ExpectRefused("[" + at_limit + "]", "deeper than the limit of 64");
  ExpectRefused(std::string(1000000, '['), "deeper than the limit of 64");
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  ExpectRefused(objects, "deeper than the limit of 64");
}

TEST(JsonTest, RefusesInvalidUtf8AndNul) {
  ExpectRefused("{\"a\": \"\xC3\"}", "invalid UTF-8 at byte 7");
  ExpectRefused("\xED\xA0\x80", "invalid UTF-8 at byte 0");
  ExpectRefused(absl::string_view("{}\0{}", 5), "NUL at byte 2");
}

TEST(JsonTest, ErrorsAreShortAndPrintable) {
  const absl::StatusOr<json> document = ParseJson(
      absl::StrCat("\"", std::string(1000000, 'x'), "\xC3\xA9\n"), "test");
  ASSERT_FALSE(document.ok());
  EXPECT_LT(document.status().message().size(), 300);
  for (const char c : document.status().message()) {
    EXPECT_TRUE(c >= ' ' && c <= '~');
  }
}

TEST(ShowJson, IsShortAndAscii) {
  EXPECT_EQ(ShowJson({{"a", 1}}), "{\"a\":1}");
  EXPECT_EQ(ShowJson("\u00e9\n"), "\"\\u00e9\\n\"");
  EXPECT_EQ(ShowJson(std::string(100, 'x')),
            absl::StrCat("\"", std::string(59, 'x'), ".."));
  // A value built by hand may hold what no parser lets through.
  EXPECT_EQ(ShowJson("\xff"), "\"\\ufffd\"");
}

}  // namespace
}  // namespace pot
