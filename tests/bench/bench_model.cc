#include "tests/bench/bench_model.h"

#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/base/thread_pool.h"
#include "engine/checkpoint/version_store.h"
#include "engine/gpt2/quantize_model.h"
#include "tests/bench/onednn_matmul.h"
#include "trainer/random_model.h"

namespace pot {
namespace {

namespace fs = std::filesystem;

void NoProgress(int64_t, int64_t) {}

struct BenchModel {
  std::string name;
  std::string shape;  // of NamedGpt2Config
  bool quantized = true;
  double outliers = 0;
};

absl::Status MakeDirectory(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (!error) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(path, ": ", error.message()));
}

absl::Status QuantizePerRow(const std::string& from, const std::string& to,
                            double outliers) {
  QuantizeModelOptions options;
  POT_ASSIGN_OR_RETURN(options.layers.format, FindPotFormat("pot4"));
  options.layers.granularity = {Granularity::Kind::kRow, 0};
  options.layers.outliers = outliers;
  options.embedding = options.layers;
  ThreadPool pool(static_cast<int>(std::thread::hardware_concurrency()));
  return QuantizeModel(from, to, options, &pool, NoProgress).status();
}

// Makes the first version of each that is not in `repository`.
absl::Status MakeModels(const std::string& repository,
                        const std::vector<BenchModel>& models) {
  POT_RETURN_IF_ERROR(MakeDirectory(repository));
  POT_ASSIGN_OR_RETURN(const std::unique_ptr<VersionStore> store,
                       VersionStore::Open(repository));
  for (const BenchModel& model : models) {
    POT_ASSIGN_OR_RETURN(const std::vector<int64_t> versions,
                         store->ListVersions(model.name));
    if (!versions.empty()) continue;
    const std::string float_directory =
        absl::StrCat(repository, "-float-", model.name);
    POT_RETURN_IF_ERROR(MakeDirectory(float_directory));
    POT_ASSIGN_OR_RETURN(const Gpt2Config config, NamedGpt2Config(model.shape));
    POT_RETURN_IF_ERROR(
        WriteRandomModel(config, 1, float_directory, NoProgress));
    POT_ASSIGN_OR_RETURN(StagedVersion staged, store->Stage(model.name));
    POT_RETURN_IF_ERROR(
        model.quantized ? QuantizePerRow(float_directory, staged.directory(),
                                         model.outliers)
                        : CopyFloatModel(float_directory, staged.directory()));
    std::error_code error;
    fs::remove_all(float_directory, error);
    POT_RETURN_IF_ERROR(
        store->Commit(std::move(staged), 1, kEngineVersion).status());
  }
  return absl::OkStatus();
}

}  // namespace

std::string BenchRepository(const BenchOptions& options,
                            const std::string& name) {
  return absl::StrCat(options.work, "/", name, "/models");
}

absl::Status MakeBenchModel(const BenchOptions& options,
                            const std::string& name) {
  const std::string repository = BenchRepository(options, name);
  if (name == "gpt2-outliers") {
    return MakeModels(repository, {{name, "gpt2", true, 0.001}});
  }
  return MakeModels(repository, {{name, name}});
}

absl::Status MakeTrainingModels(const BenchOptions& options) {
  return MakeModels(BenchRepository(options, "training"),
                    {{"gpt2", "gpt2"}, {"gpt2-f32", "gpt2", false}});
}

absl::StatusOr<std::shared_ptr<const LoadedModel>> LoadBenchModel(
    const BenchOptions& options, const std::string& name,
    const KernelTable* kernels) {
  POT_RETURN_IF_ERROR(MakeBenchModel(options, name));
  return LoadModel(absl::StrCat(BenchRepository(options, name), "/", name, "/1"),
                   {name, 1, ""}, {kernels, ActivationMode::kAffine});
}

std::shared_ptr<const LoadedModel> MakeOnednnModel(const LoadedModel& like) {
  const Gpt2Config& config = like.config();
  const int64_t C = config.n_embd;
  auto weights = std::make_unique<ModelWeights>();
  weights->config = config;
  weights->kernels = like.weights->kernels;
  for (const LayerWeights& layer : like.weights->layers) {
    LayerWeights floats;
    floats.ln_1 = layer.ln_1;
    floats.ln_2 = layer.ln_2;
    floats.attn_c_attn = MakeOnednnLinear(1, C, 3 * C);
    floats.attn_c_proj = MakeOnednnLinear(1, C, C);
    floats.mlp_c_fc = MakeOnednnLinear(1, C, config.n_inner);
    floats.mlp_c_proj = MakeOnednnLinear(1, config.n_inner, C);
    weights->layers.push_back(std::move(floats));
  }
  weights->ln_f = like.weights->ln_f;
  weights->head = MakeOnednnLinear(1, C, config.vocab_size);
  weights->position_embedding = like.weights->position_embedding;
  auto model = std::make_shared<LoadedModel>();
  model->weights = std::move(weights);
  model->kv_type = like.kv_type;
  return model;
}

}  // namespace pot
