#include "tests/server/serving/repository_testing.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << value.status() << std::endl;
  std::abort();
}

}  // namespace

std::string Reason(const absl::Status& status) {
  return GetDetails(status).value_or(ErrorDetails()).reason;
}

std::string Metadata(const absl::Status& status, const std::string& key) {
  return GetDetails(status).value_or(ErrorDetails()).metadata[key];
}

RepositoryForTest::RepositoryForTest()
    : root_(directory_.File("root")), import_root_(directory_.File("import")) {
  std::filesystem::create_directories(root_);
  std::filesystem::create_directories(import_root_);
}

std::string RepositoryForTest::File(const std::string& model, int64_t version,
                                    const std::string& name) const {
  return absl::StrCat(root_, "/", model, "/", version, "/", name);
}

int64_t RepositoryForTest::AddFloat(const std::string& model) {
  const auto store = Must(VersionStore::Open(root_));
  StagedVersion staged = Must(store->Stage(model));
  const absl::Status copied =
      CopyFloatModel(TinyBpeDirectory(), staged.directory());
  if (!copied.ok()) std::abort();
  return Must(store->Commit(std::move(staged), 0, "test"));
}

int64_t RepositoryForTest::AddPot(const std::string& model,
                                  const std::string& format) {
  const auto store = Must(VersionStore::Open(root_));
  StagedVersion staged = Must(store->Stage(model));
  MustQuantize(TinyBpeDirectory(), staged.directory(),
               MakeModelOptions(format, "row", QuantizeMode::kNearest));
  return Must(store->Commit(std::move(staged), 0, "test"));
}

ModelRepositoryOptions RepositoryForTest::Options() const {
  ModelRepositoryOptions options;
  options.root = root_;
  options.import_root = import_root_;
  options.load.kernels = BestKernels();
  return options;
}

std::unique_ptr<ModelRepository> RepositoryForTest::Open() const {
  return Must(ModelRepository::Open(Options()));
}

void FlipBit(const std::string& path, int64_t offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(offset);
  const char byte = static_cast<char>(file.get() ^ 1);
  file.seekp(offset);
  file.put(byte);
  if (!file.flush()) std::abort();
}

}  // namespace pot
