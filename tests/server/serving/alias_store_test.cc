#include "server/serving/alias_store.h"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/serving/alias_record.h"
#include "test_paths.h"
#include "tests/server/serving/repository_testing.h"

namespace pot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

class AliasStoreTest : public testing::Test {
 protected:
  AliasStoreTest() { std::filesystem::create_directory(directory_.File("m")); }

  std::string Path() const { return directory_.File("m/aliases.jsonl"); }

  std::string Text() const {
    std::ifstream file(Path());
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }

  void Write(const std::string& text) const { std::ofstream(Path()) << text; }

  static AliasChange Change(const std::string& alias, int64_t to) {
    AliasChange change;
    change.model = "m";
    change.alias = alias;
    change.to_version = to;
    change.actor = "tester";
    change.comment = "because";
    change.time = absl::FromUnixSeconds(1700000000);
    return change;
  }

  TempDirectory directory_;
};

TEST_F(AliasStoreTest, ChangesAreAppliedNumberedAndRemembered) {
  AliasStore store(directory_.path());
  const auto first = store.Apply(Change("default", 1), 0);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->sequence, 1);
  EXPECT_EQ(first->from_version, 0);
  const auto second = store.Apply(Change("default", 2), 1);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->sequence, 2);
  EXPECT_EQ(second->from_version, 1);
  ASSERT_TRUE(store.Apply(Change("canary", 3), std::nullopt).ok());

  // Another store reads the same from disk.
  AliasStore again(directory_.path());
  const auto aliases = again.Aliases("m");
  ASSERT_TRUE(aliases.ok()) << aliases.status();
  EXPECT_THAT(*aliases, ElementsAre(Pair("canary", 3), Pair("default", 2)));
  const auto history = again.History("m", "default", 10);
  ASSERT_TRUE(history.ok());
  ASSERT_EQ(history->size(), 2);
  EXPECT_EQ((*history)[0].to_version, 2);
  EXPECT_EQ((*history)[1].comment, "because");
  EXPECT_EQ((*history)[1].actor, "tester");
  EXPECT_EQ((*history)[1].time, absl::FromUnixSeconds(1700000000));
  EXPECT_EQ(again.History("m", "", 1)->front().alias, "canary");
}

TEST_F(AliasStoreTest, WritesTheDocumentedLine) {
  AliasStore store(directory_.path());
  ASSERT_TRUE(store.Apply(Change("default", 2), std::nullopt).ok());
  EXPECT_EQ(Text(),
            "{\"sequence\":1,\"alias\":\"default\",\"from\":0,\"to\":2,"
            "\"cause\":\"SET\",\"actor\":\"tester\",\"comment\":\"because\","
            "\"time\":\"2023-11-14T22:13:20+00:00\"}\n");
}

TEST_F(AliasStoreTest, ReadsTheExampleOfTheDocument) {
  std::ifstream document(std::string(POT_SOURCE_DIR) +
                         "/server/serving/README.md");
  std::string line;
  while (std::getline(document, line) && line.rfind("{\"sequence\"", 0) != 0) {
  }
  ASSERT_FALSE(line.empty());
  Write(line + "\n");
  AliasStore store(directory_.path());
  const auto aliases = store.Aliases("m");
  ASSERT_TRUE(aliases.ok()) << aliases.status();
  EXPECT_THAT(*aliases, ElementsAre(Pair("default", 2)));
}

TEST_F(AliasStoreTest, CompareAndSwapNamesBothVersions) {
  AliasStore store(directory_.path());
  ASSERT_TRUE(store.Apply(Change("default", 1), std::nullopt).ok());
  const absl::Status status = store.Apply(Change("default", 3), 2).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(Reason(status), "ALIAS_MISMATCH");
  EXPECT_EQ(Metadata(status, "limit"), "2");
  EXPECT_EQ(Metadata(status, "value"), "1");
  EXPECT_THAT(*store.Aliases("m"), ElementsAre(Pair("default", 1)));
  EXPECT_EQ(store.Apply(Change("new", 1), 5).status().code(),
            absl::StatusCode::kAborted);
}

