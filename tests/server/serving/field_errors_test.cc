#include "server/serving/field_errors.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

// That the message is of the field's, and that its limit and value are there
// for programs, too.
void ExpectError(const absl::Status& status, const std::string& message,
                 const std::string& field, const std::string& limit,
                 const std::string& value) {
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_EQ(status.message(), message);
  const auto details = GetDetails(status);
  ASSERT_TRUE(details.has_value());
  EXPECT_EQ(details->reason, "INVALID_FIELD");
  EXPECT_EQ(details->field, field);
  EXPECT_EQ(details->metadata.at("limit"), limit);
  EXPECT_EQ(details->metadata.at("value"), value);
}

TEST(FieldErrorsTest, RangeIsInclusive) {
  EXPECT_TRUE(CheckRange("n", 1, 1, 3).ok());
  EXPECT_TRUE(CheckRange("n", 3, 1, 3).ok());
  ExpectError(CheckRange("n", 0, 1, 3),
              "n must be in [1, 3]; the given value is 0", "n", "[1, 3]", "0");
  ExpectError(CheckRange("n", 4, 1, 3),
              "n must be in [1, 3]; the given value is 4", "n", "[1, 3]", "4");
}

TEST(FieldErrorsTest, BytesHaveALeastAndAMost) {
  EXPECT_TRUE(CheckBytes("text", "", 0, 3).ok());
  EXPECT_TRUE(CheckBytes("text", "abc", 1, 3).ok());
  ExpectError(CheckBytes("text", "", 1, 3),
              "text must have 1 to 3 bytes; it has 0", "text", "[1, 3]", "0");
  ExpectError(CheckBytes("text", "abcd", 1, 3),
              "text must have 1 to 3 bytes; it has 4", "text", "[1, 3]", "4");
  ExpectError(CheckBytes("comment", "abcd", 0, 3),
              "comment may have at most 3 bytes; it has 4", "comment", "3",
              "4");
}

TEST(FieldErrorsTest, DigestsAreQuotedInPart) {
  EXPECT_TRUE(CheckSha256("sha256", std::string(64, '0')).ok());
  ExpectError(CheckSha256("sha256", "AB"),
              "sha256 must be 64 lower-case hexadecimal digits; it is \"AB\", "
              "2 bytes",
              "sha256", "64", "\"AB\"");
  const std::string shown = absl::StrCat("\"", std::string(64, '0'), "..\"");
  ExpectError(
      CheckSha256("sha256", std::string(100000, '0')),
      absl::StrCat("sha256 must be 64 lower-case hexadecimal digits; it is ",
                   shown, ", 100000 bytes"),
      "sha256", "64", shown);
}

TEST(FieldErrorsTest, FileNamesAreNoPaths) {
  EXPECT_TRUE(CheckFileName("path", "a-1.b_c", 7).ok());
  for (const char* const name : {"../x", ".x", "a/b", "-r", "a-1.b_cd"}) {
    const std::string quoted = absl::StrCat("\"", name, "\"");
    ExpectError(CheckFileName("path", name, 7),
                absl::StrCat("path must be 1 to 7 characters of [A-Za-z0-9._-] "
                             "and begin with a letter or digit; it is ",
                             quoted),
                "path", "7", quoted);
  }
}

TEST(FieldErrorsTest, QuotedIsPrintable) {
  EXPECT_EQ(Quoted("a\"\n\x01\xff"), "\"a\\\"\\n\\001\\377\"");
}

}  // namespace
}  // namespace pot
