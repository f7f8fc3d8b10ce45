#include "server/training/upload_store.h"

#include <functional>
#include <sstream>

#include "engine/base/crc32c.h"
#include "tests/server/training/driver_testing.h"

namespace pot {
namespace {

namespace fs = std::filesystem;

std::string Content(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

class UploadStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { Restart(); }

  // As after a crash: what is known is what is on disk.
  void Restart() {
    UploadStoreOptions options;
    options.jobs_directory = temp_.path();
    options.max_bytes = 10000;
    store_ = std::make_unique<UploadStore>(options);
  }

  v1::UploadHeader Header(int64_t epoch = 1) const {
    v1::UploadHeader header;
    header.mutable_lease()->set_job_id("qat-1");
    header.mutable_lease()->set_epoch(epoch);
    header.set_upload_id("step-5");
    header.set_step(5);
    for (const auto& [name, text] : contents_) {
      v1::StoredFile* file = header.add_files();
      file->set_path(name);
      file->set_size_bytes(static_cast<int64_t>(text.size()));
      file->set_sha256(Sha256Of(text));
    }
    return header;
  }

  v1::TransferChunk Chunk(int file, size_t offset, size_t size) const {
    v1::TransferChunk chunk;
    chunk.set_file_index(static_cast<uint32_t>(file));
    chunk.set_offset(static_cast<int64_t>(offset));
    chunk.set_data(
        contents_[static_cast<size_t>(file)].second.substr(offset, size));
    Seal(&chunk);
    return chunk;
  }
  static void Seal(v1::TransferChunk* chunk) {
    chunk->set_crc32c(Crc32c(absl::MakeConstSpan(
        reinterpret_cast<const uint8_t*>(chunk->data().data()),
        chunk->data().size())));
  }

  std::unique_ptr<Upload> Open(const v1::UploadHeader& header) {
    auto upload = store_->Open(UploadKind::kCheckpoint, header);
    EXPECT_TRUE(upload.ok()) << upload.status();
    return upload.ok() ? *std::move(upload) : nullptr;
  }
  // From where it is to the end, `step` bytes at a time.
  void SendRest(Upload* upload, size_t step) {
    while (!upload->position().complete) {
      const UploadPosition at = upload->position();
      const absl::Status status = upload->Append(
          Chunk(at.file_index, static_cast<size_t>(at.offset), step));
      ASSERT_TRUE(status.ok()) << status;
    }
  }

  TempDirectory temp_;
  std::vector<std::pair<std::string, std::string>> contents_ = {
      {"config.json", std::string(100, 'c')},
      {"empty.txt", ""},
      {"model.safetensors", std::string(5000, 'm')},
  };
  std::unique_ptr<UploadStore> store_;
};

TEST_F(UploadStoreTest, GoesOnAfterACrashAndAppearsAtOnce) {
  const std::string target = temp_.path() + "/qat-1/checkpoints/x";
  auto upload = Open(Header());
  ASSERT_TRUE(upload->Append(Chunk(0, 0, 100)).ok());
  // The empty file needs no chunk.
  ASSERT_TRUE(upload->Append(Chunk(2, 0, 1234)).ok());
  EXPECT_EQ(upload->Verify().code(), absl::StatusCode::kInvalidArgument);
  upload.reset();
  Restart();
  UploadPosition position = *store_->Find("qat-1", "step-5");
  EXPECT_EQ(position.file_index, 2);
  EXPECT_EQ(position.offset, 1234);
  EXPECT_FALSE(position.complete);
  EXPECT_FALSE(fs::exists(target));

  upload = Open(Header());
  EXPECT_EQ(upload->position().offset, 1234);
  SendRest(upload.get(), 999);
  EXPECT_FALSE(fs::exists(target));
  ASSERT_TRUE(upload->Verify().ok());
  EXPECT_TRUE(store_->Find("qat-1", "step-5")->complete);
  ASSERT_TRUE(upload->Publish(target).ok());
  for (const auto& [name, text] : contents_) {
    EXPECT_EQ(Content(target + "/" + name), text);
  }
  EXPECT_TRUE(fs::is_empty(temp_.path() + "/qat-1/uploads"));
  EXPECT_EQ(store_->Find("qat-1", "step-5")->file_index, 0);
}

TEST_F(UploadStoreTest, RefusesWrongHeaders) {
  using Edit = std::function<void(v1::UploadHeader*)>;
  const struct {
    const char* field;
    Edit edit;
  } cases[] = {
      {"header.upload.lease.job_id",
       [](auto* h) { h->mutable_lease()->set_job_id("../x"); }},
      {"header.upload.upload_id", [](auto* h) { h->set_upload_id("a/b"); }},
      {"header.upload.upload_id", [](auto* h) { h->set_upload_id(""); }},
      {"header.upload.upload_id",
       [](auto* h) { h->set_upload_id(std::string(129, 'a')); }},
      {"header.upload.step", [](auto* h) { h->set_step(-1); }},
      {"header.upload.files", [](auto* h) { h->clear_files(); }},
      {"header.upload.files[0].path",
       [](auto* h) { h->mutable_files(0)->set_path(".hidden"); }},
      {"header.upload.files[1].path",
       [](auto* h) { h->mutable_files(1)->set_path("config.json"); }},
      {"header.upload.files[2].sha256",
       [](auto* h) { h->mutable_files(2)->set_sha256("abc"); }},
      {"header.upload.files[2].size_bytes",
       [](auto* h) { h->mutable_files(2)->set_size_bytes(-1); }},
      {"header.upload.files[2].size_bytes",
       [](auto* h) { h->mutable_files(2)->set_size_bytes(INT64_MAX); }},
  };
  for (const auto& one : cases) {
    v1::UploadHeader header = Header();
    one.edit(&header);
    const auto upload = store_->Open(UploadKind::kCheckpoint, header);
    ASSERT_FALSE(upload.ok()) << one.field;
    EXPECT_EQ(GetDetails(upload.status())->field, one.field) << upload.status();
  }
  EXPECT_TRUE(fs::is_empty(temp_.path()));
  EXPECT_FALSE(store_->Find("..", "x").ok());
}

TEST_F(UploadStoreTest, RefusesWrongChunksAndGoesOn) {
  auto upload = Open(Header());
  ASSERT_TRUE(upload->Append(Chunk(0, 0, 40)).ok());
  EXPECT_EQ(Reason(upload->Append(Chunk(0, 30, 10))), "INVALID_FIELD");
  EXPECT_EQ(Reason(upload->Append(Chunk(2, 0, 10))), "INVALID_FIELD");
  v1::TransferChunk chunk = Chunk(0, 40, 10);
  chunk.clear_data();
  EXPECT_EQ(Reason(upload->Append(chunk)), "INVALID_FIELD");
  chunk.set_data(std::string(61, 'c'));
  EXPECT_EQ(Reason(upload->Append(chunk)), "INVALID_FIELD");
  chunk.set_data(std::string(kMaxTransferBytes + 1, 'c'));
  EXPECT_EQ(Reason(upload->Append(chunk)), "INVALID_FIELD");
  chunk = Chunk(0, 40, 60);
  chunk.mutable_data()->at(7) ^= 1;
  const absl::Status status = upload->Append(chunk);
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_EQ(Reason(status), "CHECKSUM_MISMATCH");
  EXPECT_EQ(upload->position().offset, 40);
  SendRest(upload.get(), 5000);
  EXPECT_TRUE(upload->Verify().ok());
  EXPECT_EQ(Reason(upload->Append(Chunk(2, 0, 1))), "INVALID_FIELD");
}

TEST_F(UploadStoreTest, AFileWithAWrongDigestIsSentAgain) {
  auto upload = Open(Header());
  ASSERT_TRUE(upload->Append(Chunk(0, 0, 40)).ok());
  // Its CRC is right, but it is not what was announced.
  v1::TransferChunk chunk = Chunk(0, 40, 60);
  chunk.set_data(std::string(60, 'X'));
  Seal(&chunk);
  ASSERT_TRUE(upload->Append(chunk).ok());
  SendRest(upload.get(), 5000);
  const absl::Status status = upload->Verify();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_EQ(Metadata(status, "limit"), Sha256Of(contents_[0].second));
  upload = Open(Header());
  EXPECT_EQ(upload->position().file_index, 0);
  EXPECT_EQ(upload->position().offset, 0);
  SendRest(upload.get(), 5000);
  EXPECT_TRUE(upload->Verify().ok());
}

TEST_F(UploadStoreTest, TheNewestCallHasTheUpload) {
  const auto older = Open(Header());
  ASSERT_TRUE(older->Append(Chunk(0, 0, 40)).ok());
  const auto newer = Open(Header());
  EXPECT_EQ(newer->position().offset, 40);
  EXPECT_TRUE(absl::IsAborted(older->Append(Chunk(0, 40, 60))));
  EXPECT_TRUE(newer->Append(Chunk(0, 40, 60)).ok());

  v1::UploadHeader other = Header();
  other.set_step(6);
  EXPECT_TRUE(absl::IsInvalidArgument(
      store_->Open(UploadKind::kCheckpoint, other).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      store_->Open(UploadKind::kSnapshot, Header()).status()));
  // A later lease may mean something else by the same name.
  other.mutable_lease()->set_epoch(2);
  EXPECT_EQ(Open(other)->position().file_index, 0);
  EXPECT_TRUE(absl::IsAborted(newer->Append(Chunk(2, 0, 10))));
}

TEST_F(UploadStoreTest, UnfinishedUploadsAreFewAndSwept) {
  v1::UploadHeader header = Header();
  for (int i = 0; i < kMaxOpenUploads; ++i) {
    header.set_upload_id(absl::StrCat("u", i));
    Open(header);
  }
  header.set_upload_id("one-more");
  EXPECT_EQ(Reason(store_->Open(UploadKind::kCheckpoint, header).status()),
            "UPLOAD_TOO_LARGE");
  header.mutable_lease()->set_job_id("qat-2");
  Open(header);
  // The next lease clears up.
  header = Header(2);
  Open(header);
  const std::string uploads = temp_.path() + "/qat-1/uploads/";
  EXPECT_FALSE(fs::exists(uploads + "u0"));
  // A crash before the header was written.
  fs::create_directories(uploads + "torn/files");
  Restart();
  store_->Sweep([](const std::string& job) { return job == "qat-1"; });
  EXPECT_TRUE(fs::exists(uploads + "step-5"));
  EXPECT_FALSE(fs::exists(uploads + "torn"));
  EXPECT_FALSE(fs::exists(temp_.path() + "/qat-2/uploads"));
}

}  // namespace
}  // namespace pot
