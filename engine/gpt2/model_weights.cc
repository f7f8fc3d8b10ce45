#include "engine/gpt2/model_weights.h"

#include <filesystem>
#include <functional>
#include <map>
#include <new>
#include <set>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/exponent_checkpoint.h"
#include "engine/gpt2/float_model.h"
#include "engine/gpt2/tensor_table.h"

namespace pot {
namespace {

// Where a tensor table's tensors come from: float files, or an exponent
// checkpoint. Assemble() is the same for both.
class WeightReader {
 public:
  virtual ~WeightReader() = default;
  virtual absl::StatusOr<std::vector<float>> Floats(
      const TensorSpec& tensor) = 0;
  virtual absl::StatusOr<std::unique_ptr<const Linear>> Matrix(
      const TensorSpec& tensor, std::vector<float> bias) = 0;
};

class FloatReader : public WeightReader {
 public:
  explicit FloatReader(const FloatModel* model) : model_(model) {}

  absl::StatusOr<std::vector<float>> Floats(const TensorSpec& tensor) override {
    return model_->Read(tensor);
  }

  absl::StatusOr<std::unique_ptr<const Linear>> Matrix(
      const TensorSpec& tensor, std::vector<float> bias) override {
    POT_ASSIGN_OR_RETURN(const std::vector<float> weights,
                         model_->Read(tensor));
    return MakeFloatLinear(weights, tensor.rows(), tensor.cols(),
                           tensor.kind == TensorKind::kConv1d, std::move(bias));
  }

 private:
  const FloatModel* const model_;
};

class PotReader : public WeightReader {
 public:
  PotReader(const ExponentCheckpoint* checkpoint, const LoadOptions& options)
      : checkpoint_(checkpoint), options_(options) {}

  absl::StatusOr<std::vector<float>> Floats(const TensorSpec& tensor) override {
    return checkpoint_->ReadFloats(tensor.name, tensor.shape);
  }

  absl::StatusOr<std::unique_ptr<const Linear>> Matrix(
      const TensorSpec& tensor, std::vector<float> bias) override {
    POT_ASSIGN_OR_RETURN(
        const PotMatrix matrix,
        checkpoint_->Matrix(tensor.name, tensor.rows(), tensor.cols()));
    if (tensor.kind == TensorKind::kConv1d) {
      formats_.insert(std::string(matrix.format().name));
      granularities_.insert(matrix.granularity().ToString());
    } else {
      embedding_formats_.insert(std::string(matrix.format().name));
    }
    return MakePotLinear(matrix, std::move(bias), options_.activations,
                         options_.kernels);
  }

  void Describe(ModelWeights* weights) const {
    const auto one_or_mixed = [](const std::set<std::string>& names) {
      return names.size() == 1 ? *names.begin() : std::string("mixed");
    };
    weights->format = one_or_mixed(formats_);
    weights->granularity = one_or_mixed(granularities_);
    weights->embedding_format = one_or_mixed(embedding_formats_);
  }

