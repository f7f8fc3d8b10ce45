#include "engine/checkpoint/version_store.h"

#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <set>
#include <string>
#include <system_error>
#include <thread>

#include "engine/base/utf8.h"
#include "engine/checkpoint/manifest.h"
#include "tests/engine/checkpoint/checkpoint_test_util.h"

namespace {

// fsync() of this directory fails.
std::string* FailingDirectory() {
  static std::string path;
  return &path;
}

}  // namespace

// Stands before the C library's.
extern "C" int fsync(int fd) {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::read_symlink(
      "/proc/self/fd/" + std::to_string(fd), error);
  if (!error && !FailingDirectory()->empty() &&
      path.string() == *FailingDirectory()) {
    errno = EIO;
    return -1;
  }
  return static_cast<int>(syscall(SYS_fsync, fd));
}

namespace pot {
namespace {

using absl::StatusCode;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

class VersionStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    auto store = VersionStore::Open(root_.path());
    POT_ASSERT_OK(store);
    store_ = *std::move(store);
  }

  absl::StatusOr<int64_t> Publish(const std::string& model, int64_t version = 0,
                                  const std::string& content = "w") {
    auto staged = store_->Stage(model);
    if (!staged.ok()) return staged.status();
    WriteAll(staged->directory() + "/weights", content);
    return store_->Commit(*std::move(staged), version, "pot 0.1.0");
  }

  size_t NumStaged() { return NamesIn(root_ / ".staging").size(); }

  TempDirectory root_;
  std::unique_ptr<VersionStore> store_;
};

TEST_F(VersionStoreTest, OpenMakesTheRootAndItsParents) {
  const TempDirectory parent;
  const auto store = VersionStore::Open(parent / "a/b");
  POT_ASSERT_OK(store);
  EXPECT_TRUE(std::filesystem::is_directory(parent / "a/b"));
  EXPECT_THAT((*store)->ListModels().value(), IsEmpty());
  WriteAll(parent / "file", "");
  EXPECT_FALSE(VersionStore::Open(parent / "file").ok());
  EXPECT_FALSE(VersionStore::Open("").ok());
}

TEST_F(VersionStoreTest, AVersionThatCannotBeMadeDurableIsTakenBack) {
  EXPECT_EQ(Publish("m").value(), 1);
  for (const std::string& failing :
       {root_ / "m", std::filesystem::canonical(root_ / ".staging").string()}) {
    SCOPED_TRACE(failing);
    const int64_t next = store_->ListVersions("m").value().back() + 1;
    *FailingDirectory() = std::filesystem::canonical(failing).string();
    const auto version = Publish("m");
    FailingDirectory()->clear();
    ASSERT_FALSE(version.ok()) << *version;
    EXPECT_THAT(std::string(version.status().message()),
                testing::HasSubstr("could not be made durable"));
    EXPECT_THAT(store_->ListVersions("m").value(),
                testing::Not(testing::Contains(next)));
    EXPECT_EQ(NumStaged(), 0u);
    // Somebody may have seen the number.
    EXPECT_EQ(Publish("m").value(), next + 1);
  }
  EXPECT_THAT(store_->ListVersions("m").value(), ElementsAre(1, 3, 5));
}

TEST_F(VersionStoreTest, VersionsCountUp) {
  EXPECT_EQ(Publish("m").value(), 1);
  EXPECT_EQ(Publish("m").value(), 2);
  EXPECT_EQ(Publish("other").value(), 1);
  EXPECT_EQ(Publish("m", 10).value(), 10);
  EXPECT_EQ(Publish("m").value(), 11);
  EXPECT_THAT(store_->ListModels().value(), ElementsAre("m", "other"));
  EXPECT_THAT(store_->ListVersions("m").value(), ElementsAre(1, 2, 10, 11));
  EXPECT_THAT(store_->ListVersions("unknown").value(), IsEmpty());
  EXPECT_EQ(store_->VersionDirectory("m", 10), store_->root() + "/m/10");
}

TEST_F(VersionStoreTest, ACommittedVersionHasItsFilesAndManifest) {
  const int64_t version = Publish("m", 0, "the weights").value();
  const std::string directory = store_->VersionDirectory("m", version);
  EXPECT_EQ(ReadAll(directory + "/weights"), "the weights");
  const auto manifest = ReadManifest(directory);
  POT_ASSERT_OK(manifest);
  EXPECT_EQ(manifest->tool_version, "pot 0.1.0");
  POT_EXPECT_OK(VerifyManifest(directory, *manifest));
  EXPECT_EQ(NumStaged(), 0u);
}

