#include "server/security/access_control.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kCi[] = "Bearer ci-token";
constexpr char kOps[] = "Bearer ops-token";

ApiKey Key(const std::string& name, ScopeSet scopes, QuotaLimits quota = {}) {
  return {name, scopes, DigestOfToken(name + "-token"), quota};
}

std::vector<ApiKey> Keys() {
  return {Key("ci", ScopesOf(Scope::kInfer)),
          Key("ops", ScopesOf(Scope::kAdmin))};
}

// "UNAUTHENTICATED NO_TOKEN".
template <typename T>
std::string Refusal(const absl::StatusOr<T>& result) {
  const ErrorDetails details =
      GetDetails(result.status()).value_or(ErrorDetails());
  return absl::StrCat(absl::StatusCodeToString(result.status().code()), " ",
                      details.reason);
}

class AccessControlTest : public testing::Test {
 protected:
  AccessControl Make(const std::vector<ApiKey>& keys) {
    return AccessControl(keys, [this] { return now_; });
  }

  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
};

TEST_F(AccessControlTest, ATokenIsItsKeys) {
  AccessControl access = Make(Keys());
  const auto admitted = access.Admit("Generate", kCi);
  ASSERT_TRUE(admitted.ok()) << admitted.status();
  EXPECT_EQ((*admitted)->caller(), "ci");
  // RFC 7235: the scheme's case does not matter.
  EXPECT_TRUE(access.Admit("Generate", "bearer ci-token").ok());
  EXPECT_TRUE(access.Admit("Generate", "Bearer   ci-token ").ok());
}

TEST_F(AccessControlTest, WithoutAValidTokenNothingIsSaid) {
  AccessControl access = Make(Keys());
  EXPECT_EQ(Refusal(access.Admit("Generate", "")), "UNAUTHENTICATED NO_TOKEN");
  std::string wrong_message;
  for (const std::string& wrong :
       {std::string("Bearer "), std::string("Bearer"),
        std::string("Bearer ci-toke"), std::string("Bearer ci-token2"),
        std::string("Basic ci-token"), std::string("ci-token"),
        std::string("Bearer ci-token, Bearer ci-token"),
        std::string("Bearer \0", 8), std::string("Bearer \xff\xfe"),
        "Bearer " + std::string(100000, 'x'),
        // The digest is no token.
        std::string("Bearer sha256:0000")}) {
    const auto refused = access.Admit("Generate", wrong);
    EXPECT_EQ(Refusal(refused), "UNAUTHENTICATED BAD_TOKEN") << wrong;
    // Neither the scope nor the method matters, nor how wrong it is.
    EXPECT_EQ(access.Admit("NoSuchMethod", wrong).status(), refused.status());
    if (wrong_message.empty()) {
      wrong_message = std::string(refused.status().message());
    }
    EXPECT_EQ(refused.status().message(), wrong_message);
  }
  EXPECT_THAT(wrong_message, Not(HasSubstr("ci")));
}

TEST_F(AccessControlTest, AMissingScopeIsNamedAndNothingElse) {
  AccessControl access = Make(Keys());
  const auto refused = access.Admit("SetAlias", kCi);
  EXPECT_EQ(Refusal(refused), "PERMISSION_DENIED MISSING_SCOPE");
  EXPECT_EQ(GetDetails(refused.status())->metadata.at("limit"), "admin");
  EXPECT_THAT(std::string(refused.status().message()), Not(HasSubstr("ci")));
  EXPECT_EQ(Refusal(access.Admit("Generate", kOps)),
            "PERMISSION_DENIED MISSING_SCOPE");
  EXPECT_EQ(GetDetails(access.Admit("ListAliasHistory", kCi).status())
                ->metadata.at("limit"),
            "admin or train");
  EXPECT_TRUE(access.CheckScopes(kOps, ScopesOf(Scope::kAdmin)).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(
      access.CheckScopes(kCi, ScopesOf(Scope::kAdmin))));
  EXPECT_TRUE(
      absl::IsUnauthenticated(access.CheckScopes("", ScopesOf(Scope::kAdmin))));
}

TEST_F(AccessControlTest, NoKeyMayCallAMethodThatIsNotInTheTable) {
  AccessControl access = Make({Key("all", 0xFF)});
  EXPECT_TRUE(access.Admit("Generate", "Bearer all-token").ok());
  EXPECT_EQ(Refusal(access.Admit("NoSuchMethod", "Bearer all-token")),
            "PERMISSION_DENIED MISSING_SCOPE");
}

TEST_F(AccessControlTest, AnAdmissionHoldsItsPlaceAndPaysItsTokens) {
  QuotaLimits quota;
  quota.concurrent_calls = 1;
  quota.tokens_per_second = 10;
  quota.token_burst = 10;
  AccessControl access = Make({Key("ci", ScopesOf(Scope::kInfer), quota)});
  {
    const auto first = access.Admit("Generate", kCi);
    ASSERT_TRUE(first.ok());
    EXPECT_EQ(Refusal(access.Admit("Generate", kCi)),
              "RESOURCE_EXHAUSTED QUOTA_EXCEEDED");
    (*first)->set_tokens(29);
  }
  EXPECT_EQ(Refusal(access.Admit("Generate", kCi)),
            "RESOURCE_EXHAUSTED QUOTA_EXCEEDED");
  now_ += absl::Seconds(2);
  EXPECT_TRUE(access.Admit("Generate", kCi).ok());
}

TEST_F(AccessControlTest, AWrongScopeCostsNoQuota) {
  QuotaLimits quota;
  quota.requests_per_second = 1;
  AccessControl access = Make({Key("ci", ScopesOf(Scope::kInfer), quota)});
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(access.Admit("SetAlias", kCi).ok());
  EXPECT_TRUE(access.Admit("Generate", kCi).ok());
}

TEST_F(AccessControlTest, OtherKeysHoldAtOnceAndQuotasGoOn) {
  QuotaLimits quota;
  quota.requests_per_second = 1;
  AccessControl access = Make({Key("ci", ScopesOf(Scope::kInfer), quota),
                               Key("ops", ScopesOf(Scope::kAdmin))});
  const auto running = access.Admit("Generate", kCi);
  ASSERT_TRUE(running.ok());
  access.SetKeys({Key("ci", ScopesOf(Scope::kInfer), quota)});
  EXPECT_EQ(Refusal(access.Admit("SetAlias", kOps)),
            "UNAUTHENTICATED BAD_TOKEN");
  // A rewritten file is no way to a fresh quota.
  EXPECT_EQ(Refusal(access.Admit("Generate", kCi)),
            "RESOURCE_EXHAUSTED QUOTA_EXCEEDED");
  now_ += absl::Seconds(1);
  EXPECT_TRUE(access.Admit("Generate", kCi).ok());
  EXPECT_EQ((*running)->caller(), "ci");
}

TEST_F(AccessControlTest, KeysMayChangeWhileCallsCome) {
  AccessControl access = Make(Keys());
  std::atomic<bool> stop = false;
  std::atomic<int> admitted = 0;
  std::thread caller([&] {
    while (!stop) {
      const auto call = access.Admit("Generate", kCi);
      EXPECT_TRUE(call.ok()) << call.status();
      ++admitted;
    }
  });
  for (int i = 0; i < 200 || admitted < 10; ++i) access.SetKeys(Keys());
  stop = true;
  caller.join();
}

}  // namespace
}  // namespace pot
