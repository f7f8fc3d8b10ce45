#include "trainer/quantize_flags.h"

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/version_store.h"
#include "engine/quant/pot_quantizer.h"

namespace pot {
namespace {

absl::StatusOr<QuantizeOptions> ParseQuantizeOptions(
    const std::string& format, const std::string& granularity,
    const QuantizeFlags& flags) {
  QuantizeOptions options;
  POT_ASSIGN_OR_RETURN(options.format, FindPotFormat(format));
  POT_ASSIGN_OR_RETURN(options.granularity, Granularity::Parse(granularity));
  POT_ASSIGN_OR_RETURN(options.mode, ParseQuantizeMode(flags.method));
  options.paper_eps = flags.paper_eps;
  POT_RETURN_IF_ERROR(CheckQuantizeOptions(options));
  return options;
}

}  // namespace

absl::StatusOr<QuantizeModelOptions> ParseQuantizeFlags(
    const QuantizeFlags& flags) {
  QuantizeModelOptions options;
  POT_ASSIGN_OR_RETURN(
      options.layers,
      ParseQuantizeOptions(flags.format, flags.granularity, flags));
  POT_ASSIGN_OR_RETURN(options.embedding,
                       ParseQuantizeOptions(flags.embedding_format.empty()
                                                ? flags.format
                                                : flags.embedding_format,
                                            flags.embedding_granularity.empty()
                                                ? flags.granularity
                                                : flags.embedding_granularity,
                                            flags));
  options.half_positions = !flags.float_positions;
  return options;
}

void AddQuantizeFlags(CLI::App* command, QuantizeFlags* flags) {
  std::string formats = kFloatFormat;
  for (const PotFormat& format : AllPotFormats()) {
    absl::StrAppend(&formats, ", ", format.name);
  }
  command->add_option("--format", flags->format, "One of " + formats)
      ->capture_default_str();
  command
      ->add_option("--granularity", flags->granularity,
                   "Weights that share a scale: tensor, row, g32, g64 or g128")
      ->capture_default_str();
  command
      ->add_option("--method", flags->method,
                   "nearest: searched scale; paper: the papers' arithmetic")
      ->capture_default_str();
  command->add_option("--embedding-format", flags->embedding_format,
                      "Format of token embedding and head [--format]");
  command->add_option("--embedding-granularity", flags->embedding_granularity,
                      "Granularity of the same [--granularity]");
  command
      ->add_option("--paper-eps", flags->paper_eps,
                   "Floor of the scale with --method paper; the papers have "
                   "0.03125")
      ->capture_default_str();
  command->add_flag("--float-positions", flags->float_positions,
                    "Keep position embeddings in fp32 instead of fp16");
}

absl::StatusOr<ModelPath> ParseModelPath(const std::string& path) {
  std::filesystem::path out = std::filesystem::path(path).lexically_normal();
  if (!out.has_filename()) out = out.parent_path();
  const ModelPath parsed{
      out.has_parent_path() ? out.parent_path().string() : ".",
      out.filename().string()};
  POT_RETURN_IF_ERROR(ValidateModelName(parsed.name));
  return parsed;
}

}  // namespace pot
