// Downloads from a hub in memory that misbehaves.
#include "engine/hub/model_download.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/hub/hub_cache.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/hub/fake_hub.h"

namespace pot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr char kWeights[] = "model.safetensors";
constexpr char kToken[] = "hf_TheSecret";

class ModelDownloadTest : public testing::Test {
 protected:
  ModelDownloadTest() {
    directory_ = testing::TempDir() + "/pot_hub.XXXXXX";
    EXPECT_NE(mkdtemp(directory_.data()), nullptr);
    settings_.endpoint = kFakeHubUrl;
    settings_.cache = directory_ + "/hub";
    settings_.token = kToken;
    hub_.files = {{"config.json", R"({"model_type": "gpt2"})"},
                  {"vocab.json", "{}"},
                  {"merges.txt", "#version"},
                  {"README.md", "text"},
                  {kWeights, std::string(3 << 20, 'w') + "end"}};
    hub_.large = {kWeights};
    hooks_.sleep = [this](absl::Duration d) { sleeps_.push_back(d); };
    hooks_.note = [this](const std::string& line) { notes_ += line + "\n"; };
  }
  ~ModelDownloadTest() override { std::filesystem::remove_all(directory_); }

  absl::StatusOr<HubModel> Load(const std::string& id = "hf:owner/tiny") {
    absl::StatusOr<HubModel> model =
        DownloadHubModel(ParseHubId(id).value(), settings_, hooks_, &hub_);
    // Whatever happens, no message has the token or a signature.
    EXPECT_THAT(model.status().ToString() + notes_,
                Not(HasSubstr("TheSecret")));
    EXPECT_THAT(model.status().ToString() + notes_,
                Not(HasSubstr("signature")));
    return model;
  }
  std::string Message() { return std::string(Load().status().message()); }
  std::string Blob(const std::string& file) const {
    return HubCache(settings_.cache, ParseHubId("hf:owner/tiny").value())
        .BlobPath(FakeDigest(hub_.files.at(file), hub_.large.count(file) != 0));
  }
  void ExpectWhole(const HubModel& model) {
    for (const std::string& file : model.files) {
      EXPECT_EQ(ReadFile(model.directory + "/" + file, 8 << 20).value(),
                hub_.files[file])
          << file;
    }
  }
  static FakeHub::Fault Status(int status, const std::string& code = "") {
    return {.status = status, .headers = {{"x-error-code", code}}};
  }

  std::string directory_;
  HubSettings settings_;
  HubHooks hooks_;
  FakeHub hub_;
  std::vector<absl::Duration> sleeps_;
  std::string notes_;
};

