#include "server/serving/model_repository.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/gpt2/float_model.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/serving/error_details.h"
#include "tests/server/serving/repository_testing.h"

namespace pot {
namespace {

using State = ModelVersionState;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

absl::Time Soon() { return absl::Now() + absl::Seconds(20); }

ModelSelector Version(int64_t version) {
  return {.name = "tiny", .version = version};
}

AliasChange Point(const std::string& alias, int64_t to) {
  AliasChange change;
  change.model = "tiny";
  change.alias = alias;
  change.to_version = to;
  change.time = absl::UnixEpoch();
  return change;
}

class ModelRepositoryTest : public testing::Test {
 protected:
  void Expect(const absl::Status& status, absl::StatusCode code,
              const std::string& reason) {
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_EQ(Reason(status), reason) << status;
  }

  RepositoryForTest files_;
};

TEST_F(ModelRepositoryTest, LoadsThroughEveryStateInOrder) {
  files_.AddPot("tiny", "pot4");
  const auto repository = files_.Open();
  std::vector<State> states;
  const auto watch = repository->Watch("tiny", [&](const ModelEvent& event) {
    if (event.kind != ModelEvent::Kind::kSnapshotDone) {
      states.push_back(event.version.state);
    }
  });
  const auto loaded = repository->Load(Version(1), Soon());
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_THAT(states,
              ElementsAre(State::kRegistered, State::kVerifying,
                          State::kLoading, State::kWarming, State::kAvailable));
  EXPECT_EQ(loaded->format, "pot4");
  EXPECT_EQ(loaded->granularity, "row");
  EXPECT_EQ(loaded->embedding_format, "pot4");
  EXPECT_EQ(loaded->method, "nearest");
  EXPECT_EQ(loaded->digest.size(), 64);
  EXPECT_EQ(loaded->config.n_embd, 96);
  EXPECT_GT(loaded->load_seconds, 0);
  const auto model = repository->Acquire({.name = "tiny"});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->identity.sha256, loaded->digest);
  EXPECT_EQ(loaded->resident_bytes, (*model)->weights->resident_bytes());
}

TEST_F(ModelRepositoryTest, DescribesFloatModelsWithoutLoadingThem) {
  files_.AddFloat("tiny");
  const auto repository = files_.Open();
  const auto infos = repository->List("");
  ASSERT_TRUE(infos.ok());
  ASSERT_EQ(infos->size(), 1);
  EXPECT_EQ(infos->front().state, State::kRegistered);
  EXPECT_EQ(infos->front().format, "f32");
  EXPECT_EQ(infos->front().granularity, "");
  EXPECT_EQ(infos->front().resident_bytes, 0);
  EXPECT_GT(infos->front().file_bytes, 500000);
  Expect(repository->Acquire({.name = "tiny"}).status(),
         absl::StatusCode::kFailedPrecondition, "VERSION_UNLOADED");
}

TEST_F(ModelRepositoryTest, ResolvesNameVersionAliasAndDigest) {
  for (int i = 0; i < 3; ++i) files_.AddPot("tiny", "pot4");
  const auto repository = files_.Open();
  const auto version_of = [&](const ModelSelector& selector) -> int64_t {
    const auto model = repository->Acquire(selector);
    EXPECT_TRUE(model.ok()) << model.status();
    return model.ok() ? (*model)->identity.version : 0;
  };
  ASSERT_TRUE(repository->Load(Version(1), Soon()).ok());
  ASSERT_TRUE(repository->Load(Version(2), Soon()).ok());
  // No alias "default": the highest that is AVAILABLE.
  EXPECT_EQ(version_of({.name = "tiny"}), 2);
  ASSERT_TRUE(repository->SetAlias(Point("default", 1), 0).ok());
  EXPECT_EQ(version_of({.name = "tiny"}), 1);
  EXPECT_EQ(version_of(Version(2)), 2);
  EXPECT_EQ(version_of({.name = "tiny", .alias = "default"}), 1);
  const std::string digest = repository->Get(Version(2))->digest;
  // Versions of the same content may have the same digest.
  EXPECT_EQ(repository->Acquire({.name = "tiny", .digest = digest})
                .value()
                ->identity.sha256,
            digest);

  const auto not_found = absl::StatusCode::kNotFound;
  Expect(repository->Acquire({.name = "none"}).status(), not_found,
         "MODEL_NOT_FOUND");
  Expect(repository->Acquire({.name = "../tiny"}).status(), not_found,
         "MODEL_NOT_FOUND");
  Expect(repository->Acquire(Version(9)).status(), not_found,
         "VERSION_NOT_FOUND");
  Expect(repository->Acquire({.name = "tiny", .alias = "x"}).status(),
         not_found, "ALIAS_NOT_FOUND");
  Expect(repository->Acquire({.name = "tiny", .digest = std::string(64, '0')})
             .status(),
         not_found, "VERSION_NOT_FOUND");
}

TEST_F(ModelRepositoryTest, FindsVersionsThatAnotherProcessWrites) {
  const auto repository = files_.Open();
  EXPECT_TRUE(repository->List("")->empty());
  files_.AddPot("tiny", "pot4");
  EXPECT_EQ(repository->List("tiny")->size(), 1);
  files_.AddPot("tiny", "pot3");
  EXPECT_EQ(repository->Get(Version(2))->format, "pot3");
  files_.AddPot("tiny", "pot2");
  Expect(repository->Acquire(Version(3)).status(),
         absl::StatusCode::kFailedPrecondition, "VERSION_UNLOADED");
  files_.AddPot("tiny", "pot2");
  EXPECT_TRUE(repository->Load(Version(4), Soon()).ok());
  std::filesystem::remove_all(files_.root() + "/tiny/1");
  EXPECT_EQ(repository->List("")->size(), 3);
}

TEST_F(ModelRepositoryTest, BrokenVersionsFailAlone) {
  for (int i = 0; i < 3; ++i) files_.AddPot("tiny", "pot4");
  std::filesystem::remove(files_.File("tiny", 1, "manifest.json"));
  FlipBit(files_.File("tiny", 2, "model.pot.safetensors"), 100000);
  const auto repository = files_.Open();
  const auto first = repository->Get(Version(1));
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->state, State::kFailed);
  EXPECT_THAT(first->state_message, HasSubstr("manifest.json"));
  Expect(repository->Load(Version(1), Soon()).status(),
         absl::StatusCode::kDataLoss, "CORRUPT_CHECKPOINT");