TEST_F(AliasStoreTest, RemovesAliases) {
  AliasStore store(directory_.path());
  ASSERT_TRUE(store.Apply(Change("default", 1), std::nullopt).ok());
  const auto removed = store.Apply(Change("default", 0), 1);
  ASSERT_TRUE(removed.ok());
  EXPECT_EQ(removed->from_version, 1);
  EXPECT_TRUE(store.Aliases("m")->empty());
  const absl::Status status =
      store.Apply(Change("default", 0), std::nullopt).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Reason(status), "ALIAS_NOT_FOUND");
}

TEST_F(AliasStoreTest, DropsALineThatACrashCutOff) {
  {
    AliasStore store(directory_.path());
    ASSERT_TRUE(store.Apply(Change("default", 1), std::nullopt).ok());
  }
  const std::string whole = Text();
  Write(whole + "{\"sequence\":2,\"alias\":\"defa");
  AliasStore store(directory_.path());
  EXPECT_THAT(*store.Aliases("m"), ElementsAre(Pair("default", 1)));
  ASSERT_TRUE(store.Apply(Change("default", 2), 1).ok());
  EXPECT_EQ(Text().substr(0, whole.size()), whole);
  EXPECT_THAT(*AliasStore(directory_.path()).Aliases("m"),
              ElementsAre(Pair("default", 2)));
}

TEST_F(AliasStoreTest, RefusesWhatItWouldNotWrite) {
  const std::string good = AliasChangeToJson([] {
    AliasChange change = Change("default", 1);
    change.sequence = 1;
    return change;
  }());
  const std::pair<std::string, std::string> edits[] = {
      {"\"sequence\":1", "\"sequence\":2"},
      {"\"sequence\":1", "\"sequence\":-1"},
      {"\"sequence\":1", "\"sequence\":\"1\""},
      {"\"to\":1", "\"to\":1e30"},
      {"\"to\":1", "\"to\":18446744073709551615"},
      {"\"alias\":\"default\"", "\"alias\":\"../x\""},
      {"\"alias\":\"default\"", "\"alias\":\"12\""},
      {"\"SET\"", "\"WISH\""},
      {"\"2023-", "\"long ago "},
      {"{", "["},
  };
  for (const auto& [from, to] : edits) {
    std::string line = good;
    const size_t at = line.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    line.replace(at, from.size(), to);
    Write(line + "\n");
    AliasStore store(directory_.path());
    const absl::Status status = store.Aliases("m").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << line;
    EXPECT_THAT(std::string(status.message()), HasSubstr("line 1")) << line;
    // Nothing is appended to a file that cannot be read.
    EXPECT_FALSE(store.Apply(Change("default", 2), std::nullopt).ok());
    EXPECT_EQ(Text(), line + "\n");
  }
}

TEST_F(AliasStoreTest, ThreadsNeverShareASequenceNumber) {
  AliasStore store(directory_.path());
  constexpr int kThreads = 4;
  constexpr int kChanges = 10;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kChanges; ++i) {
        EXPECT_TRUE(store.Apply(Change(absl::StrCat("a", t), i + 1), i).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const auto history = AliasStore(directory_.path()).History("m", "", 1000);
  ASSERT_TRUE(history.ok()) << history.status();
  ASSERT_EQ(history->size(), kThreads * kChanges);
  EXPECT_EQ(history->front().sequence, kThreads * kChanges);
}

TEST(ValidateAliasTest, AcceptsNamesAndRefusesTheRest) {
  for (const std::string good : {"default", "v1", "1a", "A.b_c-d"}) {
    EXPECT_TRUE(ValidateAlias(good).ok()) << good;
  }
  for (const std::string bad :
       {"", "1", "123", ".x", "-x", "a/b", "..", "a b", "\xff", "a\n"}) {
    EXPECT_FALSE(ValidateAlias(bad).ok()) << bad;
  }
  EXPECT_TRUE(ValidateAlias(std::string(64, 'a')).ok());
  EXPECT_FALSE(ValidateAlias(std::string(65, 'a')).ok());
}

}  // namespace
}  // namespace pot
