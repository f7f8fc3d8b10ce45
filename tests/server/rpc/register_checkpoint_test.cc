// Uploading a checkpoint, well and badly.
#include <algorithm>
#include <functional>

#include "tests/server/rpc/model_service_testing.h"

namespace pot {
namespace {

struct File {
  std::string name;
  std::string content;
};

class RegisterCheckpointTest : public ModelServiceTest {
 protected:
  void SetUp() override {
    ModelServiceTest::SetUp();
    for (const auto& entry :
         std::filesystem::directory_iterator(files_.root() + "/tiny/2")) {
      upload_.push_back(
          {entry.path().filename().string(), ReadAll(entry.path().string())});
    }
    std::sort(upload_.begin(), upload_.end(),
              [](const File& a, const File& b) { return a.name < b.name; });
  }

  // The messages of a good upload, which tests then spoil.
  std::vector<v1::RegisterCheckpointRequest> Messages(
      size_t chunk_bytes = 50000) const {
    std::vector<v1::RegisterCheckpointRequest> messages(1);
    v1::CheckpointHeader* header = messages[0].mutable_header();
    header->set_name("uploaded");
    for (const File& file : upload_) {
      v1::FileInfo* info = header->add_files();
      info->set_path(file.name);
      info->set_size_bytes(static_cast<int64_t>(file.content.size()));
      info->set_sha256(DigestOf(file.content));
    }
    for (size_t i = 0; i < upload_.size(); ++i) {
      const std::string& content = upload_[i].content;
      for (size_t at = 0; at < content.size(); at += chunk_bytes) {
        v1::FileChunk* chunk = messages.emplace_back().mutable_chunk();
        chunk->set_file_index(static_cast<uint32_t>(i));
        chunk->set_offset(static_cast<int64_t>(at));
        chunk->set_data(content.substr(at, chunk_bytes));
      }
    }
    return messages;
  }

  grpc::Status Send(const std::vector<v1::RegisterCheckpointRequest>& messages,
                    v1::RegisterCheckpointResponse* response = nullptr) {
    v1::RegisterCheckpointResponse ignored;
    grpc::ClientContext context;
    const auto writer = stub_->RegisterCheckpoint(
        &context, response == nullptr ? &ignored : response);
    for (const auto& message : messages) {
      if (!writer->Write(message)) break;
    }
    writer->WritesDone();
    return writer->Finish();
  }