  const absl::Status flipped = repository->Load(Version(2), Soon()).status();
  Expect(flipped, absl::StatusCode::kDataLoss, "CHECKSUM_MISMATCH");
  // Clients do not learn where the server keeps its files; the log does.
  EXPECT_THAT(std::string(flipped.message()),
              HasSubstr("tiny/2/model.pot.safetensors"));
  for (const std::string& message :
       {std::string(flipped.message()), first->state_message,
        repository->Get(Version(2))->state_message}) {
    EXPECT_THAT(message, Not(HasSubstr(repository->root())));
  }
  EXPECT_THAT(GetDetails(flipped)->log_message,
              HasSubstr(repository->root() + "/tiny/2/model.pot.safetensors"));
  EXPECT_EQ(Metadata(flipped, "limit").size(), 64);
  EXPECT_EQ(Metadata(flipped, "value").size(), 64);
  EXPECT_NE(Metadata(flipped, "limit"), Metadata(flipped, "value"));
  Expect(repository->Acquire(Version(2)).status(),
         absl::StatusCode::kFailedPrecondition, "VERSION_FAILED");

  EXPECT_TRUE(repository->Load(Version(3), Soon()).ok());
  EXPECT_TRUE(repository->Acquire({.name = "tiny"}).ok());
  // A file that was put right loads.
  FlipBit(files_.File("tiny", 2, "model.pot.safetensors"), 100000);
  EXPECT_TRUE(repository->Load(Version(2), Soon()).ok());
}

