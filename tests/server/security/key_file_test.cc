#include "server/security/key_file.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// SHA-256 of "abc" (FIPS 180-4's example), and another.
constexpr char kAbc[] =
    "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr char kZeros[] =
    "sha256:0000000000000000000000000000000000000000000000000000000000000000";

std::string Error(absl::string_view text) {
  const auto keys = ParseKeyFile(text);
  EXPECT_EQ(keys.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(keys.status().message());
}

TEST(KeyFileTest, ReadsKeysAndSkipsCommentsAndBlankLines) {
  const auto keys = ParseKeyFile(absl::StrCat(
      "# who may call\r\n\n  ci\tinfer ", kAbc, "  # the build\n",
      "ops infer,admin ", kZeros,
      " requests-per-second=2.5 request-burst=10 tokens-per-second=1e3"
      " token-burst=5000 concurrent-calls=4"));
  ASSERT_TRUE(keys.ok()) << keys.status();
  ASSERT_EQ(keys->size(), 2u);
  EXPECT_EQ((*keys)[0].name, "ci");
  EXPECT_EQ((*keys)[0].scopes, ScopesOf(Scope::kInfer));
  EXPECT_EQ((*keys)[0].digest, DigestOfToken("abc"));
  EXPECT_EQ((*keys)[0].quota, QuotaLimits{});
  const QuotaLimits quota = {.requests_per_second = 2.5,
                             .request_burst = 10,
                             .tokens_per_second = 1000,
                             .token_burst = 5000,
                             .concurrent_calls = 4};
  EXPECT_EQ((*keys)[1].scopes, ScopesOf(Scope::kInfer, Scope::kAdmin));
  EXPECT_EQ((*keys)[1].quota, quota);
}

TEST(KeyFileTest, SaysEverythingThatIsWrongWithItsLine) {
  const std::string error = Error(absl::StrCat(
      "ci infer ", kAbc, "\n",                            // 1
      "ci infer ", kZeros, "\n",                          // 2
      "b infer ", kAbc, "\n",                             // 3
      "c/d infer ", kZeros, "\n",                         // 4
      "e root ", kZeros, "\n",                            // 5
      "f infer\n",                                        // 6
      "g infer my-secret-token\n",                        // 7
      "h infer ", kZeros, " speed=1\n",                   // 8
      "i infer ", kZeros, " requests-per-second=fast\n",  // 9
      "j infer ", kZeros, " concurrent-calls=0\n",        // 10
      "k infer ", kZeros, " token-burst=5\n",             // 11
      "l infer ", kZeros, " tokens-per-second=1 tokens-per-second=2\n"));
  for (const char* const part :
       {"line 2: the name \"ci\" is taken", "line 3: the digest",
        "line 4: the name must", "line 5: scopes must", "line 6: must have",
        "line 7: the third word", "line 8: no quota \"speed=1\"",
        "line 9: requests-per-second must", "line 10: concurrent-calls must",
        "line 11: a burst needs", "line 12: the quota"}) {
    EXPECT_THAT(error, HasSubstr(part));
  }
  EXPECT_THAT(error, Not(HasSubstr("line 1:")));
  // Somebody put the token where its digest belongs: it stays out of logs.
  EXPECT_THAT(error, Not(HasSubstr("my-secret-token")));
}

TEST(KeyFileTest, RefusesHugeNegativeAndNonFiniteQuotas) {
  for (const char* const value :
       {"-1", "0", "nan", "inf", "1e10", "", "1,5", "0x"}) {
    EXPECT_THAT(
        Error(absl::StrCat("a infer ", kAbc, " tokens-per-second=", value)),
        HasSubstr("tokens-per-second"))
        << value;
  }
}

TEST(KeyFileTest, AFileThatWouldLockEverybodyOutIsRefused) {
  EXPECT_THAT(Error(""), HasSubstr("no key"));
  EXPECT_THAT(Error("# nobody\n"), HasSubstr("no key"));
}

TEST(KeyFileTest, RefusesMoreKeysThanItComparesQuickly) {
  std::string text;
  for (size_t i = 0; i <= kMaxKeys; ++i) {
    std::string digest = absl::StrCat(i);
    digest.insert(0, 64 - digest.size(), '0');
    absl::StrAppend(&text, "k", i, " infer sha256:", digest, "\n");
  }
  EXPECT_THAT(Error(text), HasSubstr("at most 1024"));
}

TEST(KeyFileTest, HostileBytesAreErrorsThatCanBeShown) {
  const std::string error =
      Error(absl::string_view("\x1b[2J\0\xff infer x\n", 15));
  EXPECT_THAT(error, HasSubstr("line 1"));
  EXPECT_THAT(error, Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace pot
