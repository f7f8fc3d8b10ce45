#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "engine/base/thread_pool.h"
#include "engine/checkpoint/version_store.h"
#include "engine/gpt2/evaluation.h"
#include "engine/hub/hub_id.h"
#include "engine/loaded_model.h"
#include "nlohmann/json.hpp"
#include "trainer/commands.h"
#include "trainer/data/text_slice.h"
#include "trainer/evaluation_flags.h"
#include "trainer/model_source.h"
#include "trainer/progress_bar.h"

namespace pot {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;

struct Flags {
  std::string model;
  std::vector<std::string> compared;
  std::string text;
  std::string reference;
  std::string activations = "affine";
  EvaluationFlags evaluation;
  std::string output = "text";
};

struct Row {
  std::string model;
  std::string format;
  std::string activations;
  int64_t resident_bytes = 0;
  EvaluationSums sums;
};

// A model directory, REPO/NAME, of which the highest version is taken, or a
// hub's id.
absl::StatusOr<std::string> ResolveDirectory(const std::string& model) {
  if (IsHubId(model)) return ResolveModelSource(model);
  std::error_code error;
  if (std::filesystem::exists(model + "/config.json", error)) return model;
  int64_t newest = 0;
  for (const auto& entry : std::filesystem::directory_iterator(model, error)) {
    int64_t version = 0;
    if (absl::SimpleAtoi(entry.path().filename().string(), &version) &&
        std::filesystem::exists(entry.path() / "config.json", error)) {
      newest = std::max(newest, version);
    }
  }
  if (newest > 0) return absl::StrCat(model, "/", newest);
  return absl::NotFoundError(
      absl::StrCat("'", model,
                   "' is neither a model directory with a "
                   "config.json nor a model of a repository"));
}

absl::StatusOr<std::shared_ptr<const LoadedModel>> Load(
    const std::string& model, ActivationMode activations,
    const KernelTable* kernels) {
  POT_ASSIGN_OR_RETURN(const std::string directory, ResolveDirectory(model));
  ModelIdentity identity;
  identity.name = model;
  return LoadModel(directory, std::move(identity), {kernels, activations});
}

absl::StatusOr<Row> EvaluateOne(const std::string& model,
                                const std::string& activations,
                                absl::string_view text, const Flags& flags,
                                const KernelTable* kernels, ThreadPool* pool,
                                EvaluationProtocol* protocol) {
  POT_ASSIGN_OR_RETURN(const ActivationMode mode,
                       ParseActivationMode(activations));
  POT_ASSIGN_OR_RETURN(const std::shared_ptr<const LoadedModel> loaded,
                       Load(model, mode, kernels));
  std::shared_ptr<const LoadedModel> reference;
  if (!flags.reference.empty()) {
    POT_ASSIGN_OR_RETURN(
        reference, Load(flags.reference, ActivationMode::kAffine, kernels));
  }
  // The first model decides for all: rows of one table have one protocol.
  if (protocol->window == 0) {
    *protocol = flags.evaluation.Protocol(loaded->config().n_positions);
  }
  std::vector<int32_t> tokens;
  POT_RETURN_IF_ERROR(loaded->tokenizer->Encode(text, &tokens));
  const Tokenizer& tokenizer = *loaded->tokenizer;
  Row row;
  row.model = model;
  row.format = loaded->weights->format;
  row.activations = loaded->weights->quantized ? activations : "float";
  row.resident_bytes = loaded->weights->resident_bytes();
  ProgressBar bar(model);
  POT_ASSIGN_OR_RETURN(
      row.sums,
      Evaluate(
          *loaded->weights,
          reference == nullptr ? nullptr : reference->weights.get(), tokens,
          *protocol,
          [&](int32_t id) {
            return static_cast<int64_t>(tokenizer.TokenBytes(id).size());
          },
          pool,
          [&](int64_t done, int64_t total) {
            bar.Update(done, total);
            return true;
          }));
  return row;
}

void PrintJson(const std::vector<Row>& rows, const Flags& flags,
               const EvaluationProtocol& protocol) {
  nlohmann::json out = nlohmann::json::array();
  for (const Row& row : rows) {
    nlohmann::json object = {
        {"model", row.model},
        {"format", row.format},
        {"activations", row.activations},
        {"resident_weight_bytes", row.resident_bytes},
        {"window", protocol.window},
        {"stride", protocol.stride},
        {"tokens", row.sums.tokens},
        {"bytes", row.sums.bytes},
        {"nats_per_token", row.sums.mean_nats()},
        {"standard_error", row.sums.standard_error()},
        {"perplexity", row.sums.perplexity()},
        {"bits_per_byte", row.sums.bits_per_byte()},
    };
    if (!flags.reference.empty()) {
      const auto count = static_cast<double>(row.sums.tokens);
      object["reference"] = flags.reference;
      object["mean_kl_nats"] = row.sums.kl / count;
      object["top1_agreement"] =
          static_cast<double>(row.sums.top1_agreements) / count;
    }
    out.push_back(std::move(object));
  }
  absl::PrintF("%s\n", out.dump(2));
}

void PrintText(const std::vector<Row>& rows, const Flags& flags,
               const EvaluationProtocol& protocol) {
  absl::PrintF(
      "%d tokens, %d bytes; windows of %d, stride %d, every token "
      "but the first counted once\n",
      rows[0].sums.tokens, rows[0].sums.bytes, protocol.window,
      protocol.stride);
  absl::PrintF("%-32s %-12s %-10s %12s %8s %9s %10s %9s %9s", "model", "format",
               "activ.", "weight bytes", "nats", "+-", "perplexity", "vs first",
               "bits/byte");
  if (!flags.reference.empty()) absl::PrintF(" %9s %7s", "KL", "top-1");
  absl::PrintF("\n");
  for (const Row& row : rows) {
    const double ratio =
        row.sums.perplexity() / rows[0].sums.perplexity() - 1.0;
    absl::PrintF("%-32s %-12s %-10s %12d %8.4f %9.4f %10.4f %+8.2f%% %9.4f",
                 row.model, row.format, row.activations, row.resident_bytes,
                 row.sums.mean_nats(), row.sums.standard_error(),
                 row.sums.perplexity(), 100 * ratio, row.sums.bits_per_byte());
    if (!flags.reference.empty()) {
      const auto count = static_cast<double>(row.sums.tokens);
      absl::PrintF(
          " %9.5f %6.2f%%", row.sums.kl / count,
          100.0 * static_cast<double>(row.sums.top1_agreements) / count);
    }
    absl::PrintF("\n");
  }
}

absl::Status Run(const Flags& flags) {
  if (flags.output != "text" && flags.output != "json") {
    return absl::InvalidArgumentError(
        absl::StrCat("--output is text or json, not '", flags.output, "'"));
  }
  POT_ASSIGN_OR_RETURN(const KernelTable* const kernels,
                       flags.evaluation.Kernels());
  POT_ASSIGN_OR_RETURN(const std::string text,
                       ReadFile(flags.text, kMaxTextBytes));
  POT_ASSIGN_OR_RETURN(const TextSlice part,
                       ParseTextSlice(flags.evaluation.slice));
  const absl::string_view slice = CutText(text, part);
  ThreadPool pool(flags.evaluation.threads);
  std::vector<Row> rows;
  EvaluationProtocol protocol;
  const std::vector<std::string> modes = absl::StrSplit(flags.activations, ',');
  std::vector<std::string> models = {flags.model};
  models.insert(models.end(), flags.compared.begin(), flags.compared.end());
  for (const std::string& model : models) {
    for (const std::string& mode : modes) {
      POT_ASSIGN_OR_RETURN(Row row, EvaluateOne(model, mode, slice, flags,
                                                kernels, &pool, &protocol));
      rows.push_back(std::move(row));
      // A float model has no activations to quantize: one row is all.
      if (rows.back().format == "f32") break;
    }
  }
  if (flags.output == "json") {
    PrintJson(rows, flags, protocol);
  } else {
    PrintText(rows, flags, protocol);
  }
  return absl::OkStatus();
}

}  // namespace

void AddEvalCommand(const Command& app, absl::Status* result) {
  auto flags = std::make_shared<Flags>();
  const Command command = app.AddCommand(
      "eval", "Perplexity of models on a text, by the serving engine");
  command
      .AddFlag("model", &flags->model,
               "Model directory, REPO/NAME or hf:OWNER/NAME")
      .Required();
  command.AddFlag("text", &flags->text, "UTF-8 text file").Required();
  command.AddFlag("--compare", &flags->compared,
                  "Another model, for a row of its own; repeatable");
  command.AddFlag("--reference", &flags->reference,
                  "Model for mean KL(reference || model) and top-1 "
                  "agreement");
  command
      .AddFlag("--activations", &flags->activations,
               "affine, symmetric or float; several, with commas, to "
               "compare")
      .ShowDefault();
  AddEvaluationFlags(command, &flags->evaluation);
  command.AddFlag("--output", &flags->output, "text or json").ShowDefault();
  command.OnSelected([flags, result] { *result = Run(*flags); });
}

}  // namespace pot
