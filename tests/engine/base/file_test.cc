#include "engine/base/file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <utility>

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

TEST_F(FileTest, RenamesADirectory) {
  ASSERT_EQ(mkdir(Path("staged").c_str(), 0700), 0);
  ASSERT_EQ(mkdir(Path("models").c_str(), 0700), 0);
  ASSERT_TRUE(WriteFile(Path("staged/a"), "x").ok());
  ASSERT_TRUE(SyncDirectory(Path("staged")).ok());
  ASSERT_TRUE(RenameDirectory(Path("staged/"), Path("models/1")).ok());
  EXPECT_EQ(ReadFile(Path("models/1/a"), 10).value(), "x");
  EXPECT_FALSE(std::filesystem::exists(Path("staged")));
}

TEST_F(FileTest, RenameNeverReplaces) {
  ASSERT_EQ(mkdir(Path("staged").c_str(), 0700), 0);
  ASSERT_EQ(mkdir(Path("empty").c_str(), 0700), 0);
  ASSERT_TRUE(WriteFile(Path("file"), "x").ok());
  EXPECT_EQ(RenameDirectory(Path("staged"), Path("empty")).code(),
            StatusCode::kAlreadyExists);
  EXPECT_EQ(RenameDirectory(Path("staged"), Path("file")).code(),
            StatusCode::kAlreadyExists);
  EXPECT_EQ(RenameDirectory(Path("file"), Path("new")).code(),
            StatusCode::kInvalidArgument);
  EXPECT_TRUE(std::filesystem::exists(Path("staged")));
  EXPECT_EQ(ReadFile(Path("file"), 10).value(), "x");
}

}  // namespace
}  // namespace pot
