// What each method of ModelService does when all is well, over a channel.
#include "server/rpc/model_service.h"

#include <thread>

#include "gmock/gmock.h"
#include "tests/server/rpc/model_service_testing.h"

namespace pot {
namespace {

using Stub = v1::ModelService::Stub;
using ::testing::ElementsAre;

TEST_F(ModelServiceTest, ListsAndGets) {
  v1::ListModelsResponse list;
  ASSERT_TRUE(Call(&Stub::ListModels, v1::ListModelsRequest(), &list).ok());
  ASSERT_EQ(list.versions_size(), 2);
  const v1::ModelVersion& floats = list.versions(0);
  EXPECT_EQ(floats.name(), "tiny");
  EXPECT_EQ(floats.version(), 1);
  EXPECT_EQ(floats.state(), v1::MODEL_VERSION_STATE_REGISTERED);
  EXPECT_EQ(floats.quantization().format(), "f32");
  EXPECT_EQ(floats.activations(), v1::ACTIVATION_QUANTIZATION_FLOAT);
  EXPECT_EQ(floats.config().layers(), 3);
  EXPECT_EQ(floats.config().vocabulary(), 300);
  EXPECT_EQ(floats.fp32_bytes(), 4 * floats.parameters());
  EXPECT_GT(floats.create_time().seconds(), 1700000000);
  const v1::ModelVersion& codes = list.versions(1);
  EXPECT_EQ(codes.quantization().format(), "pot4");
  EXPECT_EQ(codes.quantization().granularity(), "row");
  EXPECT_EQ(codes.quantization().method(), "nearest");
  EXPECT_EQ(codes.activations(), v1::ACTIVATION_QUANTIZATION_AFFINE);
  EXPECT_EQ(codes.parameters(), floats.parameters());
  EXPECT_EQ(codes.base_digest().size(), 64);

  v1::GetModelRequest get;
  get.mutable_model()->set_name("tiny");
  v1::GetModelResponse got;
  ASSERT_TRUE(Call(&Stub::GetModel, get, &got).ok());
  EXPECT_EQ(got.version().version(), 2);
  get.mutable_model()->set_digest(floats.digest());
  ASSERT_TRUE(Call(&Stub::GetModel, get, &got).ok());
  EXPECT_EQ(got.version().version(), 1);
}

TEST_F(ModelServiceTest, LoadsAndUnloads) {
  v1::LoadModelResponse loaded;
  ASSERT_TRUE(Load("tiny", 2, &loaded).ok());
  EXPECT_EQ(loaded.version().state(), v1::MODEL_VERSION_STATE_AVAILABLE);
  EXPECT_GT(loaded.version().resident_bytes(), 0);
  EXPECT_GT(loaded.version().load_seconds(), 0);
  v1::UnloadModelRequest request;
  request.mutable_model()->set_name("tiny");
  request.mutable_model()->set_version(2);
  v1::UnloadModelResponse unloaded;
  ASSERT_TRUE(Call(&Stub::UnloadModel, request, &unloaded).ok());
  EXPECT_EQ(unloaded.version().state(), v1::MODEL_VERSION_STATE_UNLOADED);
  EXPECT_EQ(unloaded.version().resident_bytes(), 0);
}

TEST_F(ModelServiceTest, AClientThatLeavesEndsTheWaitingNotTheUnloading) {
  ASSERT_TRUE(Load("tiny", 2).ok());
  auto pin = *repository_->Acquire({.name = "tiny"});
  v1::UnloadModelRequest request;
  request.mutable_model()->set_name("tiny");
  request.mutable_model()->set_version(2);
  v1::UnloadModelResponse response;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::milliseconds(200));
  EXPECT_EQ(stub_->UnloadModel(&context, request, &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(repository_->Get({.name = "tiny", .version = 2})->state,
            ModelVersionState::kUnloading);
  pin.reset();
  EXPECT_EQ(repository_->Get({.name = "tiny", .version = 2})->state,
            ModelVersionState::kUnloaded);
}

TEST_F(ModelServiceTest, WatchesFromTheSnapshotOn) {
  grpc::ClientContext context;
  v1::WatchModelsRequest request;
  request.set_name("tiny");
  const auto reader = stub_->WatchModels(&context, request);
  v1::WatchModelsResponse event;
  for (const int64_t version : {1, 2}) {
    ASSERT_TRUE(reader->Read(&event));
    EXPECT_EQ(event.kind(), v1::MODEL_EVENT_KIND_SNAPSHOT);
    EXPECT_EQ(event.version().version(), version);
  }
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.kind(), v1::MODEL_EVENT_KIND_SNAPSHOT_DONE);
  EXPECT_FALSE(event.has_version());

  ASSERT_TRUE(Load("tiny", 2).ok());
  // Each state, or only the last: as fast as this reads.
  v1::ModelVersionState last = v1::MODEL_VERSION_STATE_REGISTERED;
  while (last != v1::MODEL_VERSION_STATE_AVAILABLE) {
    ASSERT_TRUE(reader->Read(&event));
    EXPECT_EQ(event.kind(), v1::MODEL_EVENT_KIND_CHANGED);
    EXPECT_GT(event.version().state(), last);
    last = event.version().state();
  }
  v1::DeleteVersionRequest remove;
  remove.set_name("tiny");
  remove.set_version(1);
  ASSERT_TRUE(Call(&Stub::DeleteVersion, remove).ok());
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.kind(), v1::MODEL_EVENT_KIND_DELETED);
  EXPECT_EQ(event.version().version(), 1);
  EXPECT_FALSE(event.version().has_config());
  context.TryCancel();
  while (reader->Read(&event)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(ModelServiceTest, ManyWatchersSurviveASlowOne) {
  grpc::ClientContext slow_context;
  const auto slow = stub_->WatchModels(&slow_context, v1::WatchModelsRequest());
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(Load("tiny", 2).ok());
    v1::UnloadModelRequest unload;
    unload.mutable_model()->set_name("tiny");
    unload.mutable_model()->set_version(2);
    ASSERT_TRUE(Call(&Stub::UnloadModel, unload).ok());
  }
  // Closing the server ends it, read or not.
  Stop();
  v1::WatchModelsResponse event;
  while (slow->Read(&event)) {
  }
  EXPECT_FALSE(slow->Finish().ok());
}

TEST_F(ModelServiceTest, MovesRollsBackAndRemembersAliases) {
  ASSERT_TRUE(Load("tiny", 1).ok());
  ASSERT_TRUE(Load("tiny", 2).ok());
  v1::SetAliasRequest set;
  set.set_name("tiny");
  set.set_alias("default");
  set.set_version(1);
  set.set_expected_version(0);
  set.set_comment("first");
  v1::SetAliasResponse changed;
  ASSERT_TRUE(Call(&Stub::SetAlias, set, &changed).ok());
  EXPECT_EQ(changed.change().sequence(), 1);
  EXPECT_EQ(changed.change().actor(), "tester");
  set.set_version(2);
  set.set_expected_version(1);
  ASSERT_TRUE(Call(&Stub::SetAlias, set, &changed).ok());

  v1::RollbackAliasRequest back;
  back.set_name("tiny");
  v1::RollbackAliasResponse rolled;
  ASSERT_TRUE(Call(&Stub::RollbackAlias, back, &rolled).ok());
  EXPECT_EQ(rolled.change().from_version(), 2);
  EXPECT_EQ(rolled.change().to_version(), 1);
  EXPECT_EQ(rolled.change().cause(), v1::ALIAS_CHANGE_CAUSE_ROLLBACK);

  set.clear_expected_version();
  set.set_remove(true);
  ASSERT_TRUE(Call(&Stub::SetAlias, set, &changed).ok());
  EXPECT_EQ(changed.change().to_version(), 0);

  v1::ListAliasHistoryRequest ask;
  ask.set_name("tiny");
  v1::ListAliasHistoryResponse history;
  ASSERT_TRUE(Call(&Stub::ListAliasHistory, ask, &history).ok());
  std::vector<int64_t> sequences;
  for (const auto& change : history.changes()) {
    sequences.push_back(change.sequence());
  }
  EXPECT_THAT(sequences, ElementsAre(4, 3, 2, 1));
  EXPECT_EQ(history.changes(3).comment(), "first");
  ask.set_limit(1);
  ASSERT_TRUE(Call(&Stub::ListAliasHistory, ask, &history).ok());
  EXPECT_EQ(history.changes_size(), 1);
}

TEST_F(ModelServiceTest, ImportsFloatsAndCodes) {
  v1::ImportModelRequest request;
  request.set_name("new");
  request.set_directory("hf");
  std::vector<v1::ImportModelResponse> messages;
  grpc::Status status = Import(request, &messages);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(messages.front().progress().stage(), v1::IMPORT_STAGE_WRITING);
  ASSERT_TRUE(messages.back().has_version());
  EXPECT_EQ(messages.back().version().quantization().format(), "f32");
  EXPECT_EQ(messages.back().version().state(),
            v1::MODEL_VERSION_STATE_REGISTERED);

  messages.clear();
  request.mutable_quantization()->set_format("pot3");
  request.mutable_quantization()->set_granularity("g64");
  request.mutable_quantization()->set_embedding_format("pot4");
  request.set_load(true);
  status = Import(request, &messages);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(messages.front().progress().stage(), v1::IMPORT_STAGE_QUANTIZING);
  const v1::ModelVersion& version = messages.back().version();
  EXPECT_EQ(version.version(), 2);
  EXPECT_EQ(version.quantization().format(), "pot3");
  EXPECT_EQ(version.quantization().granularity(), "g64");
  EXPECT_EQ(version.quantization().embedding_format(), "pot4");
  EXPECT_EQ(version.quantization().embedding_granularity(), "g64");
  EXPECT_EQ(version.state(), v1::MODEL_VERSION_STATE_AVAILABLE);
}

TEST_F(ModelServiceTest, DiffsTwoVersions) {
  v1::DiffVersionsRequest request;
  request.mutable_left()->set_name("tiny");
  request.mutable_left()->set_version(1);
  *request.mutable_right() = request.left();
  request.mutable_right()->set_version(2);
  v1::DiffVersionsResponse response;
  ASSERT_TRUE(Call(&Stub::DiffVersions, request, &response).ok());
  EXPECT_EQ(response.left().version(), 1);
  EXPECT_EQ(response.right().version(), 2);
  // wte, wpe, 12 of each of 3 layers, 2 of ln_f, the separate head.
  ASSERT_EQ(response.tensors_size(), 2 + 3 * 12 + 2 + 1);
  EXPECT_EQ(response.tensors(0).name(), "wte.weight");
  EXPECT_THAT(response.tensors(0).shape(), ElementsAre(300, 96));
  EXPECT_EQ(response.tensors(0).left().format(), "f32");
  EXPECT_EQ(response.tensors(0).right().format(), "pot4");
  EXPECT_GT(response.tensors(0).relative_squared_error(), 0);
  EXPECT_FALSE(response.tensors(0).has_changed_codes());
}

TEST_F(ModelServiceTest, DrainingRefusesEveryCallAndWaitsForNoWatch) {
  grpc::ClientContext watch_context;
  const auto watch =
      stub_->WatchModels(&watch_context, v1::WatchModelsRequest());
  v1::WatchModelsResponse event;
  ASSERT_TRUE(watch->Read(&event));
  calls_.BeginDrain();
  EXPECT_TRUE(calls_.WaitUntilIdle(absl::Now() + absl::Seconds(20)));
  EXPECT_EQ(Short(Call(&Stub::ListModels, v1::ListModelsRequest())),
            "UNAVAILABLE DRAINING");
  EXPECT_EQ(Short(Load("tiny", 2)), "UNAVAILABLE DRAINING");
  grpc::ClientContext context;
  const auto refused = stub_->WatchModels(&context, v1::WatchModelsRequest());
  EXPECT_FALSE(refused->Read(&event));
  EXPECT_EQ(Short(refused->Finish()), "UNAVAILABLE DRAINING");
}

}  // namespace
}  // namespace pot
