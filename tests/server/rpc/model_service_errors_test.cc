// Every error of proto/README.md that concerns models, over a channel.
#include <atomic>
#include <functional>
#include <iostream>
#include <thread>

#include "grpcpp/impl/codegen/client_unary_call.h"
#include "tests/server/rpc/model_service_testing.h"

namespace pot {
namespace {

using Stub = v1::ModelService::Stub;

class ModelServiceErrorsTest : public ModelServiceTest {
 protected:
  void SetUp() override {
    ModelServiceTest::SetUp();
    files_.AddPot("tiny", "pot2");
    FlipBit(files_.File("tiny", 3, "model.pot.safetensors"), 100000);
    ASSERT_TRUE(Load("tiny", 2).ok());
    ASSERT_FALSE(Load("tiny", 3).ok());
  }

  template <typename Request, typename Response>
  void Expect(const std::string& expected,
              grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                           Response*),
              const std::function<void(Request*)>& fill) {
    Request request;
    fill(&request);
    const grpc::Status status = Call(method, request);
    EXPECT_EQ(Short(status), expected)
        << request.GetTypeName() << " {" << request.ShortDebugString()
        << "}: " << status.error_message();
    EXPECT_EQ(status.error_message().empty(), status.ok());
    ++count_;
  }

  void ExpectImport(const std::string& expected,
                    const std::function<void(v1::ImportModelRequest*)>& fill) {
    v1::ImportModelRequest request;
    request.set_name("new");
    request.set_directory("hf");
    fill(&request);
    const grpc::Status status = Import(request);
    EXPECT_EQ(Short(status), expected) << status.error_message();
    ++count_;
  }

  void TearDown() override {
    std::cout << count_ << " bad inputs\n";
    ModelServiceTest::TearDown();
  }

