#include "engine/gpt2/float_model.h"

#include <set>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/file.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

constexpr size_t kMaxConfigBytes = size_t{1} << 20;
constexpr char kTokenEmbeddingName[] = "wte.weight";
constexpr char kHeadName[] = "lm_head.weight";

// Causal masks that PyTorch saved along with the parameters.
bool IsMaskBuffer(absl::string_view name) {
  return absl::StartsWith(name, "h.") &&
         (absl::EndsWith(name, ".attn.bias") ||
          absl::EndsWith(name, ".attn.masked_bias"));
}

}  // namespace

absl::StatusOr<Gpt2Config> ReadGpt2Config(const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/", kConfigFile);
  POT_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxConfigBytes));
  return Gpt2Config::Parse(text, path);
}

FloatModel::FloatModel(Gpt2Config config,
                       std::unique_ptr<const TensorSource> source)
    : config_(config),
      tensors_(Gpt2Tensors(config_)),
      source_(std::move(source)) {}

absl::StatusOr<FloatModel> FloatModel::Open(const std::string& directory) {
  POT_ASSIGN_OR_RETURN(const Gpt2Config config, ReadGpt2Config(directory));
  POT_ASSIGN_OR_RETURN(std::unique_ptr<const TensorSource> source,
                       TensorSource::Open(directory));
  FloatModel model(config, std::move(source));
  POT_RETURN_IF_ERROR(model.MatchNames(directory));
  POT_RETURN_IF_ERROR(model.CheckTiedHead(directory));
  return model;
}

absl::Status FloatModel::MatchNames(const std::string& directory) {
  std::set<absl::string_view> known;
  for (const TensorSpec& tensor : tensors_) known.insert(tensor.name);
  if (config_.tie_word_embeddings) known.insert(kHeadName);

  for (const std::string& file_name : source_->names()) {
    const std::string name(absl::StripPrefix(file_name, "transformer."));
    if (IsMaskBuffer(name)) continue;
    if (known.count(name) == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(directory, ": tensor ", Quote(file_name),
                       " is none of a GPT-2 of ", config_.n_layer, " layers"));
    }
    if (!file_names_.emplace(name, file_name).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(directory, ": tensor ", Quote(name),
                       " is there with and without \"transformer.\""));
    }
  }
  for (const TensorSpec& tensor : tensors_) {
    if (file_names_.count(tensor.name) > 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(directory, ": tensor ", Quote(tensor.name), " is missing",
                     tensor.kind == TensorKind::kHead
                         ? ", which tie_word_embeddings = false needs"
                         : ""));
  }
  return absl::OkStatus();
}

absl::Status FloatModel::CheckTiedHead(const std::string& directory) const {
  const auto head = file_names_.find(kHeadName);
  if (!config_.tie_word_embeddings || head == file_names_.end()) {
    return absl::OkStatus();
  }
  const std::vector<int64_t> shape = {config_.vocab_size, config_.n_embd};
  POT_ASSIGN_OR_RETURN(
      const std::vector<float> embedding,
      source_->ReadFloats(file_names_.at(kTokenEmbeddingName), shape));
  POT_ASSIGN_OR_RETURN(const std::vector<float> head_weights,
                       source_->ReadFloats(head->second, shape));
  if (embedding == head_weights) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(directory, ": tie_word_embeddings is true, but ", kHeadName,
                   " differs from ", kTokenEmbeddingName));
}

absl::StatusOr<std::vector<float>> FloatModel::Read(
    const TensorSpec& tensor) const {
  return source_->ReadFloats(file_names_.at(tensor.name), tensor.shape);
}

}  // namespace pot
