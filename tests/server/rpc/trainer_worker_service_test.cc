// A scripted worker against the service over a channel: leases, inputs, broken
// uploads, outcomes, and what the server makes of them.
#include "server/rpc/trainer_worker_service.h"

#include <algorithm>
#include <thread>

#include "engine/base/crc32c.h"
#include "gmock/gmock.h"
#include "server/training/job_driver.h"
#include "server/training/qat_job_state.h"
#include "tests/server/rpc/model_service_testing.h"
#include "tests/server/training/driver_testing.h"

namespace pot {
namespace {

using ::testing::HasSubstr;
using Stub = v1::TrainerWorkerService::Stub;

struct File {
  std::string name;
  std::string content;
};

std::vector<File> FilesOf(const std::string& directory) {
  std::vector<File> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    files.push_back(
        {entry.path().filename().string(), ReadAll(entry.path().string())});
  }
  std::sort(files.begin(), files.end(),
            [](const File& a, const File& b) { return a.name < b.name; });
  return files;
}

uint32_t CrcOf(const std::string& data) {
  return Crc32c(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(data.data()), data.size()));
}

class TrainerWorkerServiceTest : public DriverTest {
 protected:
  void SetUp() override {
    DriverTest::SetUp();
    LoadOptions load;
    load.kernels = BestKernels();
    uploads_ = std::make_unique<UploadStore>(
        UploadStoreOptions{.jobs_directory = JobsDirectory(jobs_root_),
                           .check_disk_space = nullptr});
    publisher_ = std::make_unique<CheckpointPublisher>(repository_.get());
    acceptor_ = std::make_unique<UploadAcceptor>(
        store_.get(), uploads_.get(), repository_.get(), jobs_root_, load);
    JobDriverOptions driving;
    driving.store = store_.get();
    driving.repository = repository_.get();
    driving.publisher = publisher_.get();
    driving.uploads = uploads_.get();
    driving.root = jobs_root_;
    driving.load = load;
    driver_ = std::make_unique<JobDriver>(std::move(driving));
    driver_->Start();

    TrainerWorkerServiceOptions options;
    options.store = store_.get();
    options.uploads = uploads_.get();
    options.acceptor = acceptor_.get();
    options.repository = repository_.get();
    options.calls = &calls_;
    options.root = jobs_root_;
    options.duty_ratio = [this] { return duty_ratio_.load(); };
    service_ = std::make_unique<TrainerWorkerService>(std::move(options));
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    stub_ = v1::TrainerWorkerService::NewStub(grpc::CreateChannel(
        absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));
  }
  void TearDown() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
    service_.reset();
    driver_.reset();
  }

  template <typename Request, typename Response>
  grpc::Status Call(grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                 const Request&, Response*),
                    const Request& request, Response* response = nullptr) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::seconds(60));
    Response ignored;
    return (stub_.get()->*method)(&context, request,
                                  response == nullptr ? &ignored : response);
  }

  static v1::AcquireLeaseRequest LeaseRequest(double wait_seconds) {
    v1::AcquireLeaseRequest request;
    request.mutable_worker()->set_name("host-0");
    request.mutable_worker()->set_version("1.0");
    request.mutable_worker()->set_memory_bytes(int64_t{1} << 40);
    request.set_wait_seconds(wait_seconds);
    return request;
  }
  v1::Lease Lease(double wait_seconds = 30) {
    v1::AcquireLeaseResponse response;
    const grpc::Status status =
        Call(&Stub::AcquireLease, LeaseRequest(wait_seconds), &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.lease();
  }

  v1::WorkerDirective Beat(const v1::LeaseKey& key,
                           v1::HeartbeatResponse* response = nullptr) {
    v1::HeartbeatRequest request;
    *request.mutable_lease() = key;
    v1::HeartbeatResponse ignored;
    if (response == nullptr) response = &ignored;
    EXPECT_TRUE(Call(&Stub::Heartbeat, request, response).ok());
    return response->directive();
  }

  grpc::Status Complete(const v1::LeaseKey& key,
                        const std::string& checkpoint_id) {
    v1::CompleteRequest request;
    *request.mutable_lease() = key;
    request.mutable_trained()->set_checkpoint_id(checkpoint_id);
    return Call(&Stub::Complete, request);
  }

  // The bytes from `offset` on, appended to `text`.
  template <typename Request, typename Response>
  grpc::Status Fetch(std::unique_ptr<grpc::ClientReader<Response>> (
                         Stub::*method)(grpc::ClientContext*, const Request&),
                     const v1::LeaseKey& key, const std::string& sha256,
                     int64_t offset, std::string* text) {
    Request request;
    *request.mutable_lease() = key;
    request.set_sha256(sha256);
    request.set_offset(offset);
    grpc::ClientContext context;
    const auto reader = (stub_.get()->*method)(&context, request);
    Response message;
    while (reader->Read(&message)) {
      const v1::TransferChunk& chunk = message.chunk();
      EXPECT_EQ(chunk.offset(), offset);
      EXPECT_EQ(chunk.crc32c(), CrcOf(chunk.data()));
      offset += static_cast<int64_t>(chunk.data().size());
      *text += chunk.data();
    }
    return reader->Finish();
  }

  static v1::UploadHeader Header(const v1::LeaseKey& key,
                                 const std::string& upload_id,
                                 const std::vector<File>& files) {
    v1::UploadHeader header;
    *header.mutable_lease() = key;
    header.set_upload_id(upload_id);
    header.set_step(100);
    for (const File& file : files) {
      v1::StoredFile* stored = header.add_files();
      stored->set_path(file.name);
      stored->set_size_bytes(static_cast<int64_t>(file.content.size()));
      stored->set_sha256(DigestOf(file.content));
    }
    return header;
  }

  v1::GetUploadResponse Position(const v1::LeaseKey& key,
                                 const std::string& upload_id) {
    v1::GetUploadRequest request;
    *request.mutable_lease() = key;
    request.set_upload_id(upload_id);
    v1::GetUploadResponse response;
    EXPECT_EQ(Short(Call(&Stub::GetUpload, request, &response)), "OK");
    return response;
  }

  // Whether everything before this place comes to the server.
  bool Arrived(const v1::UploadHeader& header, size_t file, size_t offset) {
    for (int i = 0; i < 2000; ++i) {
      const v1::GetUploadResponse at =
          Position(header.lease(), header.upload_id());
      if (at.file_index() == file &&
          at.offset() == static_cast<int64_t>(offset)) {
        return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }

  // Sends from where the server is, breaking off after `max_chunks`.
  template <typename Request, typename Response>
  grpc::Status Send(std::unique_ptr<grpc::ClientWriter<Request>> (
                        Stub::*method)(grpc::ClientContext*, Response*),
                    const Request& header_message,
                    const v1::UploadHeader& header,
                    const std::vector<File>& files, Response* response,
                    int max_chunks = 1 << 20) {
    constexpr size_t kChunk = 20000;
    const v1::GetUploadResponse at =
        Position(header.lease(), header.upload_id());
    grpc::ClientContext context;
    const auto writer = (stub_.get()->*method)(&context, response);
    writer->Write(header_message);
    auto offset = static_cast<size_t>(at.offset());
    for (size_t i = at.file_index(); i < files.size() && !at.complete(); ++i) {
      for (; offset < files[i].content.size(); offset += kChunk) {
        if (max_chunks-- == 0) {
          EXPECT_TRUE(Arrived(header, i, offset));
          context.TryCancel();
          return writer->Finish();
        }
        Request message;
        v1::TransferChunk* chunk = message.mutable_chunk();
        chunk->set_file_index(static_cast<uint32_t>(i));
        chunk->set_offset(static_cast<int64_t>(offset));
        chunk->set_data(files[i].content.substr(offset, kChunk));
        chunk->set_crc32c(CrcOf(chunk->data()));
        if (!writer->Write(message)) return writer->Finish();
      }
      offset = 0;
    }
    writer->WritesDone();
    return writer->Finish();
  }
  grpc::Status SendSnapshot(const v1::LeaseKey& key, const std::string& id,
                            const std::vector<File>& files,
                            int max_chunks = 1 << 20) {
    v1::UploadSnapshotRequest message;
    *message.mutable_header() = Header(key, id, files);
    v1::UploadSnapshotResponse response;
    return Send(&Stub::UploadSnapshot, message, message.header(), files,
                &response, max_chunks);
  }
  grpc::Status SendCheckpoint(const v1::LeaseKey& key, const std::string& id,
                              const std::vector<File>& files,
                              v1::UploadCheckpointResponse* response,
                              int max_chunks = 1 << 20) {
    v1::UploadCheckpointRequest message;
    *message.mutable_header()->mutable_upload() = Header(key, id, files);
    message.mutable_header()->mutable_evaluation()->set_perplexity(7);
    return Send(&Stub::UploadCheckpoint, message, message.header().upload(),
                files, response, max_chunks);
  }

  v1::QatJob WaitFor(const std::string& job_id) {
    v1::QatJob job;
    for (int i = 0; i < 6000 && !IsFinalState(job.state()); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      job = *store_->Get(job_id);
    }
    return job;
  }

  std::atomic<double> duty_ratio_ = 1;
  CallTracker calls_;
  std::unique_ptr<UploadStore> uploads_;
  std::unique_ptr<CheckpointPublisher> publisher_;
  std::unique_ptr<UploadAcceptor> acceptor_;
  std::unique_ptr<JobDriver> driver_;
  std::unique_ptr<TrainerWorkerService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Stub> stub_;
};

TEST_F(TrainerWorkerServiceTest, AWorkerTakesAJobFromTheQueueToTheAlias) {
  // It waits for a job that comes later.
  v1::Lease lease;
  std::thread waiting([&] { lease = Lease(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  NewQatJob job = Job();
  job.spec.mutable_gate()->set_max_perplexity_ratio(1.5);
  const std::string job_id = store_->Submit(job)->job.job_id();
  waiting.join();
  const v1::LeaseKey& key = lease.key();
  ASSERT_EQ(key.job_id(), job_id);
  EXPECT_EQ(key.epoch(), 1);
  EXPECT_GT(lease.ttl_seconds(), lease.heartbeat_seconds());
  EXPECT_FALSE(lease.has_snapshot());

  // Inputs, each in two calls.
  ASSERT_GE(lease.base_files_size(), 4);
  for (const v1::StoredFile& file : lease.base_files()) {
    EXPECT_NE(file.path(), "manifest.json");
    std::string text = ReadAll(TinyBpeDirectory() + "/" + file.path());
    text.resize(text.size() / 2);
    ASSERT_TRUE(Fetch(&Stub::FetchBase, key, file.sha256(),
                      static_cast<int64_t>(text.size()), &text)
                    .ok());
    EXPECT_EQ(DigestOf(text), file.sha256());
  }
  ASSERT_EQ(lease.datasets_size(), 1);
  std::string text;
  ASSERT_TRUE(
      Fetch(&Stub::FetchDataset, key, lease.datasets(0).sha256(), 0, &text)
          .ok());
  EXPECT_EQ(text, ValidationText());
  const int64_t size = lease.datasets(0).size_bytes();
  EXPECT_EQ(lease.validation().size_bytes(), size);
  EXPECT_TRUE(Fetch(&Stub::FetchDataset, key, TextDigest(), size, &text).ok());
  EXPECT_EQ(
      Short(Fetch(&Stub::FetchDataset, key, TextDigest(), size + 1, &text)),
      "OUT_OF_RANGE OFFSET_OUT_OF_RANGE offset");
  EXPECT_EQ(
      Short(Fetch(&Stub::FetchDataset, key, "../../jobs.sqlite", 0, &text)),
      "NOT_FOUND DATASET_NOT_FOUND");
  EXPECT_EQ(Short(Fetch(&Stub::FetchBase, key, TextDigest(), 0, &text)),
            "NOT_FOUND SOURCE_NOT_FOUND");
  EXPECT_EQ(Short(Fetch(&Stub::FetchSnapshot, key, TextDigest(), 0, &text)),
            "NOT_FOUND SOURCE_NOT_FOUND");

  // Heartbeats and events.
  v1::HeartbeatResponse heart;
  EXPECT_EQ(Beat(key, &heart), v1::WORKER_DIRECTIVE_CONTINUE);
  EXPECT_GT(heart.ttl_seconds(), 1);
  duty_ratio_ = 0.25;
  EXPECT_EQ(Beat(key, &heart), v1::WORKER_DIRECTIVE_THROTTLE);
  EXPECT_EQ(heart.duty_ratio(), 0.25);
  v1::ReportEventsRequest events;
  *events.mutable_lease() = key;
  v1::WorkerEvent* event = events.add_events();
  event->set_worker_sequence(1);
  event->mutable_log()->set_text("hello");
  v1::ReportEventsResponse stored;
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(Call(&Stub::ReportEvents, events, &stored).ok());
    EXPECT_EQ(stored.stored_through(), 1);
  }
  const auto all = store_->EventsAfter(job_id, 0, 100)->events;
  EXPECT_EQ(std::count_if(
                all.begin(), all.end(),
                [](const auto& one) { return one.log().text() == "hello"; }),
            1);

  // A checkpoint that breaks off, goes on and ends; then the same again.
  const std::vector<File> files = FilesOf(MakeCheckpoint("pot4", false));
  v1::UploadCheckpointResponse uploaded;
  EXPECT_FALSE(SendCheckpoint(key, "last", files, &uploaded, 3).ok());
  grpc::Status status = SendCheckpoint(key, "last", files, &uploaded);
  for (int i = 0; i < 100 && !status.ok(); ++i) {
    // The broken call may still have been writing.
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    status = SendCheckpoint(key, "last", files, &uploaded);
  }
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(uploaded.checkpoint().checkpoint_id(), "last");
  EXPECT_EQ(uploaded.checkpoint().step(), 100);
  EXPECT_EQ(uploaded.checkpoint().digest().size(), 64);
  EXPECT_TRUE(uploaded.checkpoint().best());
  EXPECT_TRUE(Position(key, "last").complete());
  v1::UploadCheckpointResponse again;
  ASSERT_TRUE(SendCheckpoint(key, "last", files, &again).ok());
  EXPECT_EQ(again.checkpoint().digest(), uploaded.checkpoint().digest());
  EXPECT_EQ(store_->ListCheckpoints(job_id)->size(), 1);

  // The end, twice; gate and publication follow by themselves.
  EXPECT_EQ(Short(Complete(key, "none")), "NOT_FOUND CHECKPOINT_NOT_FOUND");
  EXPECT_TRUE(Complete(key, "last").ok());
  EXPECT_TRUE(Complete(key, "last").ok());
  const v1::QatJob done = WaitFor(job_id);
  EXPECT_EQ(done.state(), v1::QAT_JOB_STATE_SUCCEEDED) << done.state_message();
  EXPECT_EQ(done.published().sha256(), uploaded.checkpoint().digest());
  EXPECT_EQ(Default(), 2);
  EXPECT_EQ(History().front().comment, "qat job " + job_id);
  EXPECT_EQ(Beat(key), v1::WORKER_DIRECTIVE_LEASE_LOST);
}

TEST_F(TrainerWorkerServiceTest, APausedJobGoesOnElsewhereAndTheOldLeaseNot) {
  const std::string job_id = store_->Submit(Job())->job.job_id();
  const v1::LeaseKey old_key = Lease().key();
  ASSERT_TRUE(store_->Pause(job_id, "alice").ok());
  EXPECT_EQ(Beat(old_key), v1::WORKER_DIRECTIVE_PAUSE);
  const std::vector<File> files = {{"state", std::string(50000, 's')},
                                   {"weights", std::string(70000, 'w')}};
  // Broken off after two of seven chunks; it is no snapshot before the end.
  EXPECT_FALSE(SendSnapshot(old_key, "snap", files, 2).ok());
  EXPECT_FALSE(store_->LeaseSnapshot(old_key)->has_value());
  grpc::Status status = SendSnapshot(old_key, "snap", files);
  for (int i = 0; i < 100 && !status.ok(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    status = SendSnapshot(old_key, "snap", files);
  }
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(Position(old_key, "snap").complete());
  ASSERT_TRUE(SendSnapshot(old_key, "snap", files).ok());
  v1::CompleteRequest released;
  *released.mutable_lease() = old_key;
  released.mutable_released();
  v1::CompleteResponse state;
  ASSERT_TRUE(Call(&Stub::Complete, released, &state).ok());
  EXPECT_EQ(state.state(), v1::QAT_JOB_STATE_PAUSED);
  EXPECT_FALSE(Lease(0).has_key());

  ASSERT_TRUE(store_->Resume(job_id, "alice").ok());
  const v1::Lease lease = Lease();
  EXPECT_EQ(lease.key().epoch(), 2);
  EXPECT_EQ(lease.snapshot().step(), 100);
  ASSERT_EQ(lease.snapshot().files_size(), 2);
  std::string text;
  ASSERT_TRUE(Fetch(&Stub::FetchSnapshot, lease.key(),
                    lease.snapshot().files(1).sha256(), 0, &text)
                  .ok());
  EXPECT_EQ(text, files[1].content);

  // The worker of the first lease comes back and is refused everywhere.
  const std::string stale = "ABORTED STALE_LEASE";
  EXPECT_EQ(Beat(old_key), v1::WORKER_DIRECTIVE_LEASE_LOST);
  v1::ReportEventsRequest events;
  *events.mutable_lease() = old_key;
  EXPECT_EQ(Short(Call(&Stub::ReportEvents, events)), stale);
  EXPECT_EQ(Short(Fetch(&Stub::FetchDataset, old_key, TextDigest(), 0, &text)),
            stale);
  EXPECT_EQ(Short(Fetch(&Stub::FetchBase, old_key, TextDigest(), 0, &text)),
            stale);
  v1::UploadSnapshotResponse snapshot;
  grpc::ClientContext context;
  const auto writer = stub_->UploadSnapshot(&context, &snapshot);
  v1::UploadSnapshotRequest header;
  *header.mutable_header() = Header(old_key, "late", files);
  writer->Write(header);
  writer->WritesDone();
  EXPECT_EQ(Short(writer->Finish()), stale);
  EXPECT_EQ(Short(Complete(old_key, "last")), stale);
}

TEST_F(TrainerWorkerServiceTest, CorruptCheckpointsAreDataLossAndNotListed) {
  const std::string job_id = store_->Submit(Job())->job.job_id();
  const v1::LeaseKey key = Lease().key();
  const std::vector<File> good = FilesOf(MakeCheckpoint("pot4", false));
  const auto send = [&](const std::string& id, const std::vector<File>& files) {
    v1::UploadCheckpointResponse response;
    return SendCheckpoint(key, id, files, &response);
  };
  // Cut, with digests that say so.
  std::vector<File> files = good;
  for (File& file : files) {
    if (file.name == "model.pot.safetensors") {
      file.content.resize(file.content.size() / 2);
    }
  }
  const grpc::Status cut = send("cut", files);
  EXPECT_EQ(Short(cut), "DATA_LOSS CORRUPT_CHECKPOINT");
  EXPECT_THAT(cut.error_message(), ::testing::Not(HasSubstr(jobs_root_)));
  // Nothing of it is left, so that it can be sent again from the beginning.
  EXPECT_EQ(Position(key, "cut").file_index(), 0);
  // No exponents.
  EXPECT_EQ(Short(send("floats", FilesOf(TinyBpeDirectory()))),
            "DATA_LOSS CORRUPT_CHECKPOINT");
  // Another announced digest than that of what comes.
  v1::UploadCheckpointRequest message;
  *message.mutable_header()->mutable_upload() = Header(key, "other", good);
  message.mutable_header()->mutable_upload()->mutable_files(0)->set_sha256(
      std::string(64, 'a'));
  v1::UploadCheckpointResponse response;
  EXPECT_EQ(Short(Send(&Stub::UploadCheckpoint, message,
                       message.header().upload(), good, &response)),
            "DATA_LOSS CHECKSUM_MISMATCH");
  EXPECT_TRUE(store_->ListCheckpoints(job_id)->empty());
  EXPECT_TRUE(send("cut", good).ok());
  EXPECT_EQ(store_->ListCheckpoints(job_id)->size(), 1);
  // The same identifier does not stand for other files.
  EXPECT_EQ(Short(send("cut", FilesOf(MakeCheckpoint("pot3", false)))),
            "ALREADY_EXISTS CHECKPOINT_EXISTS");
}

TEST_F(TrainerWorkerServiceTest, WaitingEndsInTime) {
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_FALSE(Lease(0.1).has_key());
  EXPECT_GE(std::chrono::steady_clock::now() - begin,
            std::chrono::milliseconds(100));
  // The same worker over a new connection: only the newest call waits on.
  v1::Lease first;
  std::thread waiting([&] { first = Lease(60); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(Lease(0.2).has_key());
  waiting.join();
  EXPECT_FALSE(first.has_key());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
}

TEST_F(TrainerWorkerServiceTest, RefusesWhatTheContractRulesOut) {
  const std::string invalid = "INVALID_ARGUMENT INVALID_FIELD ";
  v1::AcquireLeaseRequest acquire = LeaseRequest(61);
  EXPECT_EQ(Short(Call(&Stub::AcquireLease, acquire)),
            invalid + "wait_seconds");
  acquire = LeaseRequest(std::nan(""));
  EXPECT_EQ(Short(Call(&Stub::AcquireLease, acquire)),
            invalid + "wait_seconds");
  acquire = LeaseRequest(0);
  acquire.mutable_worker()->set_name("a b");
  EXPECT_EQ(Short(Call(&Stub::AcquireLease, acquire)), invalid + "worker.name");

  v1::HeartbeatRequest heartbeat;
  heartbeat.mutable_lease()->set_job_id("qat-1");
  EXPECT_EQ(Short(Call(&Stub::Heartbeat, heartbeat)), invalid + "lease.epoch");
  heartbeat.mutable_lease()->set_epoch(1);
  heartbeat.mutable_progress()->set_step(-1);
  EXPECT_EQ(Short(Call(&Stub::Heartbeat, heartbeat)),
            invalid + "progress.step");

  v1::ReportEventsRequest events;
  *events.mutable_lease() = heartbeat.lease();
  for (int i = 0; i < 257; ++i) events.add_events()->set_worker_sequence(i + 1);
  EXPECT_EQ(Short(Call(&Stub::ReportEvents, events)), invalid + "events");
  v1::CompleteRequest complete;
  *complete.mutable_lease() = heartbeat.lease();
  EXPECT_EQ(Short(Call(&Stub::Complete, complete)),
            "INVALID_ARGUMENT MISSING_FIELD outcome");

  // A chunk before the header, and nothing at all.
  for (const bool chunk : {true, false}) {
    grpc::ClientContext context;
    v1::UploadSnapshotResponse response;
    const auto writer = stub_->UploadSnapshot(&context, &response);
    v1::UploadSnapshotRequest message;
    message.mutable_chunk()->set_data("x");
    if (chunk) writer->Write(message);
    writer->WritesDone();
    EXPECT_EQ(Short(writer->Finish()), "INVALID_ARGUMENT MISSING_FIELD header");
  }
}

}  // namespace
}  // namespace pot