TEST_F(ModelRepositoryTest, BudgetRefusesWithSizesAndChangesNothing) {
  files_.AddFloat("tiny");
  files_.AddPot("tiny", "pot4");
  ModelRepositoryOptions options = files_.Options();
  // Between the two: fp32 takes 4 bytes a weight, pot4 about one, padding to
  // blocks of 64 outputs included.
  options.max_resident_bytes = 400000;
  auto repository = ModelRepository::Open(options);
  ASSERT_TRUE(repository.ok());
  const absl::Status status = (*repository)->Load(Version(1), Soon()).status();
  Expect(status, absl::StatusCode::kResourceExhausted, "MEMORY_BUDGET");
  EXPECT_EQ(Metadata(status, "limit"), "400000");
  EXPECT_EQ(Metadata(status, "value"),
            absl::StrCat(
                4 * (*repository)->Get(Version(1))->config.num_parameters()));
  EXPECT_EQ((*repository)->Get(Version(1))->state, State::kRegistered);
  ASSERT_TRUE((*repository)->Load(Version(2), Soon()).ok());
  ASSERT_TRUE((*repository)->Unload(Version(2), Soon()).ok());
  ASSERT_TRUE((*repository)->Load(Version(2), Soon()).ok());
}

TEST_F(ModelRepositoryTest, BudgetCountsWhatIsPinned) {
  files_.AddPot("tiny", "pot4");
  files_.AddPot("tiny", "pot4");
  auto probe = files_.Open();
  const int64_t bytes = probe->Load(Version(1), Soon())->resident_bytes;
  probe.reset();
  ModelRepositoryOptions options = files_.Options();
  options.max_resident_bytes = bytes + bytes / 2;
  const auto repository = *ModelRepository::Open(options);
  ASSERT_TRUE(repository->Load(Version(1), Soon()).ok());
  auto pin = *repository->Acquire(Version(1));
  Expect(repository->Unload(Version(1), absl::Now()).status(),
         absl::StatusCode::kDeadlineExceeded, "DEADLINE_PASSED");
  Expect(repository->Load(Version(2), Soon()).status(),
         absl::StatusCode::kResourceExhausted, "MEMORY_BUDGET");
  pin.reset();
  EXPECT_TRUE(repository->Load(Version(2), Soon()).ok());
}

TEST_F(ModelRepositoryTest, UnloadWaitsForPins) {
  files_.AddPot("tiny", "pot4");
  const auto repository = files_.Open();
  ASSERT_TRUE(repository->Load(Version(1), Soon()).ok());
  auto pin = *repository->Acquire(Version(1));
  const std::weak_ptr<const LoadedModel> weak = pin;
  const absl::Status waited =
      repository->Unload(Version(1), absl::Now() + absl::Milliseconds(20))
          .status();
  Expect(waited, absl::StatusCode::kDeadlineExceeded, "DEADLINE_PASSED");
  EXPECT_EQ(repository->Get(Version(1))->state, State::kUnloading);
  EXPECT_GT(repository->Get(Version(1))->resident_bytes, 0);
  Expect(repository->Acquire(Version(1)).status(),
         absl::StatusCode::kUnavailable, "DRAINING");
  Expect(repository->Load(Version(1), Soon()).status(),
         absl::StatusCode::kUnavailable, "DRAINING");
  Expect(repository->Delete("tiny", 1), absl::StatusCode::kFailedPrecondition,
         "VERSION_LOADED");
  pin.reset();
  EXPECT_TRUE(weak.expired());
  EXPECT_EQ(repository->Get(Version(1))->state, State::kUnloaded);
  EXPECT_EQ(repository->Get(Version(1))->resident_bytes, 0);
  EXPECT_TRUE(repository->Unload(Version(1), absl::Now()).ok());
  EXPECT_TRUE(repository->Load(Version(1), Soon()).ok());
}

TEST_F(ModelRepositoryTest, AModelMayOutliveItsRepository) {
  files_.AddPot("tiny", "pot4");
  auto repository = files_.Open();
  ASSERT_TRUE(repository->Load(Version(1), Soon()).ok());
  auto pin = *repository->Acquire(Version(1));
  repository.reset();
  EXPECT_EQ(pin->config().n_layer, 3);
  pin.reset();
}

