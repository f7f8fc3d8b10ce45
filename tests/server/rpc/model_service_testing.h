// A gRPC server in this process with ModelService alone, on a free loopback
// port; a repository in a temporary directory; clients' errors taken apart.
#ifndef POT_TESTS_SERVER_RPC_MODEL_SERVICE_TESTING_H_
#define POT_TESTS_SERVER_RPC_MODEL_SERVICE_TESTING_H_

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/sha256.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "pot/v1/model.grpc.pb.h"
#include "server/rpc/model_service.h"
#include "server/rpc/wire.h"
#include "tests/server/serving/repository_testing.h"

namespace pot {

struct WireError {
  std::string code;  // "NOT_FOUND"
  std::string reason;
  std::string field;
  std::map<std::string, std::string> metadata;
  bool retry = false;
};

inline WireError TakeApart(const grpc::Status& status) {
  WireError error;
  error.code = absl::StatusCodeToString(
      static_cast<absl::StatusCode>(status.error_code()));
  google::rpc::Status details;
  details.ParseFromString(status.error_details());
  for (const auto& detail : details.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad;
    google::rpc::RetryInfo retry;
    if (detail.UnpackTo(&info)) {
      error.reason = info.reason();
      error.metadata.insert(info.metadata().begin(), info.metadata().end());
      EXPECT_EQ(info.domain(), "pot.v1");
    }
    if (detail.UnpackTo(&bad) && bad.field_violations_size() > 0) {
      error.field = bad.field_violations(0).field();
    }
    error.retry = error.retry || detail.UnpackTo(&retry);
  }
  return error;
}

// "INVALID_ARGUMENT INVALID_FIELD name".
inline std::string Short(const grpc::Status& status) {
  const WireError error = TakeApart(status);
  if (status.ok()) return "OK";
  return absl::StrCat(error.code, " ", error.reason,
                      error.field.empty() ? "" : " ", error.field);
}

class ModelServiceTest : public testing::Test {
 protected:
  void SetUp() override {
    SilenceProtobufUtf8Errors();
    files_.AddFloat("tiny");
    files_.AddPot("tiny", "pot4");
    std::filesystem::create_directory(files_.import_root() + "/hf");
    std::filesystem::copy(TinyBpeDirectory(), files_.import_root() + "/hf");
    Start(files_.Options(), {});
  }

  void TearDown() override { Stop(); }

  void Start(const ModelRepositoryOptions& options,
             ModelServiceOptions service) {
    Stop();
    repository_ = *ModelRepository::Open(options);
    service.actor = [](const grpc::CallbackServerContext&) {
      return std::string("tester");
    };
    service_ = std::make_unique<ModelService>(repository_.get(), &calls_,
                                              std::move(service));
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    channel_ = grpc::CreateChannel(absl::StrCat("127.0.0.1:", port),
                                   grpc::InsecureChannelCredentials());
    stub_ = v1::ModelService::NewStub(channel_);
  }

  void Stop() {
    if (server_ != nullptr) {
      server_->Shutdown(std::chrono::system_clock::now());
      server_->Wait();
    }
    server_.reset();
    service_.reset();
    repository_.reset();
  }

  // One call of any unary method.
  template <typename Request, typename Response>
  grpc::Status Call(grpc::Status (v1::ModelService::Stub::*method)(
                        grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response = nullptr) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::seconds(60));
    Response ignored;
    return (stub_.get()->*method)(&context, request,
                                  response == nullptr ? &ignored : response);
  }

  grpc::Status Load(const std::string& name, int64_t version,
                    v1::LoadModelResponse* response = nullptr) {
    v1::LoadModelRequest request;
    request.mutable_model()->set_name(name);
    request.mutable_model()->set_version(version);
    return Call(&v1::ModelService::Stub::LoadModel, request, response);
  }

  grpc::Status Import(const v1::ImportModelRequest& request,
                      std::vector<v1::ImportModelResponse>* messages) {
    grpc::ClientContext context;
    const auto reader = stub_->ImportModel(&context, request);
    v1::ImportModelResponse message;
    while (reader->Read(&message)) messages->push_back(message);
    return reader->Finish();
  }
  grpc::Status Import(const v1::ImportModelRequest& request) {
    std::vector<v1::ImportModelResponse> messages;
    return Import(request, &messages);
  }

  // Everything that is visible below the root, and nothing staged.
  size_t Versions() {
    EXPECT_TRUE(std::filesystem::is_empty(files_.root() + "/.staging"));
    return repository_->List("")->size();
  }

  RepositoryForTest files_;
  CallTracker calls_;
  std::unique_ptr<ModelRepository> repository_;
  std::unique_ptr<ModelService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::ModelService::Stub> stub_;
};

inline std::string ReadAll(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

inline std::string DigestOf(const std::string& text) {
  return Sha256Hex(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

}  // namespace pot

#endif  // POT_TESTS_SERVER_RPC_MODEL_SERVICE_TESTING_H_
