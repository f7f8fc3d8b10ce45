// Ids, URLs and settings: what decides where a request may go.
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/hub/hub_id.h"
#include "engine/hub/hub_settings.h"
#include "engine/hub/hub_transfer.h"
#include "engine/hub/model_listing.h"
#include "engine/hub/url.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(HubIdTest, ParsesWhatTheHubNames) {
  const HubId id = ParseHubId("hf:openai-community/gpt2@refs/pr/1").value();
  EXPECT_EQ(id.repo, "openai-community/gpt2");
  EXPECT_EQ(id.revision, "refs/pr/1");
  EXPECT_EQ(id.name(), "gpt2");
  EXPECT_EQ(id.cache_name(), "models--openai-community--gpt2");
  EXPECT_EQ(ParseHubId("hf:gpt2").value().text(), "hf:gpt2@main");
}

TEST(HubIdTest, RefusesWhatCouldLeaveTheCache) {
  for (const char* const text :
       {"hf:", "hf:a/b/c", "hf:../x", "hf:a/..", "hf:a/.b", "hf:a//b", "hf:/b",
        "hf:a b/c", "hf:a/b@", "hf:a/b@..", "hf:a/b@x/../y", "hf:a/b@/x",
        "hf:a/b@x\ny", "hf:a--b/c", "hf:a/b?x=1", "a/b"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseHubId(text).status())) << text;
  }
}

TEST(UrlTest, ParsesAsItWillBeContacted) {
  const Url url = ParseUrl("HTTPS://Hub.Example/a/../b?sig=1#part").value();
  EXPECT_EQ(url.scheme, "https");
  EXPECT_EQ(url.host, "hub.example");
  EXPECT_EQ(url.port, 443);
  EXPECT_THAT(url.shown(), Not(HasSubstr("sig")));
  EXPECT_EQ(ResolveUrl(url, "/x?y=1").value().text,
            "https://Hub.Example/x?y=1");
  EXPECT_EQ(ResolveUrl(url, "https://cdn.example:8443/z").value().port, 8443);
  for (const char* const text :
       {"", "hub", "file:///etc/passwd", "ftp://x/y", "https://user@x/",
        "https://user:word@x/", "gopher://x", "https://", "https://x\r\ny/"}) {
    EXPECT_FALSE(ParseUrl(text).ok()) << text;
  }
  EXPECT_FALSE(ResolveUrl(url, "https://user@x/").ok());
  EXPECT_FALSE(ResolveUrl(url, "file:///etc/passwd").ok());
}

TEST(UrlTest, LoopbackIsNoMatterOfNames) {
  for (const char* const text : {"http://localhost/", "http://127.0.0.1:80/",
                                 "http://127.9.9.9/", "http://[::1]:8080/"}) {
    EXPECT_TRUE(ParseUrl(text).value().IsLoopback()) << text;
  }
  for (const char* const text :
       {"http://127.example.com/", "http://localhost.example/",
        "http://10.0.0.1/", "http://[::2]/", "http://169.254.169.254/"}) {
    EXPECT_FALSE(ParseUrl(text).value().IsLoopback()) << text;
  }
}

TEST(UrlTest, EscapesParts) {
  EXPECT_EQ(EscapeUrlPart("refs/pr/1 ?#%.."), "refs%2Fpr%2F1%20%3F%23%25..");
}

TEST(HostListTest, AllowsWhatIsListed) {
  const HostList list =
      HostList::Parse("hub.test, *.cdn.test,127.0.0.1:8080,[::1]:9").value();
  const auto allows = [&](const char* url) {
    return list.Allows(ParseUrl(url).value());
  };
  EXPECT_TRUE(allows("https://hub.test/x"));
  EXPECT_TRUE(allows("https://HUB.test:443/x"));
  EXPECT_TRUE(allows("https://a.b.cdn.test/"));
  EXPECT_TRUE(allows("http://127.0.0.1:8080/"));
  EXPECT_TRUE(allows("http://[::1]:9/"));
  EXPECT_FALSE(allows("https://hub.test:8443/"));
  EXPECT_FALSE(allows("https://evil-cdn.test/"));
  EXPECT_FALSE(allows("https://cdn.test/"));
  EXPECT_FALSE(allows("https://hub.test.evil/"));
  EXPECT_FALSE(allows("http://127.0.0.1/"));
  EXPECT_FALSE(allows("http://127.0.0.1:8081/"));
  EXPECT_FALSE(HostList().Allows(ParseUrl("https://hub.test").value()));
  for (const char* const text :
       {"*", "https://hub.test", "hub.test/x", "hub.test:0", "hub.test:99999",
        "*.", "[::1", "a b"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(HostList::Parse(text).status()))
        << text;
  }
}