TEST_F(ModelRepositoryTest, LoadServedStopsBetweenVersions) {
  for (const char* name : {"a", "b", "c"}) files_.AddPot(name, "pot4");
  const auto repository = files_.Open();
  int asked = 0;
  repository->LoadServed([&] { return ++asked > 1; });
  EXPECT_EQ(repository->Get({.name = "a"})->state, State::kAvailable);
  EXPECT_EQ(repository->Get({.name = "b"})->state, State::kRegistered);
  EXPECT_EQ(repository->Get({.name = "c"})->state, State::kRegistered);
}

TEST_F(ModelRepositoryTest, LoadServedPrefersAliasesAndSkipsBrokenVersions) {
  for (int i = 0; i < 3; ++i) files_.AddPot("tiny", "pot4");
  for (int i = 0; i < 2; ++i) files_.AddPot("other", "pot4");
  FlipBit(files_.File("other", 2, "model.pot.safetensors"), 100000);
  std::ofstream(files_.root() + "/tiny/aliases.jsonl")
      << "{\"sequence\":1,\"alias\":\"default\",\"from\":0,\"to\":2,"
         "\"cause\":\"SET\",\"actor\":\"\",\"comment\":\"\","
         "\"time\":\"2026-01-01T00:00:00Z\"}\n";
  const auto repository = files_.Open();
  repository->LoadServed();
  EXPECT_EQ(repository->Get(Version(1))->state, State::kRegistered);
  EXPECT_EQ(repository->Get(Version(2))->state, State::kAvailable);
  EXPECT_EQ(repository->Get(Version(3))->state, State::kRegistered);
  EXPECT_EQ((*repository->Acquire({.name = "tiny"}))->identity.version, 2);
  EXPECT_EQ((*repository->Acquire({.name = "other"}))->identity.version, 1);
  EXPECT_EQ(repository->Get({.name = "other", .version = 2})->state,
            State::kFailed);
}

TEST_F(ModelRepositoryTest, UnreadableAliasesAreAnErrorAndNoGuess) {
  files_.AddPot("tiny", "pot4");
  std::ofstream(files_.root() + "/tiny/aliases.jsonl") << "nonsense\n";
  const auto repository = files_.Open();
  ASSERT_TRUE(repository->Load(Version(1), Soon()).ok());
  Expect(repository->Acquire({.name = "tiny"}).status(),
         absl::StatusCode::kDataLoss, "CORRUPT_CHECKPOINT");
  EXPECT_TRUE(repository->Acquire(Version(1)).ok());
  ASSERT_TRUE(repository->Unload(Version(1), Soon()).ok());
  Expect(repository->Delete("tiny", 1), absl::StatusCode::kDataLoss,
         "CORRUPT_CHECKPOINT");
}

TEST_F(ModelRepositoryTest, AliasesMoveAndRollBack) {
  for (int i = 0; i < 2; ++i) files_.AddPot("tiny", "pot4");
  const auto repository = files_.Open();
  const auto failed = absl::StatusCode::kFailedPrecondition;
  Expect(repository->SetAlias(Point("default", 1), std::nullopt).status(),
         failed, "VERSION_UNLOADED");
  ASSERT_TRUE(repository->Load(Version(1), Soon()).ok());
  ASSERT_TRUE(repository->Load(Version(2), Soon()).ok());
  Expect(repository->RollbackAlias(Point("default", 0), std::nullopt, Soon())
             .status(),
         absl::StatusCode::kNotFound, "ALIAS_NOT_FOUND");
  ASSERT_TRUE(repository->SetAlias(Point("default", 1), 0).ok());
  Expect(repository->RollbackAlias(Point("default", 0), std::nullopt, Soon())
             .status(),
         failed, "NO_PREVIOUS_VERSION");
  ASSERT_TRUE(repository->SetAlias(Point("default", 2), 1).ok());
  EXPECT_THAT(repository->Get(Version(2))->aliases, ElementsAre("default"));
  EXPECT_TRUE(repository->Get(Version(1))->aliases.empty());
  // The version to go back to is loaded first.
  ASSERT_TRUE(repository->Unload(Version(1), Soon()).ok());
  Expect(repository->RollbackAlias(Point("default", 0), 1, Soon()).status(),
         absl::StatusCode::kAborted, "ALIAS_MISMATCH");
  EXPECT_EQ(repository->Get(Version(1))->state, State::kUnloaded);
  AliasChange back = Point("default", 0);
  back.cause = AliasChangeCause::kRollback;
  const auto rolled = repository->RollbackAlias(back, 2, Soon());
  ASSERT_TRUE(rolled.ok()) << rolled.status();
  EXPECT_EQ(rolled->from_version, 2);
  EXPECT_EQ(rolled->to_version, 1);
  EXPECT_EQ(repository->Get(Version(1))->state, State::kAvailable);
  const auto history = repository->AliasHistory("tiny", "default", 10);
  ASSERT_TRUE(history.ok());
  EXPECT_EQ(history->size(), 3);
  EXPECT_EQ(history->front().cause, AliasChangeCause::kRollback);
}