TEST_F(VersionStoreTest, NothingIsVisibleBeforeCommit) {
  auto staged = store_->Stage("m");
  POT_ASSERT_OK(staged);
  WriteAll(staged->directory() + "/weights", "w");
  POT_ASSERT_OK(WriteManifest(staged->directory(), 1, "t"));
  EXPECT_THAT(store_->ListModels().value(), IsEmpty());
  EXPECT_THAT(store_->ListVersions("m").value(), IsEmpty());
  EXPECT_THAT(NamesIn(root_.path()),
              UnorderedElementsAre(".staging", ".trash"));
  POT_ASSERT_OK(store_->Commit(*std::move(staged), 0, "t"));
  EXPECT_THAT(store_->ListVersions("m").value(), ElementsAre(1));
}

TEST_F(VersionStoreTest, AnAbandonedStageVanishes) {
  {
    auto staged = store_->Stage("m");
    POT_ASSERT_OK(staged);
    WriteAll(staged->directory() + "/weights", "w");
    const StagedVersion moved = *std::move(staged);
    EXPECT_EQ(NumStaged(), 1u);
  }
  EXPECT_EQ(NumStaged(), 0u);
  EXPECT_THAT(store_->ListModels().value(), IsEmpty());
}

TEST_F(VersionStoreTest, AVersionIsNeverReplaced) {
  EXPECT_EQ(Publish("m", 3, "first").value(), 3);
  ExpectError(Publish("m", 3, "second"), StatusCode::kAlreadyExists,
              "model m already has version 3");
  EXPECT_EQ(ReadAll(store_->VersionDirectory("m", 3) + "/weights"), "first");
  EXPECT_EQ(NumStaged(), 0u);
}

TEST_F(VersionStoreTest, AnythingOfAVersionsNameCountsAsTaken) {
  EXPECT_EQ(Publish("m").value(), 1);
  WriteAll(root_ / "m/2", "a file");
  std::filesystem::create_symlink("nowhere", root_ / "m/3");
  EXPECT_EQ(Publish("m").value(), 4);
  EXPECT_THAT(store_->ListVersions("m").value(), ElementsAre(1, 4));
  EXPECT_EQ(ReadAll(root_ / "m/2"), "a file");
}

TEST_F(VersionStoreTest, FailedCommitsLeaveNothing) {
  auto empty = store_->Stage("m");
  POT_ASSERT_OK(empty);
  ExpectError(store_->Commit(*std::move(empty), 0, "t"),
              StatusCode::kInvalidArgument, "holds no file to publish");

  auto tampered = store_->Stage("m");
  POT_ASSERT_OK(tampered);
  WriteAll(tampered->directory() + "/weights", "w");
  POT_ASSERT_OK(WriteManifest(tampered->directory(), 1, "t"));
  WriteAll(tampered->directory() + "/weights", "v");
  ExpectError(store_->Commit(*std::move(tampered), 0, "t"),
              StatusCode::kDataLoss, "weights: SHA-256 is");

  ExpectError(Publish("m", -1), StatusCode::kInvalidArgument,
              "version -1 is not in [0, 999999999999999999]");
  ExpectError(Publish("m", 1000000000000000000), StatusCode::kInvalidArgument,
              "version 1000000000000000000 is not in");
  EXPECT_EQ(Publish("m", 999999999999999999).value(), 999999999999999999);
  ExpectError(Publish("m"), StatusCode::kInvalidArgument,
              "version 1000000000000000000 is not in");

  WriteAll(root_ / "file", "x");
  ExpectError(Publish("file"), StatusCode::kFailedPrecondition,
              "file exists and is not a directory");
  EXPECT_EQ(NumStaged(), 0u);
  EXPECT_THAT(store_->ListModels().value(), ElementsAre("m"));
}

TEST_F(VersionStoreTest, AMovedFromStageCannotBeCommitted) {
  auto staged = store_->Stage("m");
  POT_ASSERT_OK(staged);
  StagedVersion taken = *std::move(staged);
  ExpectError(store_->Commit(*std::move(staged), 0, "t"),
              StatusCode::kFailedPrecondition, "committed or moved from");
  WriteAll(taken.directory() + "/weights", "w");
  POT_EXPECT_OK(store_->Commit(std::move(taken), 0, "t"));
}