TEST_F(ModelDownloadTest, TakesWhatIsNeededAndKeepsTheTokenAtHome) {
  const HubModel model = Load().value();
  EXPECT_EQ(model.directory,
            settings_.cache + "/models--owner--tiny/snapshots/" + kFakeCommit);
  EXPECT_THAT(model.files,
              ElementsAre("config.json", "vocab.json", "merges.txt", kWeights));
  EXPECT_GT(model.modified_unix_seconds, 1'700'000'000);
  ExpectWhole(model);
  EXPECT_EQ(
      ReadFile(settings_.cache + "/models--owner--tiny/refs/main", 100).value(),
      kFakeCommit);
  bool cdn = false;
  for (const HttpRequest& request : hub_.requests) {
    const bool home = absl::StartsWith(request.url, kFakeHubUrl);
    EXPECT_EQ(request.token, home ? kToken : "") << request.url;
    cdn = cdn || !home;
  }
  EXPECT_TRUE(cdn);
  EXPECT_THAT(hub_.Gets("README"), IsEmpty());
  // A second time nothing is downloaded, and a commit is not even asked for.
  hub_.requests.clear();
  EXPECT_TRUE(Load().ok());
  EXPECT_THAT(hub_.requests, SizeIs(1));
  EXPECT_TRUE(Load(absl::StrCat("hf:owner/tiny@", kFakeCommit)).ok());
  EXPECT_THAT(hub_.requests, SizeIs(1));
  settings_.offline = true;
  EXPECT_TRUE(Load().ok());
  EXPECT_THAT(hub_.requests, SizeIs(1));
  EXPECT_TRUE(absl::IsNotFound(Load("hf:owner/tiny@dev").status()));
  EXPECT_TRUE(absl::IsNotFound(Load("hf:owner/other").status()));
}

TEST_F(ModelDownloadTest, GoesOnWhereAConnectionBroke) {
  hub_.faults[kWeights] = {{.cut_after = 100},
                           {.cut_after = 0},
                           {.cut_after = 2 << 20},
                           {.refuse_connection = true}};
  ExpectWhole(Load().value());
  std::vector<int64_t> offsets;
  for (const HttpRequest& request : hub_.Gets("cdn.test")) {
    offsets.push_back(request.offset);
  }
  EXPECT_THAT(offsets,
              ElementsAre(0, 100, 100, (2 << 20) + 100, (2 << 20) + 100));
  // Waits grow, and begin anew after progress.
  EXPECT_THAT(sleeps_,
              ElementsAre(absl::Milliseconds(250), absl::Milliseconds(500),
                          absl::Milliseconds(250), absl::Milliseconds(500)));
  EXPECT_THAT(notes_, HasSubstr("again in"));
}

TEST_F(ModelDownloadTest, GoesOnAfterAProcessThatDied) {
  hub_.faults[kWeights] = std::deque<FakeHub::Fault>(5, {.cut_after = 1000});
  const absl::Status status = Load().status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("5 attempts"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("goes on"));
  EXPECT_FALSE(std::filesystem::exists(Blob(kWeights)));
  EXPECT_EQ(std::filesystem::file_size(Blob(kWeights) + ".incomplete"), 5000u);
  hub_.requests.clear();
  ExpectWhole(Load().value());
  EXPECT_EQ(hub_.Gets("cdn.test").at(0).offset, 5000);
}

TEST_F(ModelDownloadTest, BeginsAnewWhenTheRestDoesNotFit) {
  // A crash left a hole.
  std::filesystem::create_directories(
      std::filesystem::path(Blob(kWeights)).parent_path());
  std::ofstream(Blob(kWeights) + ".incomplete") << std::string(500, '\0');
  ExpectWhole(Load().value());
  EXPECT_THAT(hub_.Gets("cdn.test"), SizeIs(2));
  // Longer than the file, and a hub that knows no ranges.
  std::filesystem::remove(Blob(kWeights));
  std::ofstream(Blob(kWeights) + ".incomplete") << std::string(4 << 20, 'x');
  ExpectWhole(Load().value());
  std::filesystem::remove(Blob(kWeights));
  std::ofstream(Blob(kWeights) + ".incomplete") << "www";
  hub_.faults[kWeights] = {
      {.headers = {{"content-range", "bytes 0-3145730/3145731"}}}};
  ExpectWhole(Load().value());
}

TEST_F(ModelDownloadTest, WrongContentIsNeverPublished) {
  hub_.faults[kWeights] = {{.body = std::string((3 << 20) + 3, 'x')}};
  const absl::Status status = Load().status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_FALSE(std::filesystem::exists(Blob(kWeights)));
  EXPECT_EQ(std::filesystem::file_size(Blob(kWeights) + ".incomplete"), 0u);
  EXPECT_TRUE(Load().ok());
  // Nor is what was damaged in the cache believed.
  std::ofstream(Blob(kWeights)) << "damaged";
  ExpectWhole(Load().value());
}

TEST_F(ModelDownloadTest, SizesMustAgree) {
  hub_.faults[kWeights] = {{.body = std::string(4 << 20, 'w')}};
  EXPECT_TRUE(absl::IsDataLoss(Load().status()));
  // No length is announced, and it does not end.
  hub_.faults[kWeights] = {
      {.headers = {{"content-length", ""}}, .body = std::string(4 << 20, 'w')}};
  EXPECT_TRUE(absl::IsDataLoss(Load().status()));
  EXPECT_FALSE(std::filesystem::exists(Blob(kWeights)));
}

TEST_F(ModelDownloadTest, WaitsAsLongAsTheHubAsks) {
  hub_.faults[""] = {{.status = 429, .headers = {{"retry-after", "7"}}},
                     {.status = 503}};
  EXPECT_TRUE(Load().ok());
  EXPECT_THAT(sleeps_, ElementsAre(absl::Seconds(7), absl::Milliseconds(500)));
  hub_.faults[""] = {{.status = 429, .headers = {{"retry-after", "3600"}}}};
  sleeps_.clear();
  const absl::Status status = Load().status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("wait 1h"));
  EXPECT_THAT(sleeps_, IsEmpty());
  hub_.faults[""] = std::deque<FakeHub::Fault>(9, Status(502));
  EXPECT_TRUE(absl::IsUnavailable(Load().status()));
  EXPECT_THAT(sleeps_, SizeIs(4));
}