TEST_F(ModelRepositoryTest, DeletesOnlyWhatNothingNeeds) {
  for (int i = 0; i < 2; ++i) files_.AddPot("tiny", "pot4");
  const auto repository = files_.Open();
  const auto failed = absl::StatusCode::kFailedPrecondition;
  ASSERT_TRUE(repository->Load(Version(1), Soon()).ok());
  Expect(repository->Delete("tiny", 1), failed, "VERSION_LOADED");
  ASSERT_TRUE(repository->SetAlias(Point("default", 1), 0).ok());
  ASSERT_TRUE(repository->Unload(Version(1), Soon()).ok());
  const absl::Status aliased = repository->Delete("tiny", 1);
  Expect(aliased, failed, "VERSION_ALIASED");
  EXPECT_EQ(Metadata(aliased, "value"), "default");
  int deleted = 0;
  const auto watch = repository->Watch("", [&](const ModelEvent& event) {
    deleted += event.kind == ModelEvent::Kind::kDeleted;
  });
  EXPECT_TRUE(repository->Delete("tiny", 2).ok());
  EXPECT_EQ(deleted, 1);
  EXPECT_FALSE(std::filesystem::exists(files_.root() + "/tiny/2"));
  Expect(repository->Delete("tiny", 2), absl::StatusCode::kNotFound,
         "VERSION_NOT_FOUND");
}

TEST_F(ModelRepositoryTest, RegistersOnlyWhatIsWhole) {
  files_.AddPot("tiny", "pot4");
  const auto repository = files_.Open();
  const auto stage = [&] {
    StagedVersion staged = *repository->Stage("tiny");
    std::filesystem::copy(files_.root() + "/tiny/1", staged.directory());
    return staged;
  };
  EXPECT_EQ(repository->Register(stage(), "tiny", 0)->version, 2);
  EXPECT_EQ(repository->Register(stage(), "tiny", 7)->version, 7);
  Expect(repository->Register(stage(), "tiny", 7).status(),
         absl::StatusCode::kAlreadyExists, "VERSION_EXISTS");
  StagedVersion flipped = stage();
  FlipBit(flipped.directory() + "/model.pot.safetensors", 100000);
  Expect(repository->Register(std::move(flipped), "tiny", 0).status(),
         absl::StatusCode::kDataLoss, "CHECKSUM_MISMATCH");
  StagedVersion lacking = stage();
  std::filesystem::remove(lacking.directory() + "/config.json");
  Expect(repository->Register(std::move(lacking), "tiny", 0).status(),
         absl::StatusCode::kDataLoss, "CORRUPT_CHECKPOINT");
  EXPECT_EQ(repository->List("")->size(), 3);
  EXPECT_TRUE(std::filesystem::is_empty(files_.root() + "/.staging"));
}