  std::vector<File> upload_;
};

TEST_F(RegisterCheckpointTest, PublishesWhatWasUploaded) {
  v1::RegisterCheckpointResponse response;
  auto messages = Messages();
  messages[0].mutable_header()->set_load(true);
  const grpc::Status status = Send(messages, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.version().version(), 1);
  EXPECT_EQ(response.version().state(), v1::MODEL_VERSION_STATE_AVAILABLE);
  // The same content is the same digest.
  EXPECT_EQ(response.version().digest(),
            repository_->Get({.name = "tiny", .version = 2})->digest);
  for (const File& file : upload_) {
    EXPECT_EQ(ReadAll(files_.File("uploaded", 1, file.name)), file.content);
  }
  messages = Messages(1 << 20);
  messages[0].mutable_header()->set_version(7);
  ASSERT_TRUE(Send(messages, &response).ok());
  EXPECT_EQ(response.version().version(), 7);
  EXPECT_EQ(response.version().state(), v1::MODEL_VERSION_STATE_REGISTERED);
  EXPECT_EQ(Versions(), 4);
}

TEST_F(RegisterCheckpointTest, BrokenUploadsLeaveNothing) {
  using Message = v1::RegisterCheckpointRequest;
  using Spoil = std::function<void(std::vector<Message>*)>;
  const auto header = [](auto edit) -> Spoil {
    return [edit](std::vector<Message>* messages) {
      edit((*messages)[0].mutable_header());
    };
  };
  const auto chunk = [](auto edit) -> Spoil {
    return [edit](std::vector<Message>* messages) {
      edit((*messages)[2].mutable_chunk());
    };
  };
  const struct {
    const char* expected;
    Spoil spoil;
  } cases[] = {
      {"INVALID_ARGUMENT MISSING_FIELD header",
       [](auto* messages) { messages->clear(); }},
      {"INVALID_ARGUMENT MISSING_FIELD header",
       [](auto* messages) { messages->erase(messages->begin()); }},
      {"INVALID_ARGUMENT MISSING_FIELD part",
       [](auto* messages) { (*messages)[0].Clear(); }},
      {"INVALID_ARGUMENT MISSING_FIELD part",
       [](auto* messages) { (*messages)[1].Clear(); }},
      {"INVALID_ARGUMENT MISSING_FIELD chunk",
       [](auto* messages) { (*messages)[1] = (*messages)[0]; }},
      {"INVALID_ARGUMENT MISSING_FIELD chunk",
       [](auto* messages) { messages->pop_back(); }},
      {"INVALID_ARGUMENT MISSING_FIELD chunk",
       [](auto* messages) { messages->resize(1); }},
      {"INVALID_ARGUMENT MISSING_FIELD header.name",
       header([](auto* h) { h->clear_name(); })},
      {"INVALID_ARGUMENT INVALID_FIELD header.name",
       header([](auto* h) { h->set_name("../tiny"); })},
      {"INVALID_ARGUMENT INVALID_FIELD header.name",
       header([](auto* h) { h->set_name(".staging"); })},
      {"INVALID_ARGUMENT INVALID_UTF8 header.name",
       header([](auto* h) { h->set_name("a\xff"); })},
      {"INVALID_ARGUMENT INVALID_FIELD header.version",
       header([](auto* h) { h->set_version(0); })},
      {"INVALID_ARGUMENT INVALID_FIELD header.version",
       header([](auto* h) { h->set_version(-1); })},
      {"INVALID_ARGUMENT INVALID_FIELD header.version",
       header([](auto* h) { h->set_version(INT64_MAX); })},
      {"ALREADY_EXISTS VERSION_EXISTS", header([](auto* h) {
         h->set_name("tiny");
         h->set_version(1);
       })},
      {"INVALID_ARGUMENT INVALID_FIELD header.files",
       header([](auto* h) { h->clear_files(); })},
      {"INVALID_ARGUMENT INVALID_FIELD header.files", header([](auto* h) {
         while (h->files_size() <= 64) {
           *h->add_files() = h->files(0);
           h->mutable_files(h->files_size() - 1)
               ->set_path(absl::StrCat("f", h->files_size()));
         }
       })},
      {"INVALID_ARGUMENT INVALID_FIELD header.files[0].path",
       header([](auto* h) { h->mutable_files(0)->set_path("../evil"); })},
      {"INVALID_ARGUMENT INVALID_FIELD header.files[0].path",
       header([](auto* h) { h->mutable_files(0)->set_path("/etc/passwd"); })},
      {"INVALID_ARGUMENT INVALID_FIELD header.files[0].path",
       header([](auto* h) { h->mutable_files(0)->set_path(".hidden"); })},
      {"INVALID_ARGUMENT INVALID_FIELD header.files[0].path",
       header([](auto* h) { h->mutable_files(0)->set_path(""); })},
      {"INVALID_ARGUMENT INVALID_FIELD header.files[0].path",
       header([](auto* h) {
         h->mutable_files(0)->set_path(std::string("a\0b", 3));
       })},
      {"INVALID_ARGUMENT INVALID_FIELD header.files[0].path",
       header([](auto* h) {
         h->mutable_files(0)->set_path(std::string(129, 'a'));
       })},
      {"INVALID_ARGUMENT INVALID_FIELD header.files[1].path",
       header(
           [](auto* h) { h->mutable_files(1)->set_path(h->files(0).path()); })},
      {"INVALID_ARGUMENT INVALID_FIELD header.files[0].sha256",
       header([](auto* h) { h->mutable_files(0)->clear_sha256(); })},
      {"INVALID_ARGUMENT INVALID_FIELD header.files[0].sha256",
       header([](auto* h) {
         h->mutable_files(0)->set_sha256(std::string(64, 'A'));
       })},
      {"INVALID_ARGUMENT INVALID_FIELD header.files[0].size_bytes",
       header([](auto* h) { h->mutable_files(0)->set_size_bytes(-1); })},
      {"RESOURCE_EXHAUSTED UPLOAD_TOO_LARGE header.files[0].size_bytes",
       header([](auto* h) { h->mutable_files(0)->set_size_bytes(INT64_MAX); })},
      {"RESOURCE_EXHAUSTED UPLOAD_TOO_LARGE header.files[1].size_bytes",
       header([](auto* h) {
         h->mutable_files(0)->set_size_bytes(int64_t{9} << 30);
         h->mutable_files(1)->set_size_bytes(int64_t{9} << 30);
       })},
      {"INVALID_ARGUMENT MISSING_FIELD header.files", header([](auto* h) {
         for (auto& file : *h->mutable_files()) {
           if (file.path() == "manifest.json") file.set_path("other.json");
         }
       })},
      {"INVALID_ARGUMENT INVALID_FIELD chunk.file_index",
       chunk([](auto* c) { c->set_file_index(4000000000u); })},
      {"INVALID_ARGUMENT INVALID_FIELD chunk.file_index",
       chunk([](auto* c) { c->set_file_index(0); })},
      {"INVALID_ARGUMENT INVALID_FIELD chunk.offset",
       chunk([](auto* c) { c->set_offset(1); })},
      {"INVALID_ARGUMENT INVALID_FIELD chunk.offset",
       chunk([](auto* c) { c->set_offset(-1); })},
      {"INVALID_ARGUMENT INVALID_FIELD chunk.data",
       chunk([](auto* c) { c->clear_data(); })},
      {"INVALID_ARGUMENT INVALID_FIELD chunk.data",
       chunk([](auto* c) { c->set_data(std::string((1 << 20) + 1, 'x')); })},
      {"INVALID_ARGUMENT INVALID_FIELD chunk.data",
       chunk([](auto* c) { c->mutable_data()->append(200000, 'x'); })},
      {"INVALID_ARGUMENT INVALID_FIELD chunk.file_index",
       [](auto* messages) { messages->push_back(messages->back()); }},
      {"DATA_LOSS CHECKSUM_MISMATCH",
       chunk([](auto* c) { (*c->mutable_data())[0] ^= 1; })},
      {"DATA_LOSS CHECKSUM_MISMATCH", header([](auto* h) {
         h->mutable_files(0)->set_sha256(std::string(64, '0'));
       })},
  };
  int count = 0;
  for (const auto& bad : cases) {
    auto messages = Messages();
    bad.spoil(&messages);
    EXPECT_EQ(Short(Send(messages)), bad.expected) << "case " << count;
    ++count;
  }
  EXPECT_EQ(Versions(), 2);
  EXPECT_FALSE(std::filesystem::exists(files_.root() + "/uploaded"));
  RecordProperty("bad_inputs", count);
  std::cout << count << " bad uploads\n";
  // The server is as well as before.
  EXPECT_TRUE(Send(Messages()).ok());
}

TEST_F(RegisterCheckpointTest, FilesThatContradictEachOtherAreRefused) {
  const auto find = [&](const std::string& name) {
    return std::find_if(upload_.begin(), upload_.end(),
                        [&](const File& file) { return file.name == name; });
  };
  // Right checksums on the wire, but not those of the manifest.
  const std::vector<File> good = upload_;
  find("config.json")->content += " ";
  EXPECT_EQ(Short(Send(Messages())), "DATA_LOSS CHECKSUM_MISMATCH");
  upload_ = good;
  find("manifest.json")->content = "{}";
  EXPECT_EQ(Short(Send(Messages())), "DATA_LOSS CORRUPT_CHECKPOINT");
  upload_ = good;
  upload_.erase(find("config.json"));
  EXPECT_EQ(Short(Send(Messages())), "DATA_LOSS CORRUPT_CHECKPOINT");
  upload_ = good;
  upload_.push_back({"unlisted", "x"});
  EXPECT_EQ(Short(Send(Messages())), "DATA_LOSS CORRUPT_CHECKPOINT");
  // An empty file is a file.
  upload_.back().content.clear();
  EXPECT_EQ(Short(Send(Messages())), "DATA_LOSS CORRUPT_CHECKPOINT");
  EXPECT_EQ(Versions(), 2);
}

TEST_F(RegisterCheckpointTest, ChecksTheDisk) {
  ModelServiceOptions options;
  options.max_upload_bytes = INT64_MAX;
  Start(files_.Options(), options);
  auto messages = Messages();
  messages[0].mutable_header()->mutable_files(0)->set_size_bytes(int64_t{1}
                                                                 << 60);
  EXPECT_EQ(Short(Send(messages)), "RESOURCE_EXHAUSTED DISK_BUDGET");
}

TEST_F(RegisterCheckpointTest, AClientThatLeavesLeavesNothing) {
  const auto messages = Messages();
  {
    v1::RegisterCheckpointResponse response;
    grpc::ClientContext context;
    const auto writer = stub_->RegisterCheckpoint(&context, &response);
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(writer->Write(messages[i]));
    context.TryCancel();
    EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  ASSERT_TRUE(calls_.WaitUntilIdle(absl::Now() + absl::Seconds(20)));
  Stop();  // waits for what the server still has to take down
  EXPECT_TRUE(std::filesystem::is_empty(files_.root() + "/.staging"));
  EXPECT_FALSE(std::filesystem::exists(files_.root() + "/uploaded"));
}

}  // namespace
}  // namespace pot
