#include "tests/bench/bench_client.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "pot/v1/inference.grpc.pb.h"
#include "pot/v1/model.grpc.pb.h"
#include "pot/v1/training.grpc.pb.h"
#include "tests/bench/timing.h"

namespace pot {
namespace {

constexpr size_t kPieceBytes = size_t{1} << 20;

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      status.error_message());
}

void SetDeadline(grpc::ClientContext* context, std::chrono::seconds patience) {
  context->set_wait_for_ready(true);
  context->set_deadline(std::chrono::system_clock::now() + patience);
}

constexpr std::chrono::seconds kPatience{60}, kStreamPatience{300};

}  // namespace

class BenchClient::Impl {
 public:
  explicit Impl(const std::string& address)
      : channel(
            grpc::CreateChannel(address, grpc::InsecureChannelCredentials())),
        inference(v1::InferenceService::NewStub(channel)),
        models(v1::ModelService::NewStub(channel)),
        training(v1::TrainingService::NewStub(channel)) {}

  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<v1::InferenceService::Stub> inference;
  const std::unique_ptr<v1::ModelService::Stub> models;
  const std::unique_ptr<v1::TrainingService::Stub> training;
  std::atomic<int64_t> prompts{0};
};

BenchClient::BenchClient(const std::string& address)
    : impl_(std::make_unique<Impl>(address)) {}

BenchClient::~BenchClient() = default;

absl::StatusOr<std::vector<double>> BenchClient::Stream(int64_t prompt_tokens,
                                                        int64_t new_tokens) {
  v1::GenerateStreamRequest request;
  v1::GenerateRequest& generate = *request.mutable_request();
  generate.mutable_model()->set_name("gpt2");
  const int64_t first = impl_->prompts.fetch_add(1);
  for (int64_t t = 0; t < prompt_tokens; ++t) {
    generate.mutable_token_ids()->add_ids((first + t * 7919) % 50257);
  }
  generate.mutable_sampling()->set_temperature(0);
  generate.mutable_stopping()->set_max_new_tokens(new_tokens);
  generate.mutable_stopping()->set_ignore_eos(true);
  generate.mutable_output()->set_return_token_ids(true);
  grpc::ClientContext context;
  SetDeadline(&context, kStreamPatience);
  const auto reader = impl_->inference->GenerateStream(&context, request);
  std::vector<double> seconds;
  int64_t tokens = 0;
  auto stopwatch = std::make_unique<Stopwatch>();
  v1::GenerateStreamResponse response;
  while (reader->Read(&response)) {
    if (!response.has_chunk()) continue;
    tokens += response.chunk().token_ids_size();
    seconds.push_back(stopwatch->Seconds());
    stopwatch = std::make_unique<Stopwatch>();
  }
  POT_RETURN_IF_ERROR(FromGrpc(reader->Finish()));
  if (tokens != new_tokens) {
    return absl::InternalError(
        absl::StrCat(tokens, " tokens came instead of ", new_tokens));
  }
  return seconds;
}

absl::StatusOr<v1::ModelVersion> BenchClient::WaitForModel(
    const std::string& name) {
  v1::GetModelRequest request;
  request.mutable_model()->set_name(name);
  for (int i = 0; i < 6000; ++i) {
    grpc::ClientContext context;
    SetDeadline(&context, kPatience);
    v1::GetModelResponse response;
    POT_RETURN_IF_ERROR(
        FromGrpc(impl_->models->GetModel(&context, request, &response)));
    if (response.version().state() == v1::MODEL_VERSION_STATE_AVAILABLE) {
      return response.version();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return absl::DeadlineExceededError(
      absl::StrCat("the server does not load ", name));
}

absl::StatusOr<std::string> BenchClient::SubmitQat(v1::QatJobSpec spec,
                                                   const std::string& text) {
  Sha256 sha256;
  sha256.Update({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  const std::string digest = sha256.HexDigest();
  {
    grpc::ClientContext context;
    SetDeadline(&context, kPatience);
    v1::UploadDatasetResponse response;
    const auto writer = impl_->training->UploadDataset(&context, &response);
    v1::UploadDatasetRequest request;
    request.mutable_header()->set_sha256(digest);
    request.mutable_header()->set_size_bytes(static_cast<int64_t>(text.size()));
    writer->Write(request);
    for (size_t at = 0; at < text.size(); at += kPieceBytes) {
      request.set_data(text.substr(at, kPieceBytes));
      writer->Write(request);
    }
    writer->WritesDone();
    POT_RETURN_IF_ERROR(FromGrpc(writer->Finish()));
  }
  grpc::ClientContext context;
  SetDeadline(&context, kPatience);
  v1::SubmitQatRequest request;
  *request.mutable_spec() = std::move(spec);
  request.mutable_spec()->mutable_data()->mutable_datasets()->add_sha256(
      digest);
  v1::SubmitQatResponse response;
  POT_RETURN_IF_ERROR(
      FromGrpc(impl_->training->SubmitQat(&context, request, &response)));
  return response.job().job_id();
}

absl::StatusOr<v1::QatJob> BenchClient::GetJob(const std::string& id) {
  grpc::ClientContext context;
  SetDeadline(&context, kPatience);
  v1::GetJobRequest request;
  request.set_job_id(id);
  v1::GetJobResponse response;
  POT_RETURN_IF_ERROR(
      FromGrpc(impl_->training->GetJob(&context, request, &response)));
  return response.job();
}

absl::Status BenchClient::CancelJob(const std::string& id) {
  grpc::ClientContext context;
  SetDeadline(&context, kPatience);
  v1::CancelJobRequest request;
  request.set_job_id(id);
  v1::CancelJobResponse response;
  return FromGrpc(impl_->training->CancelJob(&context, request, &response));
}

}  // namespace pot