 private:
  const ExponentCheckpoint* const checkpoint_;
  const LoadOptions& options_;
  std::set<std::string> formats_, granularities_, embedding_formats_;
};

absl::Status Assemble(WeightReader* reader, ModelWeights* weights) {
  const Gpt2Config& config = weights->config;
  std::map<std::string, TensorSpec> table;
  for (TensorSpec& tensor : Gpt2Tensors(config)) {
    table.emplace(tensor.name, std::move(tensor));
  }
  const auto layer_norm = [&](const std::string& name,
                              LayerNormWeights* norm) -> absl::Status {
    POT_ASSIGN_OR_RETURN(norm->gain,
                         reader->Floats(table.at(name + ".weight")));
    POT_ASSIGN_OR_RETURN(norm->bias, reader->Floats(table.at(name + ".bias")));
    return absl::OkStatus();
  };
  const auto conv1d =
      [&](const std::string& name,
          std::unique_ptr<const Linear>* linear) -> absl::Status {
    POT_ASSIGN_OR_RETURN(std::vector<float> bias,
                         reader->Floats(table.at(name + ".bias")));
    POT_ASSIGN_OR_RETURN(
        *linear, reader->Matrix(table.at(name + ".weight"), std::move(bias)));
    return absl::OkStatus();
  };

  POT_ASSIGN_OR_RETURN(weights->position_embedding,
                       reader->Floats(table.at("wpe.weight")));
  weights->layers.resize(config.n_layer);
  for (int64_t i = 0; i < config.n_layer; ++i) {
    LayerWeights& layer = weights->layers[i];
    const std::string h = absl::StrCat("h.", i, ".");
    POT_RETURN_IF_ERROR(layer_norm(h + "ln_1", &layer.ln_1));
    POT_RETURN_IF_ERROR(conv1d(h + "attn.c_attn", &layer.attn_c_attn));
    POT_RETURN_IF_ERROR(conv1d(h + "attn.c_proj", &layer.attn_c_proj));
    POT_RETURN_IF_ERROR(layer_norm(h + "ln_2", &layer.ln_2));
    POT_RETURN_IF_ERROR(conv1d(h + "mlp.c_fc", &layer.mlp_c_fc));
    POT_RETURN_IF_ERROR(conv1d(h + "mlp.c_proj", &layer.mlp_c_proj));
  }
  POT_RETURN_IF_ERROR(layer_norm("ln_f", &weights->ln_f));

  const TensorSpec& wte = table.at("wte.weight");
  if (config.tie_word_embeddings) {
    POT_ASSIGN_OR_RETURN(weights->head, reader->Matrix(wte, {}));
  } else {
    POT_ASSIGN_OR_RETURN(weights->token_embedding, reader->Matrix(wte, {}));
    POT_ASSIGN_OR_RETURN(weights->head,
                         reader->Matrix(table.at("lm_head.weight"), {}));
  }
  return absl::OkStatus();
}

absl::Status LoadFloat(const std::string& directory, ModelWeights* weights) {
  POT_ASSIGN_OR_RETURN(const FloatModel model, FloatModel::Open(directory));
  weights->config = model.config();
  weights->format = "f32";
  weights->embedding_format = "f32";
  FloatReader reader(&model);
  return Assemble(&reader, weights);
}

absl::Status LoadPot(const std::string& directory, const std::string& file,
                     const LoadOptions& options, ModelWeights* weights) {
  POT_ASSIGN_OR_RETURN(weights->config, ReadGpt2Config(directory));
  POT_ASSIGN_OR_RETURN(
      const std::shared_ptr<const ExponentCheckpoint> checkpoint,
      ExponentCheckpoint::Open(file));
  std::set<std::string> matrices;
  std::set<std::string> floats;
  for (const TensorSpec& tensor : Gpt2Tensors(weights->config)) {
    (tensor.quantized() ? matrices : floats).insert(tensor.name);
  }
  const auto check = [&](const char* what,
                         const std::vector<std::string>& names,
                         const std::set<std::string>& known) {
    for (const std::string& name : names) {
      if (known.count(name) != 0) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          file, ": ", what, " ", Quote(name), " is none of a GPT-2 of ",
          weights->config.n_layer, " layers"));
    }
    return absl::OkStatus();
  };
  POT_RETURN_IF_ERROR(check("matrix", checkpoint->matrix_names(), matrices));
  POT_RETURN_IF_ERROR(check("tensor", checkpoint->float_names(), floats));
  weights->quantized = true;
  weights->base_sha256 = checkpoint->provenance().base_sha256;
  PotReader reader(checkpoint.get(), options);
  POT_RETURN_IF_ERROR(Assemble(&reader, weights));
  reader.Describe(weights);
  return absl::OkStatus();
}

}  // namespace

int64_t ModelWeights::resident_bytes() const {
  int64_t floats = 0;
  int64_t bytes = 0;
  const auto add_norm = [&](const LayerNormWeights& norm) {
    floats += norm.gain.size() + norm.bias.size();
  };
  for (const LayerWeights& layer : layers) {
    add_norm(layer.ln_1);
    add_norm(layer.ln_2);
    for (const auto* linear : {&layer.attn_c_attn, &layer.attn_c_proj,
                               &layer.mlp_c_fc, &layer.mlp_c_proj}) {
      bytes += (*linear)->resident_bytes();
    }
  }
  add_norm(ln_f);
  floats += position_embedding.size();
  bytes += head->resident_bytes();
  if (token_embedding != nullptr) bytes += token_embedding->resident_bytes();
  return bytes + floats * static_cast<int64_t>(sizeof(float));
}

absl::StatusOr<std::unique_ptr<const ModelWeights>> LoadModelWeights(
    const std::string& directory, const LoadOptions& options) {
  if (options.kernels == nullptr) {
    return absl::InvalidArgumentError("LoadOptions: kernels must be set");
  }
  auto weights = std::make_unique<ModelWeights>();
  weights->kernels = options.kernels;
  const std::string file =
      absl::StrCat(directory, "/", kExponentCheckpointFile);
  std::error_code error;
  try {
    // Anything of that name, a dangling link too, is meant to be the model.
    const bool is_pot =
        std::filesystem::exists(std::filesystem::symlink_status(file, error));
    POT_RETURN_IF_ERROR(is_pot
                            ? LoadPot(directory, file, options, weights.get())
                            : LoadFloat(directory, weights.get()));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory to load ", directory));
  }
  return std::unique_ptr<const ModelWeights>(std::move(weights));
}

}  // namespace pot
