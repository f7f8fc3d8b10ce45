// TrainingService over a channel in this process; the worker's side is the
// store's own.
#include "server/rpc/training_service.h"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/rpc/submit_qat.h"
#include "server/training/job_files.h"
#include "tests/server/rpc/model_service_testing.h"

namespace pot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Stub = v1::TrainingService::Stub;

class TrainingServiceTest : public testing::Test {
 protected:
  void SetUp() override {
    SilenceProtobufUtf8Errors();
    files_.AddFloat("tiny");
    files_.AddPot("tiny", "pot4");
    repository_ = files_.Open();
    root_ = files_.root() + "/.training";
    ASSERT_TRUE(MakeJobDirectories(root_).ok());
    QatJobStoreOptions store;
    store.path = JobDatabasePath(root_);
    jobs_ = *QatJobStore::Open(std::move(store));
    DatasetStoreOptions data;
    data.root = root_;
    data.max_bytes = 1 << 20;
    data.disk_reserve_bytes = 0;
    datasets_ = *DatasetStore::Open(jobs_.get(), std::move(data));
    publisher_ = std::make_unique<CheckpointPublisher>(repository_.get());
    TrainingServiceOptions options;
    options.jobs = jobs_.get();
    options.datasets = datasets_.get();
    options.repository = repository_.get();
    options.publisher = publisher_.get();
    options.calls = &calls_;
    options.root = root_;
    options.engine = "pot/test";
    options.actor = [](const grpc::CallbackServerContext&) {
      return std::string("alice");
    };
    service_ = std::make_unique<TrainingService>(std::move(options));
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    stub_ = v1::TrainingService::NewStub(grpc::CreateChannel(
        absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));
  }
  void TearDown() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  static void SetDeadline(grpc::ClientContext* context) {
    context->set_deadline(std::chrono::system_clock::now() +
                          std::chrono::seconds(60));
  }
  template <typename Request, typename Response>
  grpc::Status Call(grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                 const Request&, Response*),
                    const Request& request, Response* response) {
    grpc::ClientContext context;
    SetDeadline(&context);
    return (stub_.get()->*method)(&context, request, response);
  }
  // The error of a call about a job, or its state.
  template <typename Request, typename Response>
  std::string Steer(grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                 const Request&, Response*),
                    const std::string& job_id) {
    Request request;
    request.set_job_id(job_id);
    Response response;
    const grpc::Status status = Call(method, request, &response);
    return status.ok() ? v1::QatJobState_Name(response.job().state())
                       : Short(status);
  }

  grpc::Status Upload(const std::vector<v1::UploadDatasetRequest>& messages,
                      v1::UploadDatasetResponse* response) {
    grpc::ClientContext context;
    SetDeadline(&context);
    const auto writer = stub_->UploadDataset(&context, response);
    for (const auto& message : messages) {
      if (!writer->Write(message)) break;
    }
    writer->WritesDone();
    return writer->Finish();
  }
  static v1::UploadDatasetRequest Header(const std::string& sha256,
                                         size_t size) {
    v1::UploadDatasetRequest message;
    message.mutable_header()->set_name("corpus");
    message.mutable_header()->set_sha256(sha256);
    message.mutable_header()->set_size_bytes(static_cast<int64_t>(size));
    return message;
  }
  static v1::UploadDatasetRequest Data(const std::string& bytes) {
    v1::UploadDatasetRequest message;
    message.set_data(bytes);
    return message;
  }
  // A text that jobs can use.
  std::string UploadText() {
    std::string text;
    for (int i = 0; i < 2000; ++i) absl::StrAppend(&text, "word ", i, "\n");
    v1::UploadDatasetResponse response;
    const grpc::Status status =
        Upload({Header(DigestOf(text), text.size()), Data(text)}, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.dataset().sha256();
  }

  v1::SubmitQatRequest Submission() {
    v1::SubmitQatRequest request;
    v1::QatJobSpec* const spec = request.mutable_spec();
    spec->mutable_base()->set_name("tiny");
    spec->mutable_base()->set_version(1);
    spec->mutable_data()->mutable_datasets()->add_sha256(UploadText());
    spec->mutable_quantization()->set_format("pot4");
    return request;
  }
  std::string Submit() {
    v1::SubmitQatResponse response;
    const grpc::Status status = Call(&Stub::SubmitQat, Submission(), &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.job().job_id();
  }
  v1::LeaseKey Lease() {
    v1::WorkerInfo worker;
    worker.set_name("w");
    worker.set_memory_bytes(int64_t{1} << 40);
    const auto lease = jobs_->AcquireLease(worker);
    EXPECT_TRUE(lease.ok() && lease->has_value());
    return (*lease)->key;
  }
  // As a worker uploads it: the quantized version's files.
  void AddCheckpoint(const v1::LeaseKey& lease, const std::string& id) {
    const std::string directory = lease.job_id() + "/checkpoints/" + id;
    std::filesystem::create_directories(JobDirectory(root_, directory));
    std::filesystem::copy(files_.root() + "/tiny/2",
                          JobDirectory(root_, directory));
    v1::JobCheckpoint checkpoint;
    checkpoint.set_checkpoint_id(id);
    checkpoint.mutable_evaluation()->set_perplexity(5);
    EXPECT_TRUE(jobs_->AddCheckpoint(lease, checkpoint, directory).ok());
  }
  static v1::WorkerEvent Line(int64_t sequence) {
    v1::WorkerEvent event;
    event.set_worker_sequence(sequence);
    event.mutable_log()->set_text(absl::StrCat("line ", sequence));
    return event;
  }

  // Everything from `after` on until the stream ends.
  grpc::Status Watch(const std::string& job_id, int64_t after,
                     std::vector<v1::WatchJobResponse>* messages) {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::WatchJobRequest request;
    request.set_job_id(job_id);
    request.set_after_sequence(after);
    const auto reader = stub_->WatchJob(&context, request);
    v1::WatchJobResponse message;
    while (reader->Read(&message)) messages->push_back(message);
    return reader->Finish();
  }

  RepositoryForTest files_;
  CallTracker calls_;
  std::string root_;
  std::unique_ptr<ModelRepository> repository_;
  std::unique_ptr<QatJobStore> jobs_;
  std::unique_ptr<DatasetStore> datasets_;
  std::unique_ptr<CheckpointPublisher> publisher_;
  std::unique_ptr<TrainingService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Stub> stub_;
};

TEST_F(TrainingServiceTest, UploadsATextOnce) {
  const std::string text = "some text\n";
  const auto header = Header(DigestOf(text), text.size());
  v1::UploadDatasetResponse response;
  grpc::Status status =
      Upload({header, Data("some "), Data("text\n")}, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_FALSE(response.deduplicated());
  EXPECT_EQ(response.dataset().sha256(), DigestOf(text));
  EXPECT_EQ(response.dataset().name(), "corpus");
  // The second time, nobody reads beyond the header.
  status = Upload({header, Data("whatever")}, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(response.deduplicated());
}

TEST_F(TrainingServiceTest, RefusesUploadsThatAreNone) {
  const std::string digest(64, 'a');
  const struct {
    std::vector<v1::UploadDatasetRequest> messages;
    const char* error;
  } cases[] = {
      {{}, "INVALID_ARGUMENT MISSING_FIELD header"},
      {{Data("x")}, "INVALID_ARGUMENT MISSING_FIELD header"},
      {{v1::UploadDatasetRequest()}, "INVALID_ARGUMENT MISSING_FIELD part"},
      {{Header(digest, 2), Header(digest, 2)},
       "INVALID_ARGUMENT MISSING_FIELD data"},
      {{Header("AA", 2)}, "INVALID_ARGUMENT INVALID_FIELD header.sha256"},
      {{Header(digest, 0)}, "INVALID_ARGUMENT INVALID_FIELD header.size_bytes"},
      {{Header(digest, (1 << 20) + 1)},
       "RESOURCE_EXHAUSTED UPLOAD_TOO_LARGE header.size_bytes"},
      {{Header(digest, 2), Data("")}, "INVALID_ARGUMENT INVALID_FIELD data"},
      {{Header(digest, 2), Data("\xff")}, "INVALID_ARGUMENT INVALID_UTF8 data"},
      {{Header(digest, 2), Data("ab")}, "DATA_LOSS CHECKSUM_MISMATCH"},
      {{Header(digest, 2), Data("a")}, "DATA_LOSS CHECKSUM_MISMATCH"},
      {{Header(digest, 2), Data("abc")}, "DATA_LOSS CHECKSUM_MISMATCH"},
  };
  for (const auto& [messages, error] : cases) {
    v1::UploadDatasetResponse response;
    EXPECT_EQ(Short(Upload(messages, &response)), error);
  }
  EXPECT_TRUE(std::filesystem::is_empty(DatasetsDirectory(root_)));
}

TEST_F(TrainingServiceTest, UploadsOfClientsThatLeaveVanish) {
  for (int i = 0; i < 30; ++i) {
    grpc::ClientContext context;
    v1::UploadDatasetResponse response;
    const auto writer = stub_->UploadDataset(&context, &response);
    const std::string digest(64, static_cast<char>('a' + i % 6));
    writer->Write(Header(digest, 100));
    // At another moment in each round.
    if (i % 3 > 0) writer->Write(Data("some text"));
    if (i % 3 > 1) writer->WritesDone();
    std::this_thread::sleep_for(std::chrono::microseconds(i * 37 % 500));
    context.TryCancel();
    EXPECT_FALSE(writer->Finish().ok());
  }
  const absl::Time deadline = absl::Now() + absl::Seconds(10);
  while (absl::Now() < deadline &&
         (calls_.running() > 0 ||
          !std::filesystem::is_empty(DatasetsDirectory(root_)))) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(calls_.running(), 0);
  EXPECT_TRUE(std::filesystem::is_empty(DatasetsDirectory(root_)));
}

TEST_F(TrainingServiceTest, SubmitsWithEveryDefaultAndAnEstimate) {
  v1::SubmitQatRequest request = Submission();
  request.mutable_spec()->mutable_distillation();
  request.set_idempotency_key("key");
  request.set_dry_run(true);
  v1::SubmitQatResponse dry;
  grpc::Status status = Call(&Stub::SubmitQat, request, &dry);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(dry.job().job_id(), "");
  EXPECT_EQ(dry.job().spec().batch().context(), 64);
  EXPECT_EQ(dry.job().spec().publish().name(), "tiny");
  const std::string digest =
      repository_->Get({.name = "tiny", .version = 1})->digest;
  EXPECT_EQ(dry.job().spec().base().digest(), digest);
  EXPECT_EQ(dry.job().spec().distillation().teacher().digest(), digest);
  EXPECT_EQ(dry.estimate().tokens_per_step(), 12 * 64);
  EXPECT_GT(dry.estimate().epochs(), 0);
  EXPECT_FALSE(dry.estimate().has_duration_seconds());
  EXPECT_TRUE(jobs_->List({}, 10, "")->jobs.empty());

  request.set_dry_run(false);
  v1::SubmitQatResponse first;
  ASSERT_TRUE(Call(&Stub::SubmitQat, request, &first).ok());
  EXPECT_EQ(first.job().state(), v1::QAT_JOB_STATE_QUEUED);
  EXPECT_EQ(first.job().submitter(), "alice");
  EXPECT_EQ(first.job().spec().SerializeAsString(),
            dry.job().spec().SerializeAsString());
  v1::SubmitQatResponse again;
  ASSERT_TRUE(Call(&Stub::SubmitQat, request, &again).ok());
  EXPECT_TRUE(again.existing());
  EXPECT_EQ(again.job().job_id(), first.job().job_id());
  EXPECT_EQ(again.estimate().memory_bytes(), dry.estimate().memory_bytes());
  request.mutable_spec()->set_seed(7);
  EXPECT_EQ(Short(Call(&Stub::SubmitQat, request, &again)),
            "ALREADY_EXISTS IDEMPOTENCY_MISMATCH idempotency_key");
}

TEST_F(TrainingServiceTest, RefusesWhatCannotBeTrained) {
  const v1::SubmitQatRequest good = Submission();
  const auto refused = [&](auto change) {
    v1::SubmitQatRequest request = good;
    change(&request);
    v1::SubmitQatResponse response;
    return Short(Call(&Stub::SubmitQat, request, &response));
  };
  EXPECT_EQ(refused([](auto* r) { r->clear_spec(); }),
            "INVALID_ARGUMENT MISSING_FIELD spec");
  EXPECT_EQ(refused([](auto* r) { r->mutable_spec()->clear_base(); }),
            "INVALID_ARGUMENT MISSING_FIELD spec.base");
  EXPECT_EQ(refused([](auto* r) { r->set_idempotency_key("\n"); }),
            "INVALID_ARGUMENT INVALID_FIELD idempotency_key");
  EXPECT_EQ(refused([](auto* r) {
              r->mutable_spec()->mutable_base()->set_name("../x");
            }),
            "INVALID_ARGUMENT INVALID_FIELD spec.base.name");
  EXPECT_THAT(refused([](auto* r) {
                r->mutable_spec()->mutable_base()->set_name("unknown");
              }),
              HasSubstr("NOT_FOUND MODEL_NOT_FOUND"));
  EXPECT_THAT(refused([](auto* r) {
                r->mutable_spec()->mutable_base()->set_version(2);
              }),
              HasSubstr("FAILED_PRECONDITION BASE_NOT_FLOAT"));
  EXPECT_THAT(
      refused([](auto* r) {
        v1::ModelRef* const teacher =
            r->mutable_spec()->mutable_distillation()->mutable_teacher();
        teacher->set_name("tiny");
        teacher->set_version(2);
      }),
      HasSubstr("FAILED_PRECONDITION BASE_NOT_FLOAT"));
  EXPECT_THAT(refused([](auto* r) {
                r->mutable_spec()->mutable_data()->set_validation_sha256(
                    std::string(64, 'b'));
              }),
              HasSubstr("NOT_FOUND DATASET_NOT_FOUND"));
  EXPECT_EQ(refused([](auto* r) {
              r->mutable_spec()->mutable_batch()->set_context(65);
            }),
            "INVALID_ARGUMENT INVALID_FIELD spec.batch.context");
  v1::UploadDatasetResponse response;
  ASSERT_TRUE(
      Upload({Header(DigestOf("short"), 5), Data("short")}, &response).ok());
  EXPECT_EQ(refused([](auto* r) {
              r->mutable_spec()->mutable_data()->set_validation_sha256(
                  DigestOf("short"));
            }),
            "INVALID_ARGUMENT INVALID_DATASET spec.data.validation_sha256");
  EXPECT_TRUE(jobs_->List({}, 10, "")->jobs.empty());
}

TEST_F(TrainingServiceTest, SteersListsAndDeletes) {
  const std::string first = Submit();
  const std::string second = Submit();
  EXPECT_EQ(Steer(&Stub::PauseJob, first), "QAT_JOB_STATE_PAUSED");
  EXPECT_EQ(Steer(&Stub::ResumeJob, first), "QAT_JOB_STATE_QUEUED");
  EXPECT_EQ(Steer(&Stub::StopEarlyAndPublish, first),
            "FAILED_PRECONDITION WRONG_JOB_STATE");
  EXPECT_EQ(Steer(&Stub::GetJob, "qat-99"), "NOT_FOUND JOB_NOT_FOUND");
  v1::DeleteJobRequest remove;
  v1::DeleteJobResponse removed;
  remove.set_job_id(first);
  EXPECT_EQ(Short(Call(&Stub::DeleteJob, remove, &removed)),
            "FAILED_PRECONDITION WRONG_JOB_STATE");
  v1::CancelJobRequest cancel;
  v1::CancelJobResponse cancelled;
  cancel.set_job_id(first);
  cancel.set_comment(std::string(513, 'x'));
  EXPECT_EQ(Short(Call(&Stub::CancelJob, cancel, &cancelled)),
            "INVALID_ARGUMENT INVALID_FIELD comment");
  cancel.set_comment("enough");
  ASSERT_TRUE(Call(&Stub::CancelJob, cancel, &cancelled).ok());
  EXPECT_EQ(cancelled.job().state_message(), "enough");

  v1::ListJobsRequest list;
  v1::ListJobsResponse listed;
  list.set_page_size(1);
  ASSERT_TRUE(Call(&Stub::ListJobs, list, &listed).ok());
  ASSERT_EQ(listed.jobs_size(), 1);
  EXPECT_EQ(listed.jobs(0).job_id(), second);
  list.set_page_token(listed.next_page_token());
  list.add_states(v1::QAT_JOB_STATE_CANCELLED);
  ASSERT_TRUE(Call(&Stub::ListJobs, list, &listed).ok());
  ASSERT_EQ(listed.jobs_size(), 1);
  EXPECT_EQ(listed.jobs(0).job_id(), first);
  EXPECT_EQ(listed.next_page_token(), "");
  list.set_page_size(1001);
  EXPECT_EQ(Short(Call(&Stub::ListJobs, list, &listed)),
            "INVALID_ARGUMENT INVALID_FIELD page_size");
  list.add_states(static_cast<v1::QatJobState>(99));
  EXPECT_EQ(Short(Call(&Stub::ListJobs, list, &listed)),
            "INVALID_ARGUMENT INVALID_FIELD states[1]");
  ASSERT_TRUE(Call(&Stub::DeleteJob, remove, &removed).ok());
  EXPECT_EQ(Steer(&Stub::GetJob, first), "NOT_FOUND JOB_NOT_FOUND");
}

TEST_F(TrainingServiceTest, WatchSendsOldEventsThenNewOnesToTheEnd) {
  const std::string id = Submit();
  const v1::LeaseKey lease = Lease();
  // More than a page before anybody watches.
  for (int64_t i = 1; i <= 70; ++i) {
    const v1::WorkerEvent event = Line(i);
    ASSERT_TRUE(jobs_->AppendWorkerEvents(lease, {&event, 1}).ok());
  }
  std::vector<v1::WatchJobResponse> messages;
  grpc::Status status;
  std::thread watcher([&] { status = Watch(id, 0, &messages); });
  for (int64_t i = 71; i <= 100; ++i) {
    const v1::WorkerEvent event = Line(i);
    ASSERT_TRUE(jobs_->AppendWorkerEvents(lease, {&event, 1}).ok());
  }
  ASSERT_TRUE(jobs_->Cancel(id, "bob", "").ok());
  v1::CompleteRequest complete;
  *complete.mutable_lease() = lease;
  complete.mutable_cancelled();
  ASSERT_TRUE(jobs_->Complete(complete).ok());
  watcher.join();
  EXPECT_TRUE(status.ok()) << status.error_message();
  // QUEUED, RUNNING, 100 lines, the request and CANCELLED.
  ASSERT_EQ(messages.size(), 104u);
  for (size_t i = 0; i < messages.size(); ++i) {
    EXPECT_EQ(messages[i].event().sequence(), static_cast<int64_t>(i) + 1);
    if (messages[i].event().has_state_change()) {
      EXPECT_TRUE(messages[i].has_job()) << i;
    }
  }
  EXPECT_EQ(messages.back().job().state(), v1::QAT_JOB_STATE_CANCELLED);
  EXPECT_FALSE(messages[50].has_job());

  // Resumed where it broke off, or when there is nothing more.
  messages.clear();
  ASSERT_TRUE(Watch(id, 102, &messages).ok());
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0].event().sequence(), 103);
  EXPECT_TRUE(messages[0].has_job());
  messages.clear();
  EXPECT_TRUE(Watch(id, 104, &messages).ok());
  EXPECT_TRUE(messages.empty());
  EXPECT_EQ(Short(Watch("qat-99", 0, &messages)), "NOT_FOUND JOB_NOT_FOUND");
  EXPECT_EQ(Short(Watch(id, -1, &messages)),
            "INVALID_ARGUMENT INVALID_FIELD after_sequence");
}

TEST_F(TrainingServiceTest, AWatchEndsWithItsClientOrItsJob) {
  const std::string id = Submit();
  v1::WatchJobRequest request;
  request.set_job_id(id);
  grpc::ClientContext leaving;
  const auto gone = stub_->WatchJob(&leaving, request);
  v1::WatchJobResponse message;
  ASSERT_TRUE(gone->Read(&message));
  leaving.TryCancel();
  EXPECT_FALSE(gone->Read(&message));
  EXPECT_EQ(gone->Finish().error_code(), grpc::StatusCode::CANCELLED);

  grpc::ClientContext context;
  SetDeadline(&context);
  const auto reader = stub_->WatchJob(&context, request);
  ASSERT_TRUE(reader->Read(&message));
  ASSERT_TRUE(jobs_->Cancel(id, "", "").ok());
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_EQ(message.event().state_change().to(), v1::QAT_JOB_STATE_CANCELLED);
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(TrainingServiceTest, PublishesByHandWhatPassedTheGateOrIsForced) {
  v1::SubmitQatRequest submission = Submission();
  submission.mutable_spec()->mutable_gate()->set_max_perplexity(4);
  submission.mutable_spec()->mutable_publish()->set_name("trained");
  submission.mutable_spec()->mutable_publish()->set_alias("best");
  v1::SubmitQatResponse submitted;
  ASSERT_TRUE(Call(&Stub::SubmitQat, submission, &submitted).ok());
  v1::PublishCheckpointRequest request;
  v1::PublishCheckpointResponse response;
  request.set_job_id(submitted.job().job_id());
  EXPECT_EQ(Short(Call(&Stub::PublishCheckpoint, request, &response)),
            "NOT_FOUND CHECKPOINT_NOT_FOUND");
  const v1::LeaseKey lease = Lease();
  AddCheckpoint(lease, "c");
  EXPECT_EQ(Short(Call(&Stub::PublishCheckpoint, request, &response)),
            "FAILED_PRECONDITION GATE_NOT_PASSED");
  v1::GateReport gate;
  gate.add_violations("perplexity 5 > 4");
  ASSERT_TRUE(jobs_->SetGateReport(lease.job_id(), "c", gate).ok());
  const grpc::Status refused =
      Call(&Stub::PublishCheckpoint, request, &response);
  EXPECT_EQ(Short(refused), "FAILED_PRECONDITION GATE_NOT_PASSED");
  EXPECT_THAT(refused.error_message(), HasSubstr("perplexity 5 > 4"));

  request.set_force(true);
  request.set_comment("we know better");
  const grpc::Status status =
      Call(&Stub::PublishCheckpoint, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.published().name(), "trained");
  EXPECT_EQ(response.published().version(), 1);
  EXPECT_EQ(response.published().engine(), "pot/test");
  const auto history = repository_->AliasHistory("trained", "best", 10);
  ASSERT_EQ(history->size(), 1u);
  EXPECT_EQ(history->front().to_version, 1);
  EXPECT_EQ(history->front().actor, "alice");
  EXPECT_THAT(history->front().comment, HasSubstr("we know better"));
  v1::ListCheckpointsRequest list;
  v1::ListCheckpointsResponse listed;
  list.set_job_id(lease.job_id());
  ASSERT_TRUE(Call(&Stub::ListCheckpoints, list, &listed).ok());
  ASSERT_EQ(listed.checkpoints_size(), 1);
  EXPECT_TRUE(listed.checkpoints(0).best());
  EXPECT_EQ(listed.checkpoints(0).published().version(), 1);
}

}  // namespace
}  // namespace pot
