#include "server/server.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/generic/generic_stub.h"
#include "pot/v1/training.grpc.pb.h"
#include "pot/v1/worker.grpc.pb.h"
#include "server/observability/log.h"
#include "server/rpc/wire.h"
#include "tests/server/rpc/server_testing.h"

namespace pot {
namespace {

using ::grpc::health::v1::HealthCheckRequest;
using ::grpc::health::v1::HealthCheckResponse;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class LifeCycleTest : public ServerTest {
 protected:
  void SetUp() override {}

  // "SERVING", "NOT_SERVING" or the error.
  std::string Health(const std::string& service) {
    auto stub = ::grpc::health::v1::Health::NewStub(channel_);
    HealthCheckRequest request;
    request.set_service(service);
    HealthCheckResponse response;
    grpc::ClientContext context;
    const grpc::Status status = stub->Check(&context, request, &response);
    return status.ok()
               ? HealthCheckResponse::ServingStatus_Name(response.status())
               : Describe(status);
  }

  std::string Generate(const std::string& model) {
    v1::GenerateRequest request = Request("the");
    request.mutable_model()->set_name(model);
    grpc::ClientContext context;
    v1::GenerateResponse response;
    return Describe(stub_->Generate(&context, request, &response));
  }
};

TEST_F(LifeCycleTest, HealthFollowsLoadingAndDraining) {
  StartServer(TinyServerConfig(), /*load=*/false);
  for (const char* service :
       {"", "pot.v1.InferenceService", "pot.v1.ModelService", "pot.model.tiny",
        "pot.model.tiny-pot"}) {
    EXPECT_EQ(Health(service), "NOT_SERVING") << service;
  }
  EXPECT_THAT(Health("pot.model.nobody"), StartsWith("NOT_FOUND"));

  auto stub = ::grpc::health::v1::Health::NewStub(channel_);
  grpc::ClientContext context;
  const auto watch = stub->Watch(&context, HealthCheckRequest());
  HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);

  server_->LoadModels();
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
  for (const char* service :
       {"", "pot.v1.InferenceService", "pot.v1.ModelService", "pot.model.tiny",
        "pot.model.tiny-pot"}) {
    EXPECT_EQ(Health(service), "SERVING") << service;
  }