absl::StatusOr<HubSettings> FromVariables(
    std::map<std::string, std::string> variables) {
  return HubSettingsFromEnvironment([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

TEST(HubSettingsTest, FollowsTheVariablesOfTheHubsTools) {
  HubSettings settings = FromVariables({{"HOME", "/nowhere"}}).value();
  EXPECT_EQ(settings.endpoint, "https://huggingface.co");
  EXPECT_EQ(settings.cache, "/nowhere/.cache/huggingface/hub");
  EXPECT_EQ(settings.token, "");
  EXPECT_FALSE(settings.offline);
  settings = FromVariables({{"HF_HOME", "/h"},
                            {"HF_ENDPOINT", "https://mirror.test/"},
                            {"HF_TOKEN", " hf_abc\n"},
                            {"HF_HUB_OFFLINE", "yes"},
                            {"HF_HUB_DOWNLOAD_TIMEOUT", "7"},
                            {"SSL_CERT_FILE", "/ca.pem"}})
                 .value();
  EXPECT_EQ(settings.endpoint, "https://mirror.test");
  EXPECT_EQ(settings.cache, "/h/hub");
  EXPECT_EQ(settings.token, "hf_abc");
  EXPECT_TRUE(settings.offline);
  EXPECT_EQ(settings.stall_timeout, absl::Seconds(7));
  EXPECT_EQ(settings.ca_file, "/ca.pem");
  EXPECT_EQ(
      FromVariables({{"HF_HUB_CACHE", "/c"}, {"HF_HOME", "/h"}}).value().cache,
      "/c");
}

TEST(HubSettingsTest, NeverShowsATokenThatIsWrong) {
  const absl::Status status =
      FromVariables({{"HF_TOKEN", "hf_se\ncret"}}).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("HF_TOKEN"));
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("cret")));
}

TEST(HubSettingsTest, HttpIsForThisMachineAlone) {
  HubSettings settings;
  EXPECT_TRUE(HubEndpoint(settings).ok());
  settings.endpoint = "http://127.0.0.1:8080";
  const Url loopback = HubEndpoint(settings).value();
  settings.endpoint = "http://mirror.test";
  EXPECT_TRUE(absl::IsPermissionDenied(HubEndpoint(settings).status()));
  const Url away = ParseUrl("https://hub.test").value();
  const Url inside = ParseUrl("http://127.0.0.1:9/").value();
  EXPECT_TRUE(CheckHubUrl(settings, loopback, inside).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(CheckHubUrl(settings, away, inside)));
  settings.allowed_hosts = HostList::Parse("hub.test").value();
  EXPECT_TRUE(CheckHubUrl(settings, away, away).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(
      CheckHubUrl(settings, away, ParseUrl("https://cdn.test").value())));
}

TEST(RetryAfterTest, SecondsAndDates) {
  absl::Time now;
  ASSERT_TRUE(absl::ParseTime(absl::RFC3339_full, "2015-10-21T07:28:00Z", &now,
                              nullptr));
  EXPECT_EQ(ParseRetryAfter("17", now), absl::Seconds(17));
  EXPECT_EQ(ParseRetryAfter("Wed, 21 Oct 2015 07:28:30 GMT", now),
            absl::Seconds(30));
  EXPECT_EQ(ParseRetryAfter("Wed, 21 Oct 2015 07:27:30 GMT", now),
            absl::ZeroDuration());
  EXPECT_EQ(ParseRetryAfter("-5", now), absl::ZeroDuration());
  EXPECT_EQ(ParseRetryAfter("soon", now), absl::ZeroDuration());
}

TEST(ModelListingTest, RefusesWhatIsNone) {
  for (
      const char* const text :
      {"", "<html>", "[]", R"({"sha":"../../x","siblings":[]})",
       R"({"sha":"0123456789abcdef0123456789abcdef01234567"})",
       R"({"sha":"0123456789abcdef0123456789abcdef01234567","siblings":[1]})"}) {
    EXPECT_TRUE(absl::IsFailedPrecondition(ParseModelListing(text).status()))
        << text;
  }
}

TEST(ModelListingTest, ShardsArePlainNames) {
  EXPECT_THAT(
      ParseShards(R"({"weight_map":{"a":"y.safetensors","b":"x.safetensors",
                   "c":"y.safetensors"}})")
          .value(),
      ::testing::ElementsAre("x.safetensors", "y.safetensors"));
  for (const char* const shard :
       {"../x.safetensors", "/x.safetensors", "a/x.safetensors",
        ".x.safetensors", "x.bin", "x\\\\y.safetensors", "?.safetensors"}) {
    const std::string index =
        absl::StrCat(R"({"weight_map":{"a":")", shard, "\"}}");
    EXPECT_TRUE(absl::IsInvalidArgument(ParseShards(index).status())) << shard;
  }
}

}  // namespace
}  // namespace pot
