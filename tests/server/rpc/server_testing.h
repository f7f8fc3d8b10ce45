// A real server in this process, on a free loopback port, with two versions of
// the tiny model: "tiny" is fp32, "tiny-pot" has 4-bit weights, scaled per row.
#ifndef POT_TESTS_SERVER_RPC_SERVER_TESTING_H_
#define POT_TESTS_SERVER_RPC_SERVER_TESTING_H_

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/checkpoint/version_store.h"
#include "engine/gpt2/quantize_model.h"
#include "engine/quant/pot_format.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "pot/v1/inference.grpc.pb.h"
#include "server/server.h"
#include "tests/server/rpc/rpc_testing.h"

namespace pot {

inline QuantizeModelOptions TinyPotOptions() {
  QuantizeModelOptions options;
  options.layers.format = FindPotFormat("pot4").value();
  options.embedding = options.layers;
  return options;
}

// Makes the repository once per process.
inline const std::string& TinyRepository() {
  static const std::string& root = *new std::string([] {
    const std::string path = absl::StrCat(testing::TempDir(), "/repository-",
                                          absl::GetCurrentTimeNanos());
    auto store = VersionStore::Open(path).value();
    StagedVersion floats = store->Stage("tiny").value();
    EXPECT_TRUE(CopyFloatModel(TinyModelDirectory(), floats.directory()).ok());
    EXPECT_TRUE(store->Commit(std::move(floats), 1, "test").ok());
    StagedVersion codes = store->Stage("tiny-pot").value();
    ThreadPool pool(1);
    const auto report =
        QuantizeModel(TinyModelDirectory(), codes.directory(), TinyPotOptions(),
                      &pool, [](int64_t, int64_t) {});
    EXPECT_TRUE(report.ok()) << report.status();
    EXPECT_TRUE(store->Commit(std::move(codes), 1, "test").ok());
    return path;
  }());
  return root;
}

// "CODE REASON field: message" of an error that a client received.
inline std::string Describe(const grpc::Status& status) {
  google::rpc::Status details;
  google::rpc::ErrorInfo info;
  google::rpc::BadRequest bad;
  details.ParseFromString(status.error_details());
  for (const auto& detail : details.details()) {
    detail.UnpackTo(&info);
    detail.UnpackTo(&bad);
  }
  return absl::StrCat(
      absl::StatusCodeToString(
          static_cast<absl::StatusCode>(status.error_code())),
      " ", info.reason(), " ",
      bad.field_violations_size() > 0 ? bad.field_violations(0).field() : "",
      ": ", status.error_message());
}

inline ServerConfig TinyServerConfig() {
  ServerConfig config;
  config.listen = "127.0.0.1:0";
  config.repository = TinyRepository();
  config.threads = 2;
  config.kv_memory = int64_t{64} << 20;
  config.max_waiting_tasks = 64;
  config.max_waiting_tokens = 1 << 16;
  config.max_running_sequences = 32;
  config.prefill_chunk_tokens = 32;
  config.connection.max_message_size = int64_t{4} << 20;
  config.connection.max_concurrent_streams = 64;
  return config;
}

class ServerTest : public testing::Test {
 protected:
  void SetUp() override { StartServer(TinyServerConfig(), /*load=*/true); }

  void StartServer(const ServerConfig& config, bool load) {
    server_.reset();
    auto server = Server::Start(config);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    if (load) server_->LoadModels();
    // The client reads ahead 64 KiB and no more.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 65535);
    channel_ = grpc::CreateCustomChannel(
        absl::StrCat("127.0.0.1:", server_->port()),
        grpc::InsecureChannelCredentials(), arguments);
    stub_ = v1::InferenceService::NewStub(channel_);
  }

  static v1::GenerateRequest Request(const std::string& text) {
    v1::GenerateRequest request;
    request.mutable_model()->set_name("tiny-pot");
    request.set_text(text);
    request.mutable_sampling()->set_seed(7);
    return request;
  }

  // About 900 messages of more than 500 bytes: more than the server buffers
  // (64) and both ends of the transport (64 KiB each) together hold, so that a
  // stream which is not read gets parked.
  static v1::GenerateStreamRequest LongStream() {
    v1::GenerateStreamRequest request;
    *request.mutable_request() = Request("the");
    request.mutable_request()->mutable_sampling()->set_n(16);
    request.mutable_request()->mutable_output()->set_logprobs(20);
    request.mutable_request()->mutable_stopping()->set_ignore_eos(true);
    return request;
  }

  // True when no call is running any more, and soon.
  bool AllCallsEnd() { return server_->Drain(absl::Now() + absl::Seconds(20)); }

  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::InferenceService::Stub> stub_;
};

}  // namespace pot

#endif  // POT_TESTS_SERVER_RPC_SERVER_TESTING_H_