TEST_F(ModelDownloadTest, SaysWhatToDo) {
  hub_.faults[""] = {Status(401)};
  EXPECT_THAT(Message(), HasSubstr("refuses the token"));
  hub_.faults[""] = {Status(401, "RepoNotFound")};
  EXPECT_THAT(Message(), HasSubstr("check the name"));
  hub_.faults[""] = {Status(403, "GatedRepo")};
  EXPECT_THAT(Message(), HasSubstr("accept its terms at https://hub.test/"));
  hub_.faults[""] = {Status(404, "RevisionNotFound")};
  EXPECT_THAT(Message(), HasSubstr("no revision \"main\""));
  hub_.faults["config.json"] = {Status(404, "EntryNotFound")};
  EXPECT_THAT(Message(), HasSubstr("no file \"config.json\""));
  hub_.faults[""] = {Status(418)};
  EXPECT_THAT(Message(), HasSubstr("HF_ENDPOINT"));
  settings_.token.clear();
  hub_.faults[""] = {Status(401)};
  const absl::Status status = Load().status();
  EXPECT_TRUE(absl::IsUnauthenticated(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("set HF_TOKEN"));
}

TEST_F(ModelDownloadTest, RedirectsStayWhereTheyMay) {
  const auto redirect = [](const std::string& to) {
    return FakeHub::Fault{.status = 302, .headers = {{"location", to}}};
  };
  for (const char* const to :
       {"http://cdn.test/x", "http://127.0.0.1:80/", "file:///etc/passwd",
        "https://user@hub.test/x"}) {
    hub_.faults[""] = {redirect(to)};
    hub_.requests.clear();
    EXPECT_FALSE(Load().ok()) << to;
    EXPECT_THAT(hub_.requests, SizeIs(1)) << to;
  }
  const std::string home =
      absl::StrCat(kFakeHubUrl, "/api/models/owner/tiny/revision/main");
  hub_.faults[""] = std::deque<FakeHub::Fault>(20, redirect(home));
  EXPECT_THAT(Message(), HasSubstr("redirects more than 10 times"));
  hub_.faults.clear();
  settings_.allowed_hosts = HostList::Parse("hub.test").value();
  hub_.requests.clear();
  const absl::Status status = Load().status();
  EXPECT_TRUE(absl::IsPermissionDenied(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("cdn.test"));
  EXPECT_THAT(hub_.Gets("cdn.test"), IsEmpty());
  settings_.allowed_hosts = HostList::Parse("hub.test,cdn.test").value();
  EXPECT_TRUE(Load().ok());
}

TEST_F(ModelDownloadTest, RefusesWhatCannotBeServed) {
  // A commit never changes, so each needs a cache of its own.
  const auto message = [this] {
    settings_.cache += "+";
    return Message();
  };
  hub_.files["config.json"] = R"({"model_type": "llama"})";
  EXPECT_THAT(message(), HasSubstr("\"llama\""));
  EXPECT_THAT(hub_.Gets("cdn.test"), IsEmpty());
  hub_.files["config.json"] = std::string((1 << 20) + 1, ' ');
  EXPECT_THAT(message(), HasSubstr("the limit is 1048576"));
  hub_.files["config.json"] = "{}";
  hub_.files.erase(kWeights);
  hub_.files["pytorch_model.bin"] = "x";
  EXPECT_THAT(message(), HasSubstr("\"pytorch_model.bin\""));
  hub_.files["model.safetensors.index.json"] =
      R"({"weight_map": {"a": "../../../x.safetensors"}})";
  EXPECT_THAT(message(), HasSubstr("plain name"));
  hub_.files.erase("merges.txt");
  EXPECT_THAT(message(), HasSubstr("tokenizer.json"));
}

TEST_F(ModelDownloadTest, TakesShards) {
  hub_.files.erase(kWeights);
  hub_.files["model.safetensors.index.json"] =
      R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})";
  hub_.files["one.safetensors"] = "1";
  hub_.files["two.safetensors"] = "22";
  hub_.large = {"one.safetensors", "two.safetensors"};
  int64_t reserved = 0;
  int64_t last = 0, total = 0;
  hooks_.reserve = [&](int64_t bytes) {
    reserved = bytes;
    return absl::OkStatus();
  };
  hooks_.progress = [&](int64_t done, int64_t all, absl::string_view) {
    last = done;
    total = all;
    return true;
  };
  const HubModel model = Load().value();
  EXPECT_THAT(model.files,
              ElementsAre("config.json", "vocab.json", "merges.txt",
                          "model.safetensors.index.json", "one.safetensors",
                          "two.safetensors"));
  ExpectWhole(model);
  EXPECT_EQ(reserved, 3);
  hub_.files["two.safetensors"] = "333";
  hooks_.reserve = [](int64_t) { return absl::ResourceExhaustedError("full"); };
  EXPECT_TRUE(absl::IsResourceExhausted(DownloadHubModel(
                                            ParseHubId("hf:owner/tiny").value(),
                                            [this] {
                                              HubSettings other = settings_;
                                              other.cache += "2";
                                              return other;
                                            }(),
                                            hooks_, &hub_)
                                            .status()));
  EXPECT_LE(last, total == 0 ? last : total);
}

}  // namespace
}  // namespace pot
