// A pot-server of fixed answers, on a free loopback port. It keeps what it was
// asked.
#ifndef POT_TESTS_CLIENT_FAKE_SERVER_H_
#define POT_TESTS_CLIENT_FAKE_SERVER_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "pot/v1/inference.grpc.pb.h"
#include "pot/v1/model.grpc.pb.h"
#include "tests/client/fake_training.h"

namespace pot {

// "tiny" versions 1 (f32, 1000 weight bytes) and 2 (pot4 row, 130 bytes).
v1::ModelVersion TinyVersion(int64_t version);

// INVALID_ARGUMENT with the details that the real server sends.
grpc::Status DetailedError(grpc::StatusCode code, const std::string& message,
                           const std::string& reason, const std::string& field);

class FakeInference final : public v1::InferenceService::Service {
 public:
  grpc::Status Generate(grpc::ServerContext* context,
                        const v1::GenerateRequest* request,
                        v1::GenerateResponse* response) override;
  // Writes "Hel", "lo" and the summary. With the prompt "forever" it writes
  // until it is cancelled, with "fail" it fails after the first chunk.
  grpc::Status GenerateStream(
      grpc::ServerContext* context, const v1::GenerateStreamRequest* request,
      grpc::ServerWriter<v1::GenerateStreamResponse>* writer) override;
  grpc::Status Score(grpc::ServerContext* context,
                     const v1::ScoreRequest* request,
                     v1::ScoreResponse* response) override;
  // Counts bytes as tokens. Version 1 has perplexity 4, others 5.
  grpc::Status Perplexity(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::PerplexityResponse, v1::PerplexityRequest>*
          stream) override;
  // The bytes of the text.
  grpc::Status Tokenize(grpc::ServerContext* context,
                        const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override;
  grpc::Status Detokenize(grpc::ServerContext* context,
                          const v1::DetokenizeRequest* request,
                          v1::DetokenizeResponse* response) override;

  v1::GenerateRequest generated;
  std::vector<std::string> prompts;
  v1::ScoreRequest scored;
  v1::PerplexityOptions options;
  std::string perplexity_text;
  std::atomic<bool> cancelled = false;
  // Calls to fail with UNAVAILABLE before answering one.
  int unavailable_calls = 0;
  grpc::Status error;
  // Of every GenerateStream.
  grpc::Status stream_error;
  // For those who ask for one.
  std::optional<v1::ReplayReceipt> receipt;

 private:
  // GenerateStream runs several at a time.
  std::mutex mutex_;
};

class FakeModels final : public v1::ModelService::Service {
 public:
  grpc::Status ListModels(grpc::ServerContext* context,
                          const v1::ListModelsRequest* request,
                          v1::ListModelsResponse* response) override;
  grpc::Status GetModel(grpc::ServerContext* context,
                        const v1::GetModelRequest* request,
                        v1::GetModelResponse* response) override;
  grpc::Status WatchModels(
      grpc::ServerContext* context, const v1::WatchModelsRequest* request,
      grpc::ServerWriter<v1::WatchModelsResponse>* writer) override;
  grpc::Status RegisterCheckpoint(
      grpc::ServerContext* context,
      grpc::ServerReader<v1::RegisterCheckpointRequest>* reader,
      v1::RegisterCheckpointResponse* response) override;
  grpc::Status ImportModel(
      grpc::ServerContext* context, const v1::ImportModelRequest* request,
      grpc::ServerWriter<v1::ImportModelResponse>* writer) override;
  grpc::Status SetAlias(grpc::ServerContext* context,
                        const v1::SetAliasRequest* request,
                        v1::SetAliasResponse* response) override;
  grpc::Status DeleteVersion(grpc::ServerContext* context,
                             const v1::DeleteVersionRequest* request,
                             v1::DeleteVersionResponse* response) override;

  // In ListModels.
  std::vector<v1::ModelVersion> versions = {TinyVersion(1), TinyVersion(2)};
  v1::SetAliasRequest alias;
  v1::ImportModelRequest imported;
  v1::CheckpointHeader header;
  std::vector<std::string> uploaded;  // content by file index
  size_t largest_chunk = 0;
  std::vector<int64_t> deleted;
};

class FakeHealth final : public grpc::health::v1::Health::Service {
 public:
  grpc::Status Check(grpc::ServerContext* context,
                     const grpc::health::v1::HealthCheckRequest* request,
                     grpc::health::v1::HealthCheckResponse* response) override;
  // NOT_SERVING and then SERVING.
  grpc::Status Watch(grpc::ServerContext* context,
                     const grpc::health::v1::HealthCheckRequest* request,
                     grpc::ServerWriter<grpc::health::v1::HealthCheckResponse>*
                         writer) override;

  grpc::health::v1::HealthCheckResponse::ServingStatus status =
      grpc::health::v1::HealthCheckResponse::SERVING;
};

class FakeServer {
 public:
  FakeServer() : FakeServer("127.0.0.1:0") {}
  explicit FakeServer(const std::string& address);
  ~FakeServer();

  // "127.0.0.1:PORT".
  const std::string& address() const { return address_; }

  FakeInference inference;
  FakeModels models;
  FakeTraining training;
  FakeHealth health;

 private:
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace pot

#endif  // POT_TESTS_CLIENT_FAKE_SERVER_H_
