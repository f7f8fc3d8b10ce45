#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/plot/plot_file.h"
#include "engine/base/file.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "engine/gpt2/engine_version.h"
#include "engine/gpt2/float_model.h"
#include "engine/gpt2/model_files.h"
#include "engine/hub/hub_id.h"
#include "nlohmann/json.hpp"
#include "trainer/calibrated_quantization.h"
#include "trainer/commands.h"
#include "trainer/data/text_slice.h"
#include "trainer/evaluation_flags.h"
#include "trainer/model_source.h"
#include "trainer/progress_bar.h"
#include "trainer/report/measure_case.h"
#include "trainer/report/report_case.h"
#include "trainer/report/report_files.h"
#include "trainer/report/report_plot.h"
#include "trainer/report/report_runner.h"

namespace pot {
namespace {

constexpr char kAll[] = "all";
constexpr char kSelf[] = "self";

struct Flags {
  std::string model;
  std::string title;  // the model as the user named it, in short
  std::string text;
  std::string out = "report";
  ReportSelection selection{
      {"pot4", "twohot4", "pot3"}, {"row", "g64"}, {"rtn", "gptq"}};
  CalibrationFlags calibration;
  EvaluationFlags evaluation;
  std::string activations = "affine";
  int64_t tokens = 1 << 17;
  int jobs = 1;
  bool keep_models = false;
  bool skip_speed = false;
  bool skip_plot = false;
};

bool IsAll(const std::vector<std::string>& names) {
  return names == std::vector<std::string>{kAll};
}

ReportSelection Expand(ReportSelection selection) {
  if (IsAll(selection.formats)) {
    selection.formats.clear();
    for (const PotFormat& format : AllPotFormats()) {
      selection.formats.emplace_back(format.name);
    }
  }
  if (IsAll(selection.granularities)) {
    selection.granularities = {"tensor", "row",    "g128",  "g64",
                               "g32",    "g128p2", "g64p2", "g32p2"};
  }
  if (IsAll(selection.methods)) selection.methods = ReportMethods();
  return selection;
}

std::string HashOf(absl::Span<const int32_t> tokens) {
  return Sha256Hex({reinterpret_cast<const uint8_t*>(tokens.data()),
                    tokens.size() * sizeof(int32_t)});
}

std::vector<int32_t> TokensOf(const TokenCorpus& corpus) {
  std::vector<int32_t> tokens(corpus.size());
  corpus.Copy(0, absl::MakeSpan(tokens));
  return tokens;
}

// The evaluation text's tokens, the first `--tokens` of its slice.
absl::Status ReadText(const Flags& flags, const Gpt2Config& config,
                      ReportInputs* inputs) {
  POT_ASSIGN_OR_RETURN(const TextSlice slice,
                       ParseTextSlice(flags.evaluation.slice));
  POT_ASSIGN_OR_RETURN(const auto tokenizer,
                       LoadTokenizer(flags.model, config));
  ThreadPool pool(flags.evaluation.threads);
  CorpusOptions options;
  options.slice = slice;
  options.pool = &pool;
  POT_ASSIGN_OR_RETURN(const TokenCorpus corpus,
                       TokenizeFiles({flags.text}, *tokenizer, options));
  inputs->tokens = TokensOf(corpus);
  if (flags.tokens > 0 &&
      flags.tokens < static_cast<int64_t>(inputs->tokens.size())) {
    inputs->tokens.resize(flags.tokens);
  }
  if (inputs->tokens.size() < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat(flags.text, ": ", inputs->tokens.size(),
                     " tokens predict nothing; 2 is the least"));
  }
  inputs->protocol = flags.evaluation.Protocol(config.n_positions);
  return ValidateProtocol(inputs->protocol, config.n_positions);
}

// Whatever rows must have in common to stand in one table.
absl::Status Identify(const Flags& flags, const FloatModel& model,
                      const ReportInputs& inputs, ReportRunOptions* options) {
  POT_ASSIGN_OR_RETURN(const std::string digest, model.source().Digest());
  options->identity = {
      {"model", digest},
      {"text", HashOf(inputs.tokens)},
      {"window", inputs.protocol.window},
      {"stride", inputs.protocol.stride},
      {"activations", flags.activations},
      {"engine", std::string(kEngineVersion)},
      {"speed", !flags.skip_speed},
  };
  options->calibrated_identity = options->identity;
  if (inputs.calibration_text != nullptr) {
    options->calibrated_identity["calibration"] =
        HashOf(TokensOf(*inputs.calibration_text));
    options->calibrated_identity["calibration settings"] =
        DescribeCalibration(flags.calibration);
  }
  // Then every quantized row looks at it.
  if (flags.calibration.equalize) {
    options->identity = options->calibrated_identity;
  }
  return absl::OkStatus();
}

std::string FileName(const std::string& path) {
  const std::filesystem::path file =
      std::filesystem::path(path).lexically_normal();
  return file.has_filename() ? file.filename().string()
                             : file.parent_path().filename().string();
}

// "shakespeare-char/1" for a version in a repository.
std::string ModelName(const std::string& directory) {
  if (IsHubId(directory)) return directory;
  const std::string name = FileName(directory);
  int64_t version = 0;
  if (!absl::SimpleAtoi(name, &version)) return name;
  const std::filesystem::path path =
      std::filesystem::path(directory + "/").lexically_normal();
  return absl::StrCat(FileName(path.parent_path().parent_path().string()), "/",
                      name);
}

ReportDescription Describe(const Flags& flags, const ReportInputs& inputs,
                           const ReportRow& row, bool calibrated) {
  ReportDescription description;
  description.model = absl::StrCat("Ways to quantize ", flags.title);
  description.text = absl::StrCat(
      row.sums.tokens, " tokens, ", row.sums.bytes, " bytes of ",
      FileName(flags.text), " (", flags.evaluation.slice, "); windows of ",
      inputs.protocol.window, ", stride ", inputs.protocol.stride,
      ", every token but the first counted once; +- is the standard error.");
  description.settings = absl::StrCat(
      "Activations: ", flags.activations, ", 8 bits unless float.",
      calibrated
          ? absl::StrCat(" Calibration: ", inputs.calibration_text->size(),
                         " tokens of ",
                         absl::StrJoin(flags.calibration.texts, ", "), "; ",
                         DescribeCalibration(flags.calibration), ".")
          : "",
      flags.skip_speed
          ? ""
          : absl::StrCat(" tokens/s: one sequence, kernels ",
                         inputs.kernels->name, ", ", flags.evaluation.threads,
                         " threads, the median of 5 runs."));
  return description;
}

absl::Status Draw(const Flags& flags, const std::vector<ReportRow>& rows) {
  const std::string title =
      absl::StrCat(flags.title, " on ", FileName(flags.text));
  for (const char* const name : {"plot.svg", "plot.png"}) {
    const std::string path = absl::StrCat(flags.out, "/", name);
    POT_ASSIGN_OR_RETURN(const PlotFormat format, PlotFormatOf("", path));
    POT_RETURN_IF_ERROR(
        DrawPlot(MakeReportPlotScript(title, rows, format), path));
  }
  return absl::OkStatus();
}

absl::Status WriteReport(const Flags& flags, const nlohmann::json& identity,
                         const ReportDescription& description,
                         const std::vector<ReportRow>& rows) {
  const std::string table = FormatReportTable(description, rows);
  nlohmann::json json = {{"identity", identity},
                         {"rows", nlohmann::json::array()}};
  const std::vector<bool> front = ParetoFront(rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    nlohmann::json row = RowToJson(rows[i]);
    row["pareto"] = static_cast<bool>(front[i]);
    json["rows"].push_back(std::move(row));
  }
  POT_RETURN_IF_ERROR(WriteFile(flags.out + "/report.md", table));
  POT_RETURN_IF_ERROR(
      WriteFile(flags.out + "/report.csv", FormatReportCsv(rows)));
  POT_RETURN_IF_ERROR(
      WriteFile(flags.out + "/report.json", json.dump(2) + "\n"));
  absl::PrintF("%s\n", table);
  std::string plots;
  if (!flags.skip_plot) {
    const absl::Status drawn = Draw(flags, rows);
    // A table without its plot is still worth having.
    if (absl::IsFailedPrecondition(drawn)) {
      absl::FPrintF(stderr, "pot-trainer: no plot: %s\n", drawn.message());
    } else {
      POT_RETURN_IF_ERROR(drawn);
      plots = ", plot.svg, plot.png";
    }
  }
  absl::PrintF("wrote report.md, report.csv, report.json%s in %s\n", plots,
               flags.out);
  return absl::OkStatus();
}

absl::Status ReportFailures(const ReportRun& run) {
  if (run.failures.empty()) return absl::OkStatus();
  for (const auto& [which, status] : run.failures) {
    absl::FPrintF(stderr, "pot-trainer: %s failed: %s\n", which.Label(),
                  status.ToString());
  }
  const auto& [which, status] = run.failures.front();
  return absl::Status(status.code(),
                      absl::StrCat(run.failures.size(), " of ",
                                   run.failures.size() + run.rows.size(),
                                   " rows failed; the first, ", which.Label(),
                                   ": ", status.message()));
}

absl::Status Run(Flags flags) {
  std::vector<std::string> left_out;
  POT_ASSIGN_OR_RETURN(const std::vector<ReportCase> cases,
                       PlanReport(Expand(flags.selection), &left_out));
  flags.title = ModelName(flags.model);
  POT_ASSIGN_OR_RETURN(flags.model, ResolveModelSource(flags.model));
  ReportInputs inputs;
  inputs.model = flags.model;
  inputs.calibration = flags.calibration;
  POT_ASSIGN_OR_RETURN(inputs.activations,
                       ParseActivationMode(flags.activations));
  POT_ASSIGN_OR_RETURN(inputs.kernels, flags.evaluation.Kernels());
  if (flags.jobs > flags.evaluation.threads) {
    return absl::InvalidArgumentError(
        absl::StrCat("--jobs is at most --threads, ", flags.evaluation.threads,
                     ", not ", flags.jobs));
  }
  POT_ASSIGN_OR_RETURN(const FloatModel model, FloatModel::Open(flags.model));
  POT_RETURN_IF_ERROR(CheckCaseMemory(model, flags.jobs));
  POT_RETURN_IF_ERROR(ReadText(flags, model.config(), &inputs));
  std::optional<TokenCorpus> calibration;
  if (std::any_of(
          cases.begin(), cases.end(),
          [](const ReportCase& which) { return NeedsCalibration(which); }) ||
      flags.calibration.equalize) {
    POT_ASSIGN_OR_RETURN(calibration,
                         ReadCalibrationText(flags.model, flags.calibration,
                                             flags.evaluation.threads));
    inputs.calibration_text = &*calibration;
  }

  ReportRunOptions options;
  options.directory = flags.out;
  POT_RETURN_IF_ERROR(Identify(flags, model, inputs, &options));
  options.threads = flags.evaluation.threads;
  options.jobs = flags.jobs;
  options.keep_models = flags.keep_models;
  options.measure_speed = !flags.skip_speed;
  ReportRun run;
  {
    ProgressBar bar("report");
    const auto total = static_cast<double>(cases.size());
    POT_ASSIGN_OR_RETURN(
        run, RunReport(inputs, cases, options,
                       [&](double done, const ReportCase& which) {
                         bar.Update(static_cast<int64_t>(1000 * done),
                                    static_cast<int64_t>(1000 * total),
                                    which.Label());
                       }));
  }
  if (!left_out.empty()) {
    absl::FPrintF(stderr,
                  "pot-trainer: left out, as they do not go together: %s\n",
                  absl::StrJoin(left_out, ", "));
  }
  if (run.reused > 0) {
    absl::FPrintF(stderr, "pot-trainer: %d rows were in %s already\n",
                  run.reused, flags.out);
  }
  if (!run.rows.empty()) {
    SortRows(&run.rows);
    POT_RETURN_IF_ERROR(WriteReport(
        flags, options.calibrated_identity,
        Describe(flags, inputs, run.rows.front(), calibration.has_value()),
        run.rows));
  }
  return ReportFailures(run);
}

void AddSelectionFlags(const Command& command, ReportSelection* selection) {
  command
      .AddFlag("--formats", &selection->formats,
               "Formats, with commas, or all; mixed3.5: each matrix's own, "
               "within 3.5 bits per weight, as --bits-budget of quantize")
      .Delimiter(',')
      .ShowDefault();
  command
      .AddFlag("--granularities", &selection->granularities,
               "Weights that share a scale, as --granularity of quantize, "
               "with commas, or all")
      .Delimiter(',')
      .ShowDefault();
  command
      .AddFlag("--methods", &selection->methods,
               "As --method of quantize, with +outliers (0.1%) and "
               "+equalize where wanted, with commas, or all")
      .Delimiter(',')
      .ShowDefault();
}

}  // namespace

