#include "engine/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

class FileTest : public testing::Test {
 protected:
  FileTest() {
    std::string pattern = testing::TempDir() + "/file_test_XXXXXX";
    dir_ = mkdtemp(pattern.data());
  }
  ~FileTest() override { std::filesystem::remove_all(dir_); }

  std::string Path(const std::string& name) const { return dir_ + "/" + name; }

  std::string dir_;
};

TEST_F(FileTest, WritesAndReadsBack) {
  const std::string contents("bytes \0\xFF of any kind\n", 22);
  ASSERT_TRUE(WriteFile(Path("a"), contents).ok());
  EXPECT_EQ(ReadFile(Path("a"), 100).value(), contents);
  ASSERT_TRUE(WriteFile(Path("a"), "short").ok());
  EXPECT_EQ(ReadFile(Path("a"), 100).value(), "short");
  ASSERT_TRUE(WriteFile(Path("a"), "").ok());
  EXPECT_EQ(ReadFile(Path("a"), 0).value(), "");
}

TEST_F(FileTest, WritesToADescriptor) {
  const int fd = open(Path("a").c_str(), O_RDWR | O_CREAT, 0644);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(WriteFully(fd, "one two"), 0);
  EXPECT_EQ(WriteFully(fd, ""), 0);
  int64_t offset = 4;
  EXPECT_EQ(WriteFullyAt(fd, "three", &offset), 0);
  EXPECT_EQ(offset, 9);
  // Where the descriptor stood.
  EXPECT_EQ(WriteFully(fd, "!"), 0);
  close(fd);
  EXPECT_EQ(ReadFile(Path("a"), 100).value(), "one thr!e");
}

TEST_F(FileTest, FailedWritesGiveTheError) {
  int64_t offset = 3;
  EXPECT_EQ(WriteFully(-1, "x"), EBADF);
  EXPECT_EQ(WriteFullyAt(-1, "x", &offset), EBADF);
  EXPECT_EQ(offset, 3);
  const int full = open("/dev/full", O_WRONLY);
  ASSERT_GE(full, 0);
  EXPECT_EQ(WriteFully(full, "x"), ENOSPC);
  close(full);
}

TEST_F(FileTest, SizeLimitIsInclusiveAndNamed) {
  ASSERT_TRUE(WriteFile(Path("a"), "12345").ok());
  EXPECT_EQ(ReadFile(Path("a"), 5).value(), "12345");
  const absl::Status status = ReadFile(Path("a"), 4).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(Path("a") + " has 5 bytes, more than the limit of 4"));
}

// Files of /proc state the size 0.
TEST_F(FileTest, ReadsAFileThatStatesNoSize) {
  EXPECT_FALSE(ReadFile("/proc/self/status", 1 << 20).value().empty());
  EXPECT_EQ(ReadFile("/proc/self/status", 3).status().code(),
            StatusCode::kInvalidArgument);
}

TEST_F(FileTest, MissingFileIsNotFoundAndNamed) {
  for (const absl::Status& status :
       {ReadFile(Path("none"), 10).status(),
        MappedFile::Open(Path("none")).status(), WriteFile(Path("none/a"), ""),
        SyncDirectory(Path("none")),
        RenameDirectory(Path("none"), Path("b"))}) {
    EXPECT_EQ(status.code(), StatusCode::kNotFound) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(Path("none")));
  }
}

TEST_F(FileTest, OnlyRegularFiles) {
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  for (const std::string& path :
       {dir_, Path("pipe"), std::string("/dev/null")}) {
    EXPECT_EQ(ReadFile(path, 10).status().code(), StatusCode::kInvalidArgument)
        << path;
    EXPECT_EQ(MappedFile::Open(path).status().code(),
              StatusCode::kInvalidArgument)
        << path;
  }
  EXPECT_EQ(WriteFile(dir_, "x").code(), StatusCode::kInvalidArgument);
}

