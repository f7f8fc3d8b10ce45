#include "server/security/file_watcher.h"

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

class FileWatcherTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
  }

  std::string Path(const std::string& name) const {
    return absl::StrCat(directory_, "/", name);
  }
  // Another size each time, so that no clock's resolution matters.
  void Write(const std::string& name) {
    std::ofstream(Path(name), std::ios::app) << "line\n";
  }

  const std::string directory_ = absl::StrCat(
      testing::TempDir(), "/file-watcher-",
      testing::UnitTest::GetInstance()->current_test_info()->name());
  int changes_ = 0;
};

TEST_F(FileWatcherTest, TellsOnceWhenAChangedFileHasSettled) {
  Write("a");
  FileWatcher watcher;
  watcher.Watch({Path("a"), Path("b")}, [this] { ++changes_; });
  watcher.Poll();
  watcher.Poll();
  EXPECT_EQ(changes_, 0);
  Write("a");
  watcher.Poll();
  EXPECT_EQ(changes_, 0) << "it may still be being written";
  Write("a");
  watcher.Poll();
  EXPECT_EQ(changes_, 0);
  watcher.Poll();
  EXPECT_EQ(changes_, 1);
  watcher.Poll();
  EXPECT_EQ(changes_, 1);
  // A file that comes, and one that goes, are changes.
  Write("b");
  watcher.Poll();
  watcher.Poll();
  EXPECT_EQ(changes_, 2);
  std::filesystem::remove(Path("b"));
  watcher.Poll();
  watcher.Poll();
  EXPECT_EQ(changes_, 3);
}

TEST_F(FileWatcherTest, SeesARenamedFileAndALinkThatMoves) {
  Write("one");
  Write("two");
  std::filesystem::create_symlink(Path("one"), Path("link"));
  FileWatcher watcher;
  watcher.Watch({Path("link")}, [this] { ++changes_; });
  std::filesystem::create_symlink(Path("two"), Path("new"));
  std::filesystem::rename(Path("new"), Path("link"));
  watcher.Poll();
  watcher.Poll();
  EXPECT_EQ(changes_, 1);
  Write("three");
  std::filesystem::rename(Path("three"), Path("two"));
  watcher.Poll();
  watcher.Poll();
  EXPECT_EQ(changes_, 2);
}

TEST_F(FileWatcherTest, ItsThreadNoticesAndEnds) {
  Write("a");
  std::atomic<int> seen = 0;
  {
    FileWatcher watcher;
    watcher.Watch({Path("a")}, [&seen] { ++seen; });
    watcher.Start(absl::Milliseconds(1));
    Write("a");
    const absl::Time deadline = absl::Now() + absl::Seconds(60);
    while (seen == 0 && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(1));
    }
  }
  EXPECT_EQ(seen, 1);
}

}  // namespace
}  // namespace pot