  int count_ = 0;
};

TEST_F(ModelServiceErrorsTest, ReferencesToModels) {
  const auto get = &Stub::GetModel;
  const auto expect = [&](const std::string& expected, auto edit) {
    Expect<v1::GetModelRequest, v1::GetModelResponse>(
        expected, get, [&](v1::GetModelRequest* request) {
          request->mutable_model()->set_name("tiny");
          edit(request->mutable_model());
        });
  };
  const std::string name = "INVALID_ARGUMENT INVALID_FIELD model.name";
  expect("INVALID_ARGUMENT MISSING_FIELD model.name",
         [](auto* model) { model->clear_name(); });
  for (const std::string bad :
       {"..", "../tiny", "a/b", ".x", "a b", "\x01", "tiny\n", "-x"}) {
    expect(name, [&](auto* model) { model->set_name(bad); });
  }
  expect(name, [](auto* model) { model->set_name(std::string("tiny\0", 5)); });
  expect(name, [](auto* model) { model->set_name(std::string(100000, 'a')); });
  expect("INVALID_ARGUMENT INVALID_UTF8 model.name",
         [](auto* model) { model->set_name("tiny\xc3"); });
  expect("INVALID_ARGUMENT INVALID_FIELD model.version",
         [](auto* model) { model->set_version(0); });
  expect("INVALID_ARGUMENT INVALID_FIELD model.version",
         [](auto* model) { model->set_version(INT64_MIN); });
  expect("INVALID_ARGUMENT INVALID_FIELD model.alias",
         [](auto* model) { model->set_alias("12"); });
  expect("INVALID_ARGUMENT INVALID_FIELD model.alias",
         [](auto* model) { model->set_alias("../x"); });
  expect("INVALID_ARGUMENT INVALID_FIELD model.digest",
         [](auto* model) { model->set_digest("abc"); });
  expect("INVALID_ARGUMENT INVALID_FIELD model.digest",
         [](auto* model) { model->set_digest(std::string(64, 'G')); });
  expect("NOT_FOUND MODEL_NOT_FOUND",
         [](auto* model) { model->set_name("none"); });
  expect("NOT_FOUND VERSION_NOT_FOUND",
         [](auto* model) { model->set_version(INT64_MAX); });
  expect("NOT_FOUND ALIAS_NOT_FOUND",
         [](auto* model) { model->set_alias("none"); });
  expect("NOT_FOUND VERSION_NOT_FOUND",
         [](auto* model) { model->set_digest(std::string(64, '0')); });
}

TEST_F(ModelServiceErrorsTest, BytesThatAreNoMessage) {
  for (const char* method :
       {"ListModels", "GetModel", "LoadModel", "UnloadModel", "SetAlias",
        "RollbackAlias", "ListAliasHistory", "DeleteVersion", "DiffVersions"}) {
    const std::string path = absl::StrCat("/pot.v1.ModelService/", method);
    const grpc::internal::RpcMethod rpc(path.c_str(),
                                        grpc::internal::RpcMethod::NORMAL_RPC);
    const grpc::Slice slice(std::string("\x0a\xff\xff\xff\xff", 5));
    const grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    grpc::ClientContext context;
    const grpc::Status status =
        grpc::internal::BlockingUnaryCall<grpc::ByteBuffer, grpc::ByteBuffer>(
            channel_.get(), rpc, &context, request, &response);
    EXPECT_EQ(Short(status), "INVALID_ARGUMENT MALFORMED_MESSAGE") << method;
    ++count_;
  }
}

TEST_F(ModelServiceErrorsTest, ListAndWatch) {
  Expect<v1::ListModelsRequest, v1::ListModelsResponse>(
      "INVALID_ARGUMENT INVALID_FIELD name", &Stub::ListModels,
      [](auto* request) { request->set_name("../x"); });
  v1::WatchModelsRequest request;
  request.set_name("a/b");
  grpc::ClientContext context;
  const auto reader = stub_->WatchModels(&context, request);
  v1::WatchModelsResponse event;
  EXPECT_FALSE(reader->Read(&event));
  EXPECT_EQ(Short(reader->Finish()), "INVALID_ARGUMENT INVALID_FIELD name");
  ++count_;
}

TEST_F(ModelServiceErrorsTest, LoadAndUnload) {
  const auto model = [](const std::string& name, int64_t version) {
    return [=](auto* request) {
      request->mutable_model()->set_name(name);
      if (version != 0) request->mutable_model()->set_version(version);
    };
  };
  const auto load = [&](const std::string& expected, auto fill) {
    Expect<v1::LoadModelRequest, v1::LoadModelResponse>(expected,
                                                        &Stub::LoadModel, fill);
  };
  const auto unload = [&](const std::string& expected, auto fill) {
    Expect<v1::UnloadModelRequest, v1::UnloadModelResponse>(
        expected, &Stub::UnloadModel, fill);
  };
  load("INVALID_ARGUMENT MISSING_FIELD model.name", [](auto*) {});
  load("NOT_FOUND MODEL_NOT_FOUND", model("none", 0));
  load("NOT_FOUND VERSION_NOT_FOUND", model("tiny", 9));
  load("DATA_LOSS CHECKSUM_MISMATCH", model("tiny", 3));
  unload("INVALID_ARGUMENT MISSING_FIELD model.selector", model("tiny", 0));
  unload("NOT_FOUND VERSION_NOT_FOUND", model("tiny", 9));

  // While its last request runs, a version takes no new ones.
  auto pin = *repository_->Acquire({.name = "tiny", .version = 2});
  EXPECT_FALSE(
      repository_->Unload({.name = "tiny", .version = 2}, absl::Now()).ok());
  v1::LoadModelRequest request;
  model("tiny", 2)(&request);
  const grpc::Status draining = Call(&Stub::LoadModel, request);
  EXPECT_EQ(Short(draining), "UNAVAILABLE DRAINING");
  EXPECT_TRUE(TakeApart(draining).retry);
  ++count_;
}

TEST_F(ModelServiceErrorsTest, FilesThatAreNoCheckpoint) {
  const std::string file = files_.root() + "/tiny/";
  // What a hand may do to a version on disk, and what Load() then answers.
  const auto spoilt = [&](const std::string& expected, auto spoil) {
    const int64_t version = files_.AddPot("spoilt", "pot4");
    spoil(files_.root() + "/spoilt/" + std::to_string(version) + "/");
    EXPECT_EQ(Short(Load("spoilt", version)), expected);
    ++count_;
  };
  spoilt("DATA_LOSS CORRUPT_CHECKPOINT", [](const std::string& d) {
    std::filesystem::remove(d + "manifest.json");
  });
  spoilt("DATA_LOSS CORRUPT_CHECKPOINT", [](const std::string& d) {
    std::filesystem::remove(d + "vocab.json");
  });
  spoilt("DATA_LOSS CORRUPT_CHECKPOINT", [](const std::string& d) {
    std::filesystem::remove(d + "config.json");
  });
  spoilt("DATA_LOSS CORRUPT_CHECKPOINT", [](const std::string& d) {
    std::filesystem::resize_file(d + "model.pot.safetensors", 1000);
  });
  spoilt("DATA_LOSS CHECKSUM_MISMATCH",
         [](const std::string& d) { FlipBit(d + "merges.txt", 30); });
  spoilt("DATA_LOSS CORRUPT_CHECKPOINT",
         [](const std::string& d) { std::ofstream(d + "unlisted") << "x"; });
  spoilt("DATA_LOSS CORRUPT_CHECKPOINT", [](const std::string& d) {
    std::ofstream(d + "manifest.json") << "{\"files\": []}";
  });
  spoilt("DATA_LOSS CORRUPT_CHECKPOINT", [](const std::string& d) {
    std::filesystem::create_directory(d + "sub");
  });
  spoilt("DATA_LOSS CORRUPT_CHECKPOINT", [](const std::string& d) {
    std::filesystem::remove(d + "vocab.json");
    std::filesystem::create_symlink("/etc/passwd", d + "vocab.json");
  });
  EXPECT_TRUE(Load("tiny", 1).ok());
}

TEST_F(ModelServiceErrorsTest, MemoryBudget) {
  ModelRepositoryOptions options = files_.Options();
  options.max_resident_bytes = 1000;
  Start(options, {});
  const grpc::Status status = Load("tiny", 2);
  EXPECT_EQ(Short(status), "RESOURCE_EXHAUSTED MEMORY_BUDGET");
  EXPECT_EQ(TakeApart(status).metadata.at("limit"), "1000");
  EXPECT_GT(std::stoll(TakeApart(status).metadata.at("value")), 1000);
  ++count_;
}

TEST_F(ModelServiceErrorsTest, QueueFull) {
  ModelServiceOptions options;
  options.worker_threads = 1;
  options.max_queued = 1;
  Start(files_.Options(), options);
  ASSERT_TRUE(Load("tiny", 2).ok());
  auto pin = *repository_->Acquire({.name = "tiny"});
  v1::UnloadModelRequest request;
  request.mutable_model()->set_name("tiny");
  request.mutable_model()->set_version(2);
  std::vector<std::thread> clients;
  clients.emplace_back(
      [&] { EXPECT_TRUE(Call(&Stub::UnloadModel, request).ok()); });
  // From here on the only worker waits for the pin.
  while (repository_->Get({.name = "tiny", .version = 2})->state !=
         ModelVersionState::kUnloading) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  // Of two more, one may wait.
  std::atomic<int> refused{0};
  for (int i = 0; i < 2; ++i) {
    clients.emplace_back([&] {
      const grpc::Status status = Call(&Stub::UnloadModel, request);
      if (status.ok()) return;
      EXPECT_EQ(Short(status), "RESOURCE_EXHAUSTED QUEUE_FULL");
      EXPECT_TRUE(TakeApart(status).retry);
      ++refused;
      pin.reset();
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(refused, 1);
  ++count_;
}

TEST_F(ModelServiceErrorsTest, Aliases) {
  const auto set = [&](const std::string& expected, auto edit) {
    Expect<v1::SetAliasRequest, v1::SetAliasResponse>(
        expected, &Stub::SetAlias, [&](v1::SetAliasRequest* request) {
          request->set_name("tiny");
          request->set_alias("default");
          request->set_version(2);
          edit(request);
        });
  };
  set("INVALID_ARGUMENT MISSING_FIELD name", [](auto* r) { r->clear_name(); });
  set("INVALID_ARGUMENT INVALID_FIELD name",
      [](auto* r) { r->set_name("a/../b"); });
  set("INVALID_ARGUMENT MISSING_FIELD alias",
      [](auto* r) { r->clear_alias(); });
  for (const std::string bad : {"1", "007", "a/b", "..", "x y"}) {
    set("INVALID_ARGUMENT INVALID_FIELD alias",
        [&](auto* r) { r->set_alias(bad); });
  }
  set("INVALID_ARGUMENT INVALID_FIELD alias",
      [](auto* r) { r->set_alias(std::string(65, 'a')); });
  set("INVALID_ARGUMENT MISSING_FIELD target",
      [](auto* r) { r->clear_target(); });
  set("INVALID_ARGUMENT INVALID_FIELD remove",
      [](auto* r) { r->set_remove(false); });
  set("INVALID_ARGUMENT INVALID_FIELD version",
      [](auto* r) { r->set_version(0); });
  set("INVALID_ARGUMENT INVALID_FIELD expected_version",
      [](auto* r) { r->set_expected_version(-1); });
  set("INVALID_ARGUMENT INVALID_FIELD comment",
      [](auto* r) { r->set_comment(std::string(513, 'x')); });
  set("INVALID_ARGUMENT INVALID_UTF8 comment",
      [](auto* r) { r->set_comment("\x80"); });
  set("NOT_FOUND MODEL_NOT_FOUND", [](auto* r) { r->set_name("none"); });
  set("NOT_FOUND VERSION_NOT_FOUND", [](auto* r) { r->set_version(99); });
  set("NOT_FOUND ALIAS_NOT_FOUND", [](auto* r) { r->set_remove(true); });
  set("FAILED_PRECONDITION VERSION_UNLOADED",
      [](auto* r) { r->set_version(1); });
  set("FAILED_PRECONDITION VERSION_FAILED", [](auto* r) { r->set_version(3); });
  set("ABORTED ALIAS_MISMATCH", [](auto* r) { r->set_expected_version(1); });

  const auto rollback = [&](const std::string& expected, auto edit) {
    Expect<v1::RollbackAliasRequest, v1::RollbackAliasResponse>(
        expected, &Stub::RollbackAlias, [&](v1::RollbackAliasRequest* request) {
          request->set_name("tiny");
          edit(request);
        });
  };
  rollback("INVALID_ARGUMENT MISSING_FIELD name",
           [](auto* r) { r->clear_name(); });
  rollback("INVALID_ARGUMENT INVALID_FIELD alias",
           [](auto* r) { r->set_alias("9"); });
  rollback("NOT_FOUND MODEL_NOT_FOUND", [](auto* r) { r->set_name("none"); });
  rollback("NOT_FOUND ALIAS_NOT_FOUND", [](auto*) {});
  set("OK", [](auto* r) { r->set_comment("fine"); });
  --count_;
  rollback("FAILED_PRECONDITION NO_PREVIOUS_VERSION", [](auto*) {});

  const auto history = [&](const std::string& expected, auto edit) {
    Expect<v1::ListAliasHistoryRequest, v1::ListAliasHistoryResponse>(
        expected, &Stub::ListAliasHistory,
        [&](v1::ListAliasHistoryRequest* request) {
          request->set_name("tiny");
          edit(request);
        });
  };
  history("INVALID_ARGUMENT MISSING_FIELD name",
          [](auto* r) { r->clear_name(); });
  history("INVALID_ARGUMENT INVALID_FIELD alias",
          [](auto* r) { r->set_alias("%"); });
  history("INVALID_ARGUMENT INVALID_FIELD limit",
          [](auto* r) { r->set_limit(1001); });
  history("INVALID_ARGUMENT INVALID_FIELD limit",
          [](auto* r) { r->set_limit(-1); });
  history("NOT_FOUND MODEL_NOT_FOUND", [](auto* r) { r->set_name("none"); });
}

TEST_F(ModelServiceErrorsTest, Deleting) {
  const auto remove = [&](const std::string& expected, const std::string& name,
                          int64_t version) {
    Expect<v1::DeleteVersionRequest, v1::DeleteVersionResponse>(
        expected, &Stub::DeleteVersion, [&](v1::DeleteVersionRequest* request) {
          request->set_name(name);
          request->set_version(version);
        });
  };
  remove("INVALID_ARGUMENT MISSING_FIELD name", "", 1);
  remove("INVALID_ARGUMENT INVALID_FIELD name", "../tiny", 1);
  remove("INVALID_ARGUMENT INVALID_FIELD version", "tiny", 0);
  remove("INVALID_ARGUMENT INVALID_FIELD version", "tiny", -5);
  remove("NOT_FOUND MODEL_NOT_FOUND", "none", 1);
  remove("NOT_FOUND VERSION_NOT_FOUND", "tiny", INT64_MAX);
  remove("FAILED_PRECONDITION VERSION_LOADED", "tiny", 2);
  v1::SetAliasRequest alias;
  alias.set_name("tiny");
  alias.set_alias("default");
  alias.set_version(2);
  ASSERT_TRUE(Call(&Stub::SetAlias, alias).ok());
  remove("FAILED_PRECONDITION VERSION_ALIASED", "tiny", 2);
  EXPECT_EQ(Versions(), 3);
}

TEST_F(ModelServiceErrorsTest, Diff) {
  const auto diff = [&](const std::string& expected, auto edit) {
    Expect<v1::DiffVersionsRequest, v1::DiffVersionsResponse>(
        expected, &Stub::DiffVersions, [&](v1::DiffVersionsRequest* request) {
          request->mutable_left()->set_name("tiny");
          request->mutable_right()->set_name("tiny");
          edit(request);
        });
  };
  diff("INVALID_ARGUMENT MISSING_FIELD left.name",
       [](auto* r) { r->clear_left(); });
  diff("INVALID_ARGUMENT MISSING_FIELD right.name",
       [](auto* r) { r->clear_right(); });
  diff("NOT_FOUND MODEL_NOT_FOUND",
       [](auto* r) { r->mutable_right()->set_name("none"); });
  diff("FAILED_PRECONDITION VERSION_FAILED",
       [](auto* r) { r->mutable_left()->set_version(3); });
}

TEST_F(ModelServiceErrorsTest, Importing) {
  namespace fs = std::filesystem;
  const std::string field = "INVALID_ARGUMENT INVALID_FIELD ";
  ExpectImport("INVALID_ARGUMENT MISSING_FIELD name",
               [](auto* r) { r->clear_name(); });
  ExpectImport(field + "name", [](auto* r) { r->set_name("a/b"); });
  ExpectImport("INVALID_ARGUMENT MISSING_FIELD source",
               [](auto* r) { r->clear_source(); });
  ExpectImport("FAILED_PRECONDITION IMPORT_DISABLED hub", [](auto* r) {
    r->mutable_hub()->set_repo_id("openai-community/gpt2");
  });
  for (const std::string bad : {"..", "../root", "/etc", "hf/../.."}) {
    ExpectImport(field + "directory", [&](auto* r) { r->set_directory(bad); });
  }
  ExpectImport(field + "directory", [](auto* r) { r->set_directory(""); });
  ExpectImport(field + "directory",
               [](auto* r) { r->set_directory(std::string(100000, 'a')); });
  ExpectImport(field + "directory",
               [](auto* r) { r->set_directory(std::string("hf\0", 3)); });
  ExpectImport("INVALID_ARGUMENT INVALID_UTF8 directory",
               [](auto* r) { r->set_directory("\xff"); });
  fs::create_directory_symlink("/etc", files_.import_root() + "/link");
  ExpectImport(field + "directory", [](auto* r) { r->set_directory("link"); });
  ExpectImport("NOT_FOUND SOURCE_NOT_FOUND",
               [](auto* r) { r->set_directory("none"); });
  fs::create_directory(files_.import_root() + "/empty");
  ExpectImport("INVALID_ARGUMENT UNSUPPORTED_MODEL directory",
               [](auto* r) { r->set_directory("empty"); });

  const auto quantization = [&](const std::string& expected, auto edit) {
    ExpectImport(expected, [&](auto* r) {
      r->mutable_quantization()->set_format("pot4");
      edit(r->mutable_quantization());
    });
  };
  quantization("INVALID_ARGUMENT MISSING_FIELD quantization.format",
               [](auto* q) { q->clear_format(); });
  for (const std::string bad : {"pot7", "POT4", "int5", "pot5-strict"}) {
    quantization(field + "quantization.format",
                 [&](auto* q) { q->set_format(bad); });
  }
  quantization(field + "quantization.format", [](auto* q) {
    q->set_format("twohot4");
    q->set_method("paper");
  });
  for (const std::string bad : {"g16", "column", "g064"}) {
    quantization(field + "quantization.granularity",
                 [&](auto* q) { q->set_granularity(bad); });
  }
  quantization(field + "quantization.method",
               [](auto* q) { q->set_method("gptq"); });
  quantization(field + "quantization.embedding_format",
               [](auto* q) { q->set_embedding_format("f32"); });
  quantization(field + "quantization.embedding_granularity",
               [](auto* q) { q->set_embedding_granularity("g1"); });
  quantization(field + "quantization.granularity", [](auto* q) {
    q->set_format("f32");
    q->set_granularity("row");
  });
  quantization(field + "quantization.method", [](auto* q) {
    q->set_format("f32");
    q->set_method("nearest");
  });
  EXPECT_EQ(Versions(), 3);
  EXPECT_FALSE(fs::exists(files_.root() + "/new"));

  ModelRepositoryOptions options = files_.Options();
  options.import_root.clear();
  Start(options, {});
  ExpectImport("FAILED_PRECONDITION IMPORT_DISABLED", [](auto*) {});
}

}  // namespace
}  // namespace pot
