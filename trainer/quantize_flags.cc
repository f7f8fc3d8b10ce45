#include "trainer/quantize_flags.h"

#include <filesystem>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/version_store.h"
#include "engine/quant/pot_quantizer.h"

namespace pot {
namespace {

// "0.1%".
absl::StatusOr<double> ParseShare(absl::string_view text) {
  absl::string_view number = text;
  double percent = 0;
  if (!absl::ConsumeSuffix(&number, "%") ||
      !absl::SimpleAtod(number, &percent)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--outliers must be a percentage, 0.1%, not ", Quote(text)));
  }
  return percent / 100;
}

absl::StatusOr<QuantizeOptions> ParseQuantizeOptions(
    const std::string& format, const std::string& granularity,
    const QuantizeFlags& flags) {
  QuantizeOptions options;
  POT_ASSIGN_OR_RETURN(options.format, FindPotFormat(format));
  POT_ASSIGN_OR_RETURN(options.granularity, Granularity::Parse(granularity));
  POT_ASSIGN_OR_RETURN(options.mode, ParseQuantizeMode(flags.method));
  options.paper_eps = flags.paper_eps;
  POT_ASSIGN_OR_RETURN(options.outliers, ParseShare(flags.outliers));
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
                   "Weights that share a scale: tensor, row, g32, g64 or g128; "
                   "g32p2, g64p2 or g128p2: a power of two times the row's")
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

void AddOutliersFlag(CLI::App* command, QuantizeFlags* flags) {
  command
      ->add_option("--outliers", flags->outliers,
                   "Share of each matrix's weights, the largest, that are kept "
                   "beside the grid in 48 bits each: 0.1%; at most 5%")
      ->capture_default_str();
}

void AddMixedPrecisionFlags(CLI::App* command, QuantizeFlags* flags) {
  CLI::Option* const budget = command->add_option(
      "--bits-budget", flags->bits_budget,
      "Bits per quantized weight on average, scales included: every matrix "
      "gets the format of --mixed-formats that its sensitivity on the "
      "--calibration text asks for");
  budget->check(CLI::Range(kMinBitsBudget, kMaxBitsBudget));
  budget->excludes(command->get_option("--format"));
  budget->excludes(command->get_option("--embedding-format"));
  command
      ->add_option("--mixed-formats", flags->mixed_formats,
                   "Formats to choose from, with commas")
      ->delimiter(',')
      ->needs(budget)
      ->capture_default_str();
}

absl::StatusOr<std::vector<const PotFormat*>> ParseMixedFormats(
    const QuantizeFlags& flags) {
  std::vector<const PotFormat*> formats;
  for (const std::string& name : flags.mixed_formats) {
    POT_ASSIGN_OR_RETURN(const PotFormat* const format, FindPotFormat(name));
    formats.push_back(format);
  }
  if (formats.size() < 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--mixed-formats needs at least 2 formats, not ", formats.size()));
  }
  return formats;
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