void AddReportCommand(const Command& app, absl::Status* result) {
  auto flags = std::make_shared<Flags>();
  flags->calibration.texts = {kSelf};
  const Command command = app.AddCommand(
      "report",
      "Quantize a model in many ways without training; what each costs and "
      "loses, as a table, CSV, JSON and a plot");
  command
      .AddFlag("model", &flags->model,
               "Hugging Face model directory, or hf:OWNER/NAME[@REVISION], "
               "floats")
      .Required();
  command.AddFlag("text", &flags->text, "UTF-8 text to evaluate on").Required();
  command
      .AddFlag("--out", &flags->out,
               "Directory of the report; rows that are there are not "
               "measured again")
      .ShowDefault();
  AddSelectionFlags(command, &flags->selection);
  AddCalibrationFlags(command, &flags->calibration);
  command.FindFlag("--calibration")
      .Description(
          "For methods and mixed formats that need it: texts, UTF-8, none of "
          "them the text to evaluate on, or self for text that the model "
          "writes [self]");
  AddEvaluationFlags(command, &flags->evaluation);
  command
      .AddFlag("--tokens", &flags->tokens,
               "Evaluate on the first N tokens of it; 0: all")
      .AtLeastZero()
      .ShowDefault();
  command
      .AddFlag("--activations", &flags->activations,
               "affine, symmetric or float")
      .ShowDefault();
  command
      .AddFlag("--jobs", &flags->jobs,
               "Rows at a time, each on a share of the threads")
      .InRange(1, 256)
      .ShowDefault();
  command.AddSwitch("--keep-models", &flags->keep_models,
                    "Keep every quantized model in DIR/models");
  command.AddSwitch("--skip-speed", &flags->skip_speed, "Measure no tokens/s");
  command.AddSwitch("--skip-plot", &flags->skip_plot, "Draw no plot");
  command.OnSelected([flags, result] { *result = Run(*flags); });
}

}  // namespace pot