TEST_F(VersionStoreTest, DeleteRemovesOneVersionAndRetiresItsNumber) {
  ASSERT_EQ(Publish("m").value(), 1);
  ASSERT_EQ(Publish("m").value(), 2);
  POT_EXPECT_OK(store_->Delete("m", 2));
  EXPECT_THAT(store_->ListVersions("m").value(), ElementsAre(1));
  EXPECT_THAT(NamesIn(root_ / ".trash"), IsEmpty());
  ExpectError(store_->Delete("m", 2), StatusCode::kNotFound,
              "model m has no version 2");
  ExpectError(store_->Delete("m", 7), StatusCode::kNotFound, "no version 7");
  ExpectError(store_->Delete("n", 1), StatusCode::kNotFound, "no version 1");
  ExpectError(store_->Delete("m", 0), StatusCode::kInvalidArgument,
              "version 0 is not in [1, ");
  EXPECT_EQ(Publish("m").value(), 3);
  POT_EXPECT_OK(store_->Delete("m", 1));
  POT_EXPECT_OK(store_->Delete("m", 3));
  EXPECT_THAT(store_->ListModels().value(), IsEmpty());
  EXPECT_EQ(Publish("m").value(), 4);
}

TEST_F(VersionStoreTest, DeleteFollowsNoLink) {
  const TempDirectory outside;
  std::filesystem::create_directories(outside / "1");
  WriteAll(outside / "1/precious", "p");
  WriteAll(outside / "precious", "p");
  // A model that is a link, a version that is a link, a link in a version.
  std::filesystem::create_symlink(outside.path(), root_ / "linked");
  ExpectError(store_->Delete("linked", 1), StatusCode::kNotFound,
              "no version 1");
  ASSERT_EQ(Publish("m").value(), 1);
  std::filesystem::create_symlink(outside / "1", root_ / "m/2");
  ExpectError(store_->Delete("m", 2), StatusCode::kNotFound, "no version 2");
  std::filesystem::create_symlink(outside.path(), root_ / "m/1/link");
  POT_EXPECT_OK(store_->Delete("m", 1));
  EXPECT_EQ(ReadAll(outside / "1/precious"), "p");
  EXPECT_EQ(ReadAll(outside / "precious"), "p");
  EXPECT_FALSE(std::filesystem::exists(root_ / "m/1"));
}

TEST_F(VersionStoreTest, ListsIgnoreWhatIsNoModelOrVersion) {
  ASSERT_EQ(Publish("m", 5).value(), 5);
  for (const char* name : {"m/0", "m/05", "m/-1", "m/+1", "m/1.0", "m/x",
                           "m/9999999999999999999", "empty", "-bad", ".m"}) {
    std::filesystem::create_directory(root_ / name);
  }
  WriteAll(root_ / "m/6", "");
  WriteAll(root_ / "aliases.json", "{}");
  std::filesystem::create_directory_symlink("5", root_ / "m/7");
  std::filesystem::create_directory_symlink("m", root_ / "link");
  EXPECT_THAT(store_->ListModels().value(), ElementsAre("m"));
  EXPECT_THAT(store_->ListVersions("m").value(), ElementsAre(5));
  EXPECT_THAT(store_->ListVersions("link").value(), IsEmpty());
}

TEST_F(VersionStoreTest, NamesCannotLeaveTheRoot) {
  const std::vector<std::string> names = {"",
                                          ".",
                                          "..",
                                          "../m",
                                          "/etc",
                                          "m/../..",
                                          "a/b",
                                          "m\\n",
                                          ".staging",
                                          ".trash",
                                          "-rf",
                                          "_m",
                                          "a b",
                                          "a\nb",
                                          "a\x1b[31m",
                                          "\x7f",
                                          std::string("a\0b", 3),
                                          "caf\xc3\xa9",
                                          "a\xff",
                                          "%2e%2e",
                                          "~root",
                                          "m:1",
                                          "m@prod",
                                          "$(id)",
                                          std::string(65, 'a'),
                                          std::string(1000000, 'a')};
  for (const std::string& name : names) {
    SCOPED_TRACE(name.substr(0, 100));
    const absl::Status invalid = ValidateModelName(name);
    ExpectError(invalid, StatusCode::kInvalidArgument,
                "must be 1 to 64 of [A-Za-z0-9._-] and begin with a letter or "
                "a digit");
    EXPECT_LT(invalid.message().size(), 500u);
    EXPECT_EQ(FindInvalidUtf8(invalid.message()), invalid.message().size());
    for (unsigned char c : invalid.message()) EXPECT_GE(c, ' ');
    EXPECT_EQ(store_->Stage(name).status(), invalid);
    EXPECT_EQ(store_->ListVersions(name).status(), invalid);
    EXPECT_EQ(store_->Delete(name, 1), invalid);
    EXPECT_EQ(store_->VersionDirectory(name, 1),
              store_->root() + "/.invalid/1");
  }
  const std::vector<std::string> good = {"a", "0", "gpt2-124M_v1.5", "a..",
                                         std::string(64, 'z')};
  for (const std::string& name : good) {
    POT_EXPECT_OK(ValidateModelName(name));
  }
}

