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

void AddQuantizeFlags(const Command& command, QuantizeFlags* flags) {
  std::string formats = kFloatFormat;
  for (const PotFormat& format : AllPotFormats()) {
    absl::StrAppend(&formats, ", ", format.name);
  }
  command.AddFlag("--format", &flags->format, "One of " + formats)
      .ShowDefault();
  command
      .AddFlag("--granularity", &flags->granularity,
               "Weights that share a scale: tensor, row, g32, g64 or g128; "
               "g32p2, g64p2 or g128p2: a power of two times the row's")
      .ShowDefault();
  command
      .AddFlag("--method", &flags->method,
               "nearest: searched scale; paper: the papers' arithmetic")
      .ShowDefault();
  command.AddFlag("--embedding-format", &flags->embedding_format,
                  "Format of token embedding and head [--format]");
  command.AddFlag("--embedding-granularity", &flags->embedding_granularity,
                  "Granularity of the same [--granularity]");
  command
      .AddFlag("--paper-eps", &flags->paper_eps,
               "Floor of the scale with --method paper; the papers have "
               "0.03125")
      .ShowDefault();
  command.AddSwitch("--float-positions", &flags->float_positions,
                    "Keep position embeddings in fp32 instead of fp16");
}

void AddOutliersFlag(const Command& command, QuantizeFlags* flags) {
  command
      .AddFlag("--outliers", &flags->outliers,
               "Share of each matrix's weights, the largest, that are kept "
               "beside the grid in 48 bits each: 0.1%; at most 5%")
      .ShowDefault();
}

void AddMixedPrecisionFlags(const Command& command, QuantizeFlags* flags) {
  const Flag budget = command.AddFlag(
      "--bits-budget", &flags->bits_budget,
      "Bits per quantized weight on average, scales included: every matrix "
      "gets the format of --mixed-formats that its sensitivity on the "
      "--calibration text asks for");
  budget.InFloatRange(kMinBitsBudget, kMaxBitsBudget);
  budget.Excludes(command.FindFlag("--format"));
  budget.Excludes(command.FindFlag("--embedding-format"));
  command
      .AddFlag("--mixed-formats", &flags->mixed_formats,
               "Formats to choose from, with commas")
      .Delimiter(',')
      .Needs(budget)
      .ShowDefault();
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