  EXPECT_TRUE(server_->Drain(absl::Now() + absl::Seconds(10)));
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_FALSE(watch->Read(&response));
}

TEST_F(LifeCycleTest, DrainRefusesNewCallsAndLetsRunningOnesFinish) {
  StartServer(TinyServerConfig(), /*load=*/true);
  grpc::ClientContext context;
  const auto reader = stub_->GenerateStream(&context, LongStream());
  v1::GenerateStreamResponse message;
  ASSERT_TRUE(reader->Read(&message));

  bool all_ended = false;
  std::thread drain(
      [&] { all_ended = server_->Drain(absl::Now() + absl::Seconds(60)); });
  while (Health("") != "NOT_SERVING") {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(Health("pot.model.tiny"), "NOT_SERVING");
  // Health turns first, so a call right after may still get in.
  std::string outcome = Generate("tiny");
  for (int i = 0; i < 1000 && outcome == "OK  : "; ++i) {
    outcome = Generate("tiny");
  }
  EXPECT_THAT(outcome, StartsWith("UNAVAILABLE DRAINING"));

  bool summary = false;
  while (reader->Read(&message)) summary = message.has_summary();
  EXPECT_TRUE(summary);
  EXPECT_TRUE(reader->Finish().ok());
  drain.join();
  EXPECT_TRUE(all_ended);
}

TEST_F(LifeCycleTest, DrainEndsCallsThatDoNotFinishInTime) {
  StartServer(TinyServerConfig(), /*load=*/true);
  grpc::ClientContext context;
  const auto reader = stub_->GenerateStream(&context, LongStream());
  v1::GenerateStreamResponse message;
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_FALSE(server_->Drain(absl::Now() + absl::Milliseconds(50)));
  while (reader->Read(&message)) {
    EXPECT_FALSE(message.has_summary());
  }
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_F(LifeCycleTest, DestructionWithRunningCallsIsClean) {
  StartServer(TinyServerConfig(), /*load=*/true);
  grpc::ClientContext stream_context;
  const auto reader = stub_->GenerateStream(&stream_context, LongStream());
  v1::GenerateStreamResponse message;
  ASSERT_TRUE(reader->Read(&message));
  grpc::ClientContext perplexity_context;
  const auto perplexity = stub_->Perplexity(&perplexity_context);
  server_.reset();
  while (reader->Read(&message)) {
  }
  EXPECT_FALSE(reader->Finish().ok());
  EXPECT_FALSE(perplexity->Finish().ok());
}

TEST_F(LifeCycleTest, APortInUseIsAClearError) {
  StartServer(TinyServerConfig(), /*load=*/false);
  ServerConfig second = TinyServerConfig();
  second.listen = absl::StrCat("127.0.0.1:", server_->port());
  // The jobs belong to the first one.
  second.training_root = absl::StrCat(TinyServerConfig().repository, "/.other");
  const auto server = Server::Start(second);
  ASSERT_FALSE(server.ok());
  EXPECT_THAT(std::string(server.status().message()),
              HasSubstr(absl::StrCat("cannot listen on ", second.listen)));
}

TEST_F(LifeCycleTest, TrainersMayHaveAPortOfTheirOwn) {
  ServerConfig config = TinyServerConfig();
  config.worker_listen = absl::StrCat("unix:", testing::TempDir(), "/workers-",
                                      absl::GetCurrentTimeNanos());
  StartServer(config, /*load=*/true);
  EXPECT_EQ(Health("pot.v1.TrainingService"), "SERVING");
  const auto acquire = [](const std::shared_ptr<grpc::Channel>& channel) {
    v1::AcquireLeaseRequest request;
    request.mutable_worker()->set_name("w");
    v1::AcquireLeaseResponse response;
    grpc::ClientContext context;
    return v1::TrainerWorkerService::NewStub(channel)
        ->AcquireLease(&context, request, &response)
        .error_code();
  };
  EXPECT_EQ(acquire(channel_), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(acquire(grpc::CreateChannel(config.worker_listen,
                                        grpc::InsecureChannelCredentials())),
            grpc::StatusCode::OK);
}

TEST_F(LifeCycleTest, WithoutTrainingThereAreNoJobs) {
  ServerConfig config = TinyServerConfig();
  config.training = false;
  StartServer(config, /*load=*/true);
  EXPECT_THAT(Health("pot.v1.TrainingService"), StartsWith("NOT_FOUND"));
  EXPECT_EQ(Health(""), "SERVING");
  v1::ListJobsRequest request;
  v1::ListJobsResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(v1::TrainingService::NewStub(channel_)
                ->ListJobs(&context, request, &response)
                .error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(LifeCycleTest, ADrainStopsTheLoadingOfModels) {
  testing::internal::CaptureStderr();
  ASSERT_TRUE(StartLogging(LogLevel::kInfo, LogFormat::kText).ok());
  StartServer(TinyServerConfig(), /*load=*/false);
  EXPECT_TRUE(server_->Drain(absl::Now()));
  server_->LoadModels();
  StopLogging();
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("stopped loading models"));
  EXPECT_THAT(log, Not(HasSubstr("AVAILABLE")));
}

TEST_F(LifeCycleTest, ACorruptModelDoesNotStopTheOthers) {
  ServerConfig config = TinyServerConfig();
  config.repository = absl::StrCat(testing::TempDir(), "/corrupt-",
                                   absl::GetCurrentTimeNanos());
  std::filesystem::copy(TinyRepository(), config.repository,
                        std::filesystem::copy_options::recursive);
  const std::string weights =
      config.repository + "/tiny-pot/1/model.pot.safetensors";
  ASSERT_TRUE(std::filesystem::exists(weights));
  std::filesystem::resize_file(weights,
                               std::filesystem::file_size(weights) / 2);
  StartServer(config, /*load=*/true);
  EXPECT_THAT(Generate("tiny"), StartsWith("OK"));
  EXPECT_THAT(Generate("tiny-pot"),
              AllOf(StartsWith("FAILED_PRECONDITION VERSION_FAILED"),
                    HasSubstr("tiny-pot/1/model.pot.safetensors"),
                    Not(HasSubstr("corrupt-"))));
  EXPECT_EQ(Health(""), "SERVING");
  EXPECT_EQ(Health("pot.model.tiny-pot"), "NOT_SERVING");
}

// Debian has no header for the reflection service; its messages are in the
// descriptor pool.
std::string Reflect(const std::shared_ptr<grpc::Channel>& channel,
                    const std::string& field, const std::string& value) {
  const auto make = [](const std::string& name) {
    const auto* type =
        google::protobuf::DescriptorPool::generated_pool()
            ->FindMessageTypeByName("grpc.reflection.v1alpha." + name);
    return std::unique_ptr<google::protobuf::Message>(
        google::protobuf::MessageFactory::generated_factory()
            ->GetPrototype(type)
            ->New());
  };
  const auto request = make("ServerReflectionRequest");
  request->GetReflection()->SetString(
      request.get(), request->GetDescriptor()->FindFieldByName(field), value);
  grpc::ByteBuffer bytes;
  EXPECT_TRUE(SerializeMessage(*request, &bytes).ok());

  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto next = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  auto call = stub.PrepareCall(
      &context,
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  call->StartCall(nullptr);
  EXPECT_TRUE(next());
  call->WriteLast(bytes, grpc::WriteOptions(), nullptr);
  EXPECT_TRUE(next());
  grpc::ByteBuffer answer;
  call->Read(&answer, nullptr);
  EXPECT_TRUE(next());
  grpc::Status status;
  call->Finish(&status, nullptr);
  next();
  const auto response = make("ServerReflectionResponse");
  EXPECT_TRUE(ParseMessage(answer, response.get()).ok());
  return response->DebugString();
}

TEST_F(LifeCycleTest, ReflectionDescribesTheServices) {
  StartServer(TinyServerConfig(), /*load=*/false);
  const std::string services = Reflect(channel_, "list_services", "");
  EXPECT_THAT(services, HasSubstr("\"pot.v1.InferenceService\""));
  EXPECT_THAT(services, HasSubstr("\"pot.v1.ModelService\""));
  EXPECT_THAT(services, HasSubstr("\"grpc.health.v1.Health\""));
  EXPECT_THAT(Reflect(channel_, "file_containing_symbol",
                      "pot.v1.InferenceService.Generate"),
              HasSubstr("pot/v1/inference.proto"));
  EXPECT_THAT(
      Reflect(channel_, "file_containing_symbol", "grpc.health.v1.Health"),
      HasSubstr("grpc/health/v1/health.proto"));
}

}  // namespace
}  // namespace pot
