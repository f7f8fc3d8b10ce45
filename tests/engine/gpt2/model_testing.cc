#include "tests/engine/gpt2/model_testing.h"

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <limits>
#include <utility>

#include "engine/base/file.h"
#include "gtest/gtest.h"
#include "test_paths.h"

namespace pot {
namespace {

void Check(const absl::Status& status) {
  if (status.ok()) return;
  std::cerr << status << std::endl;
  std::abort();
}

template <typename T>
T Must(absl::StatusOr<T> value) {
  Check(value.status());
  return *std::move(value);
}

}  // namespace

TempDirectory::TempDirectory() {
  std::string pattern = testing::TempDir() + "/pot_gpt2_XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) std::abort();
  path_ = pattern;
}

TempDirectory::~TempDirectory() { std::filesystem::remove_all(path_); }

std::string TinyBpeDirectory() {
  return std::string(POT_SOURCE_DIR) + "/tests/testdata/tiny-bpe";
}

std::string DeployedFile(const std::string& name) {
  return std::string(POT_SOURCE_DIR) + "/deploy/" + name;
}

std::string SharedFile(const std::string& name) {
  std::string path = std::string(POT_SHARED_DIR) + "/" + name;
  if (std::filesystem::exists(path)) return path;
  std::cerr << "SKIPPING FOR LACK OF " << path << std::endl;
  return "";
}

QuantizeOptions MakeQuantizeOptions(absl::string_view format,
                                    absl::string_view granularity,
                                    QuantizeMode mode) {
  QuantizeOptions options;
  options.format = Must(FindPotFormat(format));
  options.granularity = Must(Granularity::Parse(granularity));
  options.mode = mode;
  return options;
}

QuantizeModelOptions MakeModelOptions(absl::string_view format,
                                      absl::string_view granularity,
                                      QuantizeMode mode) {
  QuantizeModelOptions options;
  options.layers = MakeQuantizeOptions(format, granularity, mode);
  options.embedding = options.layers;
  return options;
}

const KernelTable* BestKernels() { return Must(FindKernelTable("auto")); }

std::unique_ptr<const ModelWeights> MustLoad(const std::string& directory,
                                             const KernelTable* kernels,
                                             ActivationMode activations) {
  LoadOptions options;
  options.kernels = kernels;
  options.activations = activations;
  return Must(LoadModelWeights(directory, options));
}

void MustQuantize(const std::string& from, const std::string& to,
                  const QuantizeModelOptions& options) {
  ThreadPool pool(2);
  Must(QuantizeModel(from, to, options, &pool, nullptr));
}

EditableModel EditableModel::TinyBpe() {
  EditableModel model;
  const std::string directory = TinyBpeDirectory();
  model.config_json = Must(ReadFile(directory + "/config.json", 1 << 20));
  const auto file =
      Must(SafetensorsFile::Open(directory + "/model.safetensors"));
  for (const auto& [name, view] : file->tensors()) {
    model.tensors[name] = {
        view.type, view.shape, {view.bytes.begin(), view.bytes.end()}};
  }
  return model;
}

void EditableModel::Write(const std::string& directory) const {
  std::vector<std::pair<std::string, TensorView>> views;
  for (const auto& [name, tensor] : tensors) {
    views.push_back({name, {tensor.type, tensor.shape, tensor.bytes}});
  }
  Check(WriteSafetensors(directory + "/model.safetensors", views, {}));
  Check(WriteFile(directory + "/config.json", config_json));
  for (const std::string name : {"vocab.json", "merges.txt"}) {
    std::filesystem::copy_file(
        TinyBpeDirectory() + "/" + name, directory + "/" + name,
        std::filesystem::copy_options::overwrite_existing);
  }
}

void EditableModel::Rename(const std::string& from, const std::string& to) {
  auto node = tensors.extract(from);
  node.key() = to;
  tensors.insert(std::move(node));
}

std::unique_ptr<KvCache> MustCreateCache(const ModelWeights& weights,
                                         KvType type, int64_t positions) {
  auto cache = KvCache::Create(
      weights.config, type, positions,
      std::make_shared<KvBudget>(std::numeric_limits<int64_t>::max()));
  EXPECT_TRUE(cache.ok()) << cache.status();
  return *std::move(cache);
}

std::vector<int32_t> RandomTokens(int64_t count, int64_t vocab_size,
                                  std::mt19937* random) {
  std::uniform_int_distribution<int32_t> token(0, vocab_size - 1);
  std::vector<int32_t> tokens(count);
  for (int32_t& t : tokens) t = token(*random);
  return tokens;
}

}  // namespace pot