TEST_F(VersionStoreTest, ConcurrentCommitsGetDistinctVersions) {
  constexpr int kThreads = 8, kEach = 6;
  std::vector<std::vector<int64_t>> versions(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, t, &versions] {
      // As another process would, each has a store of its own.
      const auto store = VersionStore::Open(root_.path());
      for (int i = 0; i < kEach; ++i) {
        auto staged = (*store)->Stage("m");
        WriteAll(staged->directory() + "/weights", absl::StrCat(t, ".", i));
        const auto version = (*store)->Commit(*std::move(staged), 0, "t");
        if (version.ok()) versions[t].push_back(*version);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<int64_t> distinct;
  for (int t = 0; t < kThreads; ++t) {
    ASSERT_EQ(versions[t].size(), kEach);
    for (int i = 0; i < kEach; ++i) {
      distinct.insert(versions[t][i]);
      EXPECT_EQ(
          ReadAll(store_->VersionDirectory("m", versions[t][i]) + "/weights"),
          absl::StrCat(t, ".", i));
    }
  }
  EXPECT_EQ(distinct.size(), kThreads * kEach);
  EXPECT_EQ(*distinct.rbegin(), kThreads * kEach);
  EXPECT_EQ(NumStaged(), 0u);
}

// A writer killed while it stages leaves no version, and its remains go once
// they are old.
TEST_F(VersionStoreTest, AKilledWriterLeavesNoVersion) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto staged = store_->Stage("m");
    WriteAll(staged->directory() + "/weights", "half of the wei");
    _exit(0);  // no destructor runs
  }
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  ASSERT_EQ(NumStaged(), 1u);
  EXPECT_THAT(store_->ListModels().value(), IsEmpty());

  POT_ASSERT_OK(VersionStore::Open(root_.path()));
  EXPECT_EQ(NumStaged(), 1u) << "it may still be writing";

  const std::string stale =
      root_ / ".staging/" + NamesIn(root_ / ".staging").front();
  const auto two_hours_ago =
      std::filesystem::file_time_type::clock::now() - std::chrono::hours(2);
  std::filesystem::last_write_time(stale, two_hours_ago);
  POT_ASSERT_OK(VersionStore::Open(root_.path()));
  EXPECT_EQ(NumStaged(), 1u) << "a file in it is young";

  std::filesystem::last_write_time(stale + "/weights", two_hours_ago);
  POT_ASSERT_OK(VersionStore::Open(root_.path()));
  EXPECT_EQ(NumStaged(), 0u);
}

TEST_F(VersionStoreTest, OpenFinishesInterruptedDeletions) {
  std::filesystem::create_directories(root_ / ".trash/m.1");
  WriteAll(root_ / ".trash/m.1/weights", "w");
  POT_ASSERT_OK(VersionStore::Open(root_.path()));
  EXPECT_THAT(NamesIn(root_ / ".trash"), IsEmpty());
}

TEST_F(VersionStoreTest, OpenRefusesLinksInPlaceOfItsFolders) {
  const TempDirectory outside;
  WriteAll(outside / "precious", "p");
  std::filesystem::remove(root_ / ".trash");
  std::filesystem::create_symlink(outside.path(), root_ / ".trash");
  ExpectError(VersionStore::Open(root_.path()), StatusCode::kFailedPrecondition,
              ".trash exists and is not a directory");
  EXPECT_EQ(ReadAll(outside / "precious"), "p");
}

}  // namespace
}  // namespace pot
