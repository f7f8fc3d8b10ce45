// The generated code beside gRPC's own: one process holds our google.rpc and
// grpc.health.v1 files, gRPC's health service and its reflection, none of which
// may register a name twice.
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "pot/v1/inference.grpc.pb.h"
#include "pot/v1/model.grpc.pb.h"
#include "pot/v1/training.grpc.pb.h"
#include "pot/v1/worker.grpc.pb.h"

namespace pot {
namespace {

using ::google::protobuf::DescriptorPool;
using ::google::protobuf::Message;
using ::google::protobuf::MessageFactory;

std::unique_ptr<Message> NewMessage(const std::string& full_name) {
  const auto* descriptor =
      DescriptorPool::generated_pool()->FindMessageTypeByName(full_name);
  if (descriptor == nullptr) return nullptr;
  return std::unique_ptr<Message>(
      MessageFactory::generated_factory()->GetPrototype(descriptor)->New());
}

// One request and one answer of the reflection service. Debian has no header
// for it, so messages come from the descriptor pool.
class ReflectionClient {
 public:
  explicit ReflectionClient(std::shared_ptr<grpc::Channel> channel)
      : stub_(std::move(channel)) {}

  std::string Ask(const std::string& field, const std::string& value) {
    auto request =
        NewMessage("grpc.reflection.v1alpha.ServerReflectionRequest");
    auto response =
        NewMessage("grpc.reflection.v1alpha.ServerReflectionResponse");
    if (request == nullptr || response == nullptr) return "no reflection";
    request->GetReflection()->SetString(
        request.get(), request->GetDescriptor()->FindFieldByName(field), value);
    const grpc::Slice slice(request->SerializeAsString());
    grpc::ByteBuffer buffer(&slice, 1);

    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    auto call = stub_.PrepareCall(
        &context,
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        &queue);
    call->StartCall(this);
    if (!Next(&queue)) return "no call";
    call->WriteLast(buffer, grpc::WriteOptions(), this);
    if (!Next(&queue)) return "no write";
    grpc::ByteBuffer answer;
    call->Read(&answer, this);
    if (!Next(&queue)) return "no answer";
    grpc::Status status;
    call->Finish(&status, this);
    Next(&queue);
    std::vector<grpc::Slice> slices;
    answer.Dump(&slices);
    std::string bytes;
    for (const grpc::Slice& part : slices) {
      bytes.append(reinterpret_cast<const char*>(part.begin()), part.size());
    }
    if (!response->ParseFromString(bytes)) return "no message";
    return response->DebugString();
  }

 private:
  static bool Next(grpc::CompletionQueue* queue) {
    void* tag = nullptr;
    bool ok = false;
    return queue->Next(&tag, &ok) && ok;
  }

  grpc::GenericStub stub_;
};

class ServicesTest : public testing::Test {
 protected:
  void SetUp() override {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port);
    builder.RegisterService(&inference_);
    builder.RegisterService(&model_);
    builder.RegisterService(&training_);
    builder.RegisterService(&worker_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    channel_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(port),
                                   grpc::InsecureChannelCredentials());
  }

  v1::InferenceService::Service inference_;
  v1::ModelService::Service model_;
  v1::TrainingService::Service training_;
  v1::TrainerWorkerService::Service worker_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(ServicesTest, ReflectionKnowsEveryServiceAndItsFiles) {
  ReflectionClient client(channel_);
  EXPECT_THAT(
      client.Ask("list_services", ""),
      testing::AllOf(testing::HasSubstr("\"pot.v1.InferenceService\""),
                     testing::HasSubstr("\"pot.v1.ModelService\""),
                     testing::HasSubstr("\"pot.v1.TrainingService\""),
                     testing::HasSubstr("\"pot.v1.TrainerWorkerService\""),
                     testing::HasSubstr("\"grpc.health.v1.Health\"")));
  EXPECT_THAT(client.Ask("file_containing_symbol", "pot.v1.InferenceService"),
              testing::HasSubstr("pot/v1/inference.proto"));
  EXPECT_THAT(client.Ask("file_containing_symbol", "pot.v1.QatJobSpec"),
              testing::HasSubstr("pot/v1/qat_job.proto"));
  EXPECT_THAT(client.Ask("file_containing_symbol", "grpc.health.v1.Health"),
              testing::HasSubstr("grpc/health/v1/health.proto"));
  EXPECT_THAT(client.Ask("file_containing_symbol", "pot.v1.Nothing"),
              testing::HasSubstr("error_response"));
}

TEST_F(ServicesTest, HealthClientSpeaksToTheHealthServiceOfGrpc) {
  auto stub = ::grpc::health::v1::Health::NewStub(channel_);
  ::grpc::health::v1::HealthCheckRequest request;
  ::grpc::health::v1::HealthCheckResponse response;
  {
    grpc::ClientContext context;
    const grpc::Status status = stub->Check(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(response.status(),
              ::grpc::health::v1::HealthCheckResponse::SERVING);
  }
  server_->GetHealthCheckService()->SetServingStatus("pot.model.m", false);
  request.set_service("pot.model.m");
  grpc::ClientContext context;
  auto reader = stub->Watch(&context, request);
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.status(),
            ::grpc::health::v1::HealthCheckResponse::NOT_SERVING);
  server_->GetHealthCheckService()->SetServingStatus("pot.model.m", true);
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.status(),
            ::grpc::health::v1::HealthCheckResponse::SERVING);
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

// Field numbers and types of google.rpc as other implementations send them:
// tag = number << 3 | 2 (length-delimited) or 0 (varint).
TEST(ErrorDetailsTest, WireFormatIsThatOfGoogleRpc) {
  google::rpc::ErrorInfo info;
  info.set_reason("R");
  info.set_domain("D");
  (*info.mutable_metadata())["k"] = "v";
  EXPECT_EQ(info.SerializeAsString(),
            "\x0a\x01R\x12\x01"
            "D\x1a\x06\x0a\x01k\x12\x01v");

  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(3);
  EXPECT_EQ(retry.SerializeAsString(), "\x0a\x02\x08\x03");

  google::rpc::BadRequest bad;
  auto* violation = bad.add_field_violations();
  violation->set_field("f");
  violation->set_description("d");
  EXPECT_EQ(bad.SerializeAsString(), "\x0a\x06\x0a\x01\x66\x12\x01\x64");

  google::rpc::Status status;
  status.set_code(3);
  status.set_message("m");
  status.add_details()->PackFrom(retry);
  EXPECT_EQ(status.details(0).type_url(),
            "type.googleapis.com/google.rpc.RetryInfo");
  EXPECT_EQ(status.SerializeAsString().substr(0, 6), "\x08\x03\x12\x01m\x1a");
}

// A 0 that was given is not an unset field, on the wire and back.
TEST(OptionalFieldsTest, ZeroTemperatureSurvivesSerialization) {
  v1::GenerateRequest request;
  request.mutable_sampling()->set_temperature(0.0f);
  request.mutable_output()->set_logprobs(0);
  v1::GenerateRequest parsed;
  ASSERT_TRUE(parsed.ParseFromString(request.SerializeAsString()));
  EXPECT_TRUE(parsed.sampling().has_temperature());
  EXPECT_FALSE(parsed.sampling().has_top_p());
  EXPECT_TRUE(parsed.output().has_logprobs());
  EXPECT_FALSE(parsed.output().has_prompt_logprobs());
}

}  // namespace
}  // namespace pot
