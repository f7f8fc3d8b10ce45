#include "server/training/dataset_store.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "engine/base/sha256.h"
#include "gtest/gtest.h"
#include "server/training/job_files.h"
#include "tests/server/training/job_testing.h"

namespace pot {
namespace {

std::string Digest(const std::string& text) {
  return Sha256Hex(
      {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

std::string FileText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class DatasetStoreTest : public QatJobStoreTest {
 protected:
  void OpenDatasets(int64_t max_bytes = 1 << 20, int64_t reserve = 0) {
    DatasetStoreOptions options;
    options.root = directory_.path();
    options.max_bytes = max_bytes;
    options.disk_reserve_bytes = reserve;
    options.unused_age = absl::Hours(1);
    auto opened = DatasetStore::Open(store_.get(), options);
    ASSERT_TRUE(opened.ok()) << opened.status();
    datasets_ = *std::move(opened);
  }
  void SetUp() override {
    QatJobStoreTest::SetUp();
    OpenDatasets();
  }

  // In pieces of `piece` bytes.
  absl::StatusOr<v1::Dataset> Upload(const std::string& text, size_t piece,
                                     const std::string& digest) {
    auto upload =
        datasets_->Begin(digest, "corpus", static_cast<int64_t>(text.size()));
    if (!upload.ok()) return upload.status();
    for (size_t i = 0; i < text.size(); i += piece) {
      const absl::Status status = (*upload)->Append(text.substr(i, piece));
      if (!status.ok()) return status;
    }
    return (*upload)->Finish();
  }
  size_t FilesThere() const {
    const std::filesystem::directory_iterator files(
        DatasetsDirectory(directory_.path()));
    return static_cast<size_t>(std::distance(begin(files), end(files)));
  }

  std::unique_ptr<DatasetStore> datasets_;
};

TEST_F(DatasetStoreTest, KeepsATextOnceHoweverItIsCut) {
  const std::string text = "Grüße, \xf0\x9f\x8c\x8d! あ";
  const std::string digest = Digest(text);
  EXPECT_FALSE(datasets_->Find(digest)->has_value());
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    const auto dataset = Upload(text, piece, digest);
    ASSERT_TRUE(dataset.ok()) << dataset.status();
    EXPECT_EQ(dataset->sha256(), digest);
    EXPECT_EQ(dataset->size_bytes(), static_cast<int64_t>(text.size()));
  }
  EXPECT_EQ(FilesThere(), 1u);
  EXPECT_EQ(FileText(datasets_->Path(digest)), text);
  EXPECT_EQ((*datasets_->Find(digest))->name(), "corpus");
  // A file that somebody removed is not there, until it comes again.
  std::filesystem::remove(datasets_->Path(digest));
  EXPECT_FALSE(datasets_->Find(digest)->has_value());
  ASSERT_TRUE(Upload(text, 7, digest).ok());
  EXPECT_TRUE(datasets_->Find(digest)->has_value());
}

TEST_F(DatasetStoreTest, RefusesWhatIsNotWhatWasAnnounced) {
  const std::string text = "some text";
  EXPECT_EQ(Reason(Upload(text, 4, Digest("other")).status()),
            "CHECKSUM_MISMATCH");
  auto upload = datasets_->Begin(Digest(text), "", 4);
  EXPECT_EQ(Reason((*upload)->Append(text)), "CHECKSUM_MISMATCH");
  upload = datasets_->Begin(Digest(text), "", 10);
  ASSERT_TRUE((*upload)->Append(text).ok());
  EXPECT_EQ((*upload)->Finish().status().code(), absl::StatusCode::kDataLoss);
  upload->reset();
  EXPECT_EQ(FilesThere(), 0u);
  EXPECT_TRUE(store_->ListDatasets()->empty());
}

TEST_F(DatasetStoreTest, RefusesWhatIsNotUtf8WithItsOffset) {
  const struct {
    std::string text;
    const char* offset;
  } cases[] = {{"abc\xff", "3"},
               {"ab\xc3(", "2"},
               {"\xed\xa0\x80", "0"},
               {"abcd\xf0\x9f\x8c", "4"}};
  for (const auto& [text, offset] : cases) {
    for (size_t piece = 1; piece <= text.size(); ++piece) {
      const absl::Status status = Upload(text, piece, Digest(text)).status();
      EXPECT_EQ(Reason(status), "INVALID_UTF8") << status;
      EXPECT_EQ(GetDetails(status)->metadata["value"], offset) << piece;
    }
  }
  EXPECT_EQ(FilesThere(), 0u);
}

TEST_F(DatasetStoreTest, RefusesMoreThanFits) {
  EXPECT_EQ(Reason(datasets_->Begin("aa", "", (1 << 20) + 1).status()),
            "UPLOAD_TOO_LARGE");
  // All of the disk but 300 MiB is reserved; every upload keeps its share.
  const int64_t room =
      static_cast<int64_t>(std::filesystem::space(directory_.path()).available);
  OpenDatasets(int64_t{1} << 60, room - (int64_t{300} << 20));
  auto first = datasets_->Begin("aa", "", int64_t{200} << 20);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(Reason(datasets_->Begin("bb", "", int64_t{200} << 20).status()),
            "DISK_BUDGET");
  first->reset();
  EXPECT_TRUE(datasets_->Begin("bb", "", int64_t{200} << 20).ok());
}

TEST_F(DatasetStoreTest, RemovesWhatACrashLeft) {
  const std::string text = "kept";
  ASSERT_TRUE(Upload(text, 4, Digest(text)).ok());
  const std::string folder = DatasetsDirectory(directory_.path());
  WriteText(folder + "/.upload-abc123", "half");
  WriteText(folder + "/" + Digest("renamed, but no row"), "x");
  OpenDatasets();
  EXPECT_EQ(FilesThere(), 1u);
  EXPECT_TRUE(datasets_->Find(Digest(text))->has_value());
}

TEST_F(DatasetStoreTest, RemovesWhatNoJobUses) {
  const std::string used = "used", unused = "unused";
  ASSERT_TRUE(Upload(used, 4, Digest(used)).ok());
  ASSERT_TRUE(Upload(unused, 4, Digest(unused)).ok());
  NewQatJob job = Job();
  job.spec.mutable_data()->set_validation_sha256(Digest(used));
  ASSERT_TRUE(store_->Submit(job).ok());
  now_ += absl::Minutes(59);
  ASSERT_TRUE(datasets_->RemoveUnused().ok());
  EXPECT_EQ(FilesThere(), 2u);
  now_ += absl::Minutes(1);
  ASSERT_TRUE(datasets_->RemoveUnused().ok());
  EXPECT_EQ(FilesThere(), 1u);
  EXPECT_TRUE(datasets_->Find(Digest(used))->has_value());
  EXPECT_FALSE(datasets_->Find(Digest(unused))->has_value());
}

}  // namespace
}  // namespace pot
