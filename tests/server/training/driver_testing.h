// A repository with a float model, the jobs' folders, and checkpoints of it.
#ifndef POT_TESTS_SERVER_TRAINING_DRIVER_TESTING_H_
#define POT_TESTS_SERVER_TRAINING_DRIVER_TESTING_H_

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/sha256.h"
#include "engine/checkpoint/manifest.h"
#include "gtest/gtest.h"
#include "server/serving/error_details.h"
#include "server/training/job_files.h"
#include "server/training/qat_job_store.h"
#include "tests/server/serving/repository_testing.h"

namespace pot {

inline std::string Sha256Of(const std::string& text) {
  return Sha256Hex(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

inline void WriteTo(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

// A few hundred tokens of tiny-bpe.
inline std::string ValidationText() {
  std::string text;
  for (int i = 0; i < 40; ++i) {
    absl::StrAppend(&text, "The heel of the ", i, "th moon sleeps; elder ",
                    i * i, " ate her evening hen.\n");
  }
  return text;
}

// "tiny" version 1, AVAILABLE and "default"; a text; a store.
class DriverTest : public ::testing::Test {
 protected:
  void SetUp() override {
    files_.AddFloat("tiny");
    repository_ = files_.Open();
    ASSERT_TRUE(
        repository_
            ->Load({.name = "tiny", .version = 1}, absl::InfiniteFuture())
            .ok());
    MoveAlias(1);
    jobs_root_ = temp_.File("training");
    ASSERT_TRUE(MakeJobDirectories(jobs_root_).ok());
    WriteTo(DatasetsDirectory(jobs_root_) + "/" + TextDigest(),
            ValidationText());
    OpenStore();
    ASSERT_TRUE(store_
                    ->AddDataset(TextDigest(), "text",
                                 static_cast<int64_t>(ValidationText().size()))
                    .ok());
  }

  void OpenStore() {
    store_.reset();
    QatJobStoreOptions options;
    options.path = JobDatabasePath(jobs_root_);
    auto store = QatJobStore::Open(std::move(options));
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  static std::string TextDigest() { return Sha256Of(ValidationText()); }

  // By hand, as an operator does.
  void MoveAlias(int64_t version) {
    AliasChange change;
    change.model = "tiny";
    change.alias = "default";
    change.to_version = version;
    change.actor = "operator";
    change.time = absl::UnixEpoch();
    const auto moved = repository_->SetAlias(change, std::nullopt);
    ASSERT_TRUE(moved.ok()) << moved.status();
  }
  // Newest first.
  std::vector<AliasChange> History() {
    return *repository_->AliasHistory("tiny", "default", 100);
  }
  int64_t Default() { return History().front().to_version; }

  // A model directory; with a manifest, a whole checkpoint.
  std::string MakeCheckpoint(const std::string& format, bool manifest = true) {
    const std::string directory = temp_.File("checkpoint-" + format);
    std::filesystem::create_directories(directory);
    MustQuantize(TinyBpeDirectory(), directory,
                 MakeModelOptions(format, "row", QuantizeMode::kNearest));
    if (manifest) {
      EXPECT_TRUE(WriteManifest(directory, 1700000000, "test").ok());
    }
    return directory;
  }

  // Evaluated on the whole text.
  NewQatJob Job() {
    NewQatJob job;
    job.spec.mutable_base()->set_name("tiny");
    job.spec.mutable_base()->set_digest(
        repository_->Get({.name = "tiny", .version = 1})->digest);
    job.spec.mutable_data()->mutable_datasets()->add_sha256(TextDigest());
    job.spec.mutable_data()->set_validation_sha256(TextDigest());
    job.spec.mutable_publish()->set_alias("default");
    job.submitter = "alice";
    return job;
  }

  TempDirectory temp_;
  RepositoryForTest files_;
  std::unique_ptr<ModelRepository> repository_;
  std::string jobs_root_;
  std::unique_ptr<QatJobStore> store_;
};

}  // namespace pot

#endif  // POT_TESTS_SERVER_TRAINING_DRIVER_TESTING_H_