TEST_F(FileTest, RefusesPathsThatTheSystemWouldCut) {
  ASSERT_TRUE(WriteFile(Path("a"), "x").ok());
  const std::string cut = Path("a") + std::string("\0.json", 6);
  EXPECT_EQ(ReadFile(cut, 10).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(WriteFile(cut, "y").code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(RenameDirectory(dir_, cut).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadFile("", 10).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadFile(Path("a"), 10).value(), "x");
}

TEST_F(FileTest, PiecesArriveInOrderAndStopAtAnError) {
  const size_t mib = size_t{1} << 20;
  std::string contents(2 * mib + 5, 'a');
  contents.back() = 'z';
  ASSERT_TRUE(WriteFile(Path("a"), contents).ok());
  std::string seen;
  ASSERT_TRUE(ReadFilePieces(Path("a"), [&](absl::Span<const uint8_t> piece) {
                EXPECT_LE(piece.size(), mib);
                seen.append(piece.begin(), piece.end());
                return absl::OkStatus();
              }).ok());
  EXPECT_EQ(seen, contents);
  int calls = 0;
  EXPECT_EQ(ReadFilePieces(Path("a"),
                           [&](absl::Span<const uint8_t>) {
                             ++calls;
                             return absl::AbortedError("enough");
                           })
                .code(),
            StatusCode::kAborted);
  EXPECT_EQ(calls, 1);
}

TEST_F(FileTest, MapsAndMoves) {
  ASSERT_TRUE(WriteFile(Path("a"), "mapped").ok());
  absl::StatusOr<MappedFile> a = MappedFile::Open(Path("a"));
  ASSERT_TRUE(a.ok()) << a.status();
  MappedFile moved = *std::move(a);
  EXPECT_EQ(std::string(moved.bytes().begin(), moved.bytes().end()), "mapped");
  ASSERT_TRUE(WriteFile(Path("b"), "other").ok());
  moved = MappedFile::Open(Path("b")).value();
  EXPECT_EQ(std::string(moved.bytes().begin(), moved.bytes().end()), "other");
  ASSERT_TRUE(WriteFile(Path("empty"), "").ok());
  EXPECT_TRUE(MappedFile::Open(Path("empty")).value().bytes().empty());
}

TEST_F(FileTest, ReadsAndCopiesAForeignFile) {
  const std::string contents((size_t{1} << 20) + 3, 'x');
  ASSERT_TRUE(WriteFile(Path("a"), contents + "end").ok());
  const ForeignFile file = ForeignFile::Open(Path("a")).value();
  EXPECT_EQ(file.size(), contents.size() + 3);
  std::vector<uint8_t> end(3);
  ASSERT_TRUE(file.ReadAt(contents.size(), absl::MakeSpan(end)).ok());
  EXPECT_EQ(std::string(end.begin(), end.end()), "end");
  EXPECT_EQ(file.ReadAt(contents.size() + 1, absl::MakeSpan(end)).code(),
            StatusCode::kOutOfRange);
  EXPECT_EQ(file.ReadAt(~uint64_t{0}, absl::MakeSpan(end)).code(),
            StatusCode::kOutOfRange);
  ASSERT_TRUE(CopyFile(file, Path("b")).ok());
  EXPECT_EQ(ReadFile(Path("b"), contents.size() + 3).value(), contents + "end");
  ASSERT_TRUE(WriteFile(Path("empty"), "").ok());
  ASSERT_TRUE(
      CopyFile(ForeignFile::Open(Path("empty")).value(), Path("c")).ok());
  EXPECT_EQ(ReadFile(Path("c"), 1).value(), "");
  EXPECT_EQ(ForeignFile::Open(Path("none")).status().code(),
            StatusCode::kNotFound);
  EXPECT_EQ(ForeignFile::Open(dir_).status().code(),
            StatusCode::kInvalidArgument);
}

TEST_F(FileTest, NoticesThatAForeignFileWasChanged) {
  struct Change {
    const char* what;
    std::function<void()> make;
  };
  const std::string path = Path("a");
  const Change changes[] = {
      {"cut", [&] { std::filesystem::resize_file(path, 1); }},
      {"longer", [&] { std::filesystem::resize_file(path, 9); }},
      {"written to",
       [&] {
         std::filesystem::last_write_time(
             path, std::filesystem::last_write_time(path) +
                       std::chrono::milliseconds(1));
       }},
      {"replaced",
       [&] {
         ASSERT_TRUE(WriteFile(Path("b"), "12345678").ok());
         std::filesystem::last_write_time(
             Path("b"), std::filesystem::last_write_time(path));
         std::filesystem::rename(Path("b"), path);
       }},
      {"removed", [&] { std::filesystem::remove(path); }},
  };
  for (const Change& change : changes) {
    SCOPED_TRACE(change.what);
    ASSERT_TRUE(WriteFile(path, "12345678").ok());
    const ForeignFile file = ForeignFile::Open(path).value();
    change.make();
    std::vector<uint8_t> all(8);
    for (const absl::Status& status :
         {file.ReadAt(0, absl::MakeSpan(all)), CopyFile(file, Path("copy"))}) {
      EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition) << status;
      EXPECT_THAT(std::string(status.message()),
                  HasSubstr("a was changed while it was read"));
    }
  }
}

TEST_F(FileTest, RenamesADirectory) {
  ASSERT_EQ(mkdir(Path("staged").c_str(), 0700), 0);
  ASSERT_EQ(mkdir(Path("models").c_str(), 0700), 0);
  ASSERT_TRUE(WriteFile(Path("staged/a"), "x").ok());
  ASSERT_TRUE(SyncDirectory(Path("staged")).ok());
  bool renamed = false;
  ASSERT_TRUE(
      RenameDirectory(Path("staged/"), Path("models/1"), &renamed).ok());
  EXPECT_TRUE(renamed);
  EXPECT_EQ(ReadFile(Path("models/1/a"), 10).value(), "x");
  EXPECT_FALSE(std::filesystem::exists(Path("staged")));
}

TEST_F(FileTest, RenameNeverReplaces) {
  ASSERT_EQ(mkdir(Path("staged").c_str(), 0700), 0);
  ASSERT_EQ(mkdir(Path("empty").c_str(), 0700), 0);
  ASSERT_TRUE(WriteFile(Path("file"), "x").ok());
  bool renamed = true;
  EXPECT_EQ(RenameDirectory(Path("staged"), Path("empty"), &renamed).code(),
            StatusCode::kAlreadyExists);
  EXPECT_FALSE(renamed);
  EXPECT_EQ(RenameDirectory(Path("staged"), Path("file")).code(),
            StatusCode::kAlreadyExists);
  EXPECT_EQ(RenameDirectory(Path("file"), Path("new")).code(),
            StatusCode::kInvalidArgument);
  EXPECT_TRUE(std::filesystem::exists(Path("staged")));
  EXPECT_EQ(ReadFile(Path("file"), 10).value(), "x");
}

}  // namespace
}  // namespace pot
