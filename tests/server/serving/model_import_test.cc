#include "server/serving/model_import.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "tests/server/serving/repository_testing.h"

namespace pot {
namespace {

namespace fs = std::filesystem;

bool Always(int64_t, int64_t) { return true; }

class ModelImportTest : public testing::Test {
 protected:
  ModelImportTest() {
    fs::create_directory(files_.import_root() + "/tiny");
    fs::copy(TinyBpeDirectory(), files_.import_root() + "/tiny");
    fs::create_directory(files_.root() + "/../outside");
    fs::copy(TinyBpeDirectory(), files_.root() + "/../outside");
    repository_ = files_.Open();
  }

  absl::Status Import(const std::string& directory) {
    return repository_->Import("new", directory, std::nullopt, Always).status();
  }
  void ExpectNothingLeft() {
    EXPECT_TRUE(repository_->List("")->empty());
    EXPECT_TRUE(fs::is_empty(files_.root() + "/.staging"));
  }

  RepositoryForTest files_;
  std::unique_ptr<ModelRepository> repository_;
};

TEST_F(ModelImportTest, CopiesFloats) {
  const auto info = repository_->Import("new", "tiny", std::nullopt, Always);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->version, 1);
  EXPECT_EQ(info->format, "f32");
  EXPECT_TRUE(repository_->Load({.name = "new"}, absl::InfiniteFuture()).ok());
  // Absolute is as good, as long as it lies below the root.
  EXPECT_TRUE(Import(files_.import_root() + "/tiny").ok());
  EXPECT_TRUE(Import("tiny/../tiny/.").ok());
}

TEST_F(ModelImportTest, QuantizesWithProgress) {
  int64_t last = 0, total = 0;
  const auto info = repository_->Import(
      "new", "tiny", MakeModelOptions("pot3", "g32", QuantizeMode::kNearest),
      [&](int64_t done, int64_t all) {
        EXPECT_GE(done, last);
        last = done;
        total = all;
        return true;
      });
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->format, "pot3");
  EXPECT_EQ(info->granularity, "g32");
  EXPECT_EQ(info->base_digest.size(), 64);
  EXPECT_GT(last, 0);
  EXPECT_EQ(last, total);
  EXPECT_TRUE(repository_->Load({.name = "new"}, absl::InfiniteFuture()).ok());
}

TEST_F(ModelImportTest, CancellingLeavesNothing) {
  for (const auto& options :
       {std::optional<QuantizeModelOptions>(),
        std::optional<QuantizeModelOptions>(
            MakeModelOptions("pot4", "row", QuantizeMode::kNearest))}) {
    const absl::Status status =
        repository_
            ->Import("new", "tiny", options,
                     [](int64_t, int64_t) { return false; })
            .status();
    EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
    ExpectNothingLeft();
  }
}

TEST_F(ModelImportTest, CancellingStopsTheQuantizerAtOnce) {
  int calls = 0;
  const absl::Status status =
      repository_
          ->Import("new", "tiny",
                   MakeModelOptions("pot4", "row", QuantizeMode::kNearest),
                   [&](int64_t, int64_t) { return ++calls < 3; })
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  // Not one more matrix of the 14.
  EXPECT_EQ(calls, 3);
}

TEST_F(ModelImportTest, SurvivesThatTheWeightsAreCutMeanwhile) {
  int calls = 0;
  const absl::Status status =
      repository_
          ->Import("new", "tiny",
                   MakeModelOptions("pot4", "row", QuantizeMode::kNearest),
                   [&](int64_t, int64_t) {
                     if (++calls == 2) {
                       fs::resize_file(
                           files_.import_root() + "/tiny/model.safetensors", 0);
                     }
                     return true;
                   })
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_EQ(Reason(status), "SOURCE_CHANGED") << status;
  EXPECT_EQ(calls, 2);
  ExpectNothingLeft();
}

TEST_F(ModelImportTest, NeverLeavesTheImportRoot) {
  fs::create_directory_symlink(fs::canonical(files_.root() + "/../outside"),
                               files_.import_root() + "/link");
  fs::create_directory(files_.import_root() + "/leak");
  fs::copy(TinyBpeDirectory(), files_.import_root() + "/leak");
  fs::remove(files_.import_root() + "/leak/vocab.json");
  fs::create_symlink(fs::canonical(files_.root() + "/../outside/vocab.json"),
                     files_.import_root() + "/leak/vocab.json");
  for (const std::string& path :
       {std::string("../outside"), std::string("tiny/../../outside"),
        std::string("link"), std::string("leak"), std::string("/"),
        std::string("/etc"), files_.root() + "/../outside",
        files_.import_root() + "-other", std::string(""),
        std::string("tiny\0x", 6), std::string(5000, 'a')}) {
    const absl::Status status = Import(path);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(Reason(status), "INVALID_FIELD") << status;
  }
  ExpectNothingLeft();
}

TEST_F(ModelImportTest, SaysWhatIsMissing) {
  for (const std::string path : {"none", "tiny/config.json"}) {
    const absl::Status status = Import(path);
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
    EXPECT_EQ(Reason(status), "SOURCE_NOT_FOUND");
  }
  ExpectNothingLeft();
}

TEST_F(ModelImportTest, RefusesWhatIsNoGpt2) {
  fs::create_directory(files_.import_root() + "/empty");
  EXPECT_EQ(Reason(Import("empty")), "UNSUPPORTED_MODEL");
  for (const std::string broken : {"config.json", "model.safetensors"}) {
    const std::string directory = files_.import_root() + "/broken";
    fs::remove_all(directory);
    fs::create_directory(directory);
    fs::copy(TinyBpeDirectory(), directory);
    std::ofstream(directory + "/" + broken) << "{\"model_type\": \"llama\"}";
    const absl::Status status = Import("broken");
    EXPECT_TRUE(absl::StartsWith(status.message(), "broken/" + broken))
        << status;
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(Reason(status), "UNSUPPORTED_MODEL") << status;
  }
  ExpectNothingLeft();
}

TEST_F(ModelImportTest, NeedsAnImportRoot) {
  ModelRepositoryOptions options = files_.Options();
  options.import_root.clear();
  const auto repository = *ModelRepository::Open(options);
  const absl::Status status =
      repository->Import("new", "tiny", std::nullopt, Always).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Reason(status), "IMPORT_DISABLED");
}

}  // namespace
}  // namespace pot