TEST_F(ModelRepositoryTest, DiffMeasuresWhatQuantizingChanged) {
  files_.AddFloat("tiny");
  files_.AddPot("tiny", "pot4");
  files_.AddPot("tiny", "pot4");
  files_.AddPot("tiny", "twohot4");
  const auto repository = files_.Open();
  const auto same = repository->Diff(Version(2), Version(3));
  ASSERT_TRUE(same.ok()) << same.status();
  for (const auto& tensor : same->tensors) {
    EXPECT_EQ(tensor.relative_squared_error, 0) << tensor.name;
    EXPECT_EQ(tensor.max_absolute_difference, 0) << tensor.name;
    EXPECT_EQ(tensor.changed_codes.value_or(0), 0) << tensor.name;
  }
  EXPECT_EQ(same->tensors.front().name, "wte.weight");
  EXPECT_EQ(same->tensors.front().changed_codes, 0);

  const auto quantized = repository->Diff(Version(1), Version(2));
  const auto two_hot = repository->Diff(Version(1), Version(4));
  ASSERT_TRUE(quantized.ok() && two_hot.ok());
  for (size_t i = 0; i < quantized->tensors.size(); ++i) {
    const auto& tensor = quantized->tensors[i];
    EXPECT_FALSE(tensor.changed_codes.has_value());
    EXPECT_EQ(tensor.left_format, "f32");
    if (tensor.right_format == "f32") continue;
    EXPECT_EQ(tensor.right_format, "pot4");
    // Per row, 4 bits: the two-hot book, which has more levels near its top,
    // is nearer than the one-hot book on weights without outliers.
    EXPECT_GT(tensor.relative_squared_error, 0) << tensor.name;
    EXPECT_LT(two_hot->tensors[i].relative_squared_error,
              tensor.relative_squared_error)
        << tensor.name;
    EXPECT_LT(tensor.relative_squared_error, 0.1) << tensor.name;
  }
}

TEST_F(ModelRepositoryTest, DiffAgreesWithTheQuantizersOwnError) {
  files_.AddFloat("tiny");
  files_.AddPot("tiny", "pot4");
  const auto repository = files_.Open();
  const auto diff = repository->Diff(Version(1), Version(2));
  ASSERT_TRUE(diff.ok()) << diff.status();
  // wte needs no transposing: (V, C) on both sides.
  const auto model = FloatModel::Open(TinyBpeDirectory());
  ASSERT_TRUE(model.ok());
  const TensorSpec wte = model->tensors().front();
  ASSERT_EQ(wte.name, "wte.weight");
  const std::vector<float> weights = *model->Read(wte);
  const auto matrix =
      QuantizePot(weights, wte.rows(), wte.cols(),
                  MakeQuantizeOptions("pot4", "row", QuantizeMode::kNearest));
  ASSERT_TRUE(matrix.ok());
  // The same sums in double, perhaps in another order.
  EXPECT_NEAR(diff->tensors.front().relative_squared_error,
              NormalizedSquaredError(weights, *matrix), 1e-12);
}

TEST_F(ModelRepositoryTest, DiffNeedsOneArchitecture) {
  files_.AddFloat("tiny");
  EditableModel other = EditableModel::TinyBpe();
  const size_t at = other.config_json.find("\"n_layer\": 3");
  ASSERT_NE(at, std::string::npos);
  other.config_json.replace(at, 12, "\"n_layer\": 2");
  for (auto it = other.tensors.begin(); it != other.tensors.end();) {
    it = it->first.find("h.2.") != std::string::npos ? other.tensors.erase(it)
                                                     : std::next(it);
  }
  std::filesystem::create_directory(files_.import_root() + "/other");
  other.Write(files_.import_root() + "/other");
  const auto repository = files_.Open();
  const auto imported = repository->Import(
      "other", "other", std::nullopt, [](int64_t, int64_t) { return true; });
  ASSERT_TRUE(imported.ok()) << imported.status();
  Expect(repository->Diff(Version(1), {.name = "other"}).status(),
         absl::StatusCode::kInvalidArgument, "SHAPE_MISMATCH");
}

}  // namespace
}  // namespace pot
