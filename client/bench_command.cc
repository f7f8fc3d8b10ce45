#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/load_plan.h"
#include "client/load_plot.h"
#include "client/load_prompts.h"
#include "client/load_report.h"
#include "client/load_runner.h"
#include "client/load_statistics.h"
#include "client/plot/plot_file.h"
#include "client/status_line.h"
#include "client/text_format.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "grpcpp/grpcpp.h"
#include "pot/v1/model.grpc.pb.h"

namespace pot {
namespace {

constexpr int64_t kMaxPromptFileBytes = 64 << 20;

struct Flags {
  std::string model;
  LoadPlan plan;
  std::optional<std::string> prompt_file;
  std::optional<TokenRange> prompt_tokens;
  TokenRange max_new_tokens = {32, 32};
  double temperature = 0;
  std::optional<std::string> plot;
};

absl::StatusOr<v1::ModelVersion> GetModel(Session* session,
                                          const v1::ModelRef& model) {
  Call call(session->connection());
  v1::GetModelRequest request;
  *request.mutable_model() = model;
  v1::GetModelResponse response;
  POT_RETURN_IF_ERROR(
      call.ToStatus(v1::ModelService::NewStub(session->connection().channel())
                        ->GetModel(call.context(), request, &response)));
  return response.version();
}

// Says what the prompts are in `description`.
absl::StatusOr<LoadPrompts> MakePrompts(const Flags& flags,
                                        const v1::ModelRef& model,
                                        LoadDescription* description) {
  LoadPrompts::Options options;
  options.seed = flags.plan.seed;
  options.max_new_tokens = flags.max_new_tokens;
  options.vocabulary = description->model.config().vocabulary();
  *options.base.mutable_model() = model;
  options.base.mutable_sampling()->set_temperature(
      static_cast<float>(flags.temperature));
  options.base.mutable_sampling()->set_seed(flags.plan.seed);
  options.base.mutable_stopping()->set_ignore_eos(true);
  // By them tokens are counted.
  options.base.mutable_output()->set_return_token_ids(true);
  if (flags.prompt_file.has_value()) {
    const std::string& path = *flags.prompt_file;
    POT_ASSIGN_OR_RETURN(const std::string text,
                         ReadFile(path, kMaxPromptFileBytes));
    POT_ASSIGN_OR_RETURN(options.lines, SplitPrompts(text, path));
    description->prompts =
        absl::StrCat(options.lines.size(), " prompts of ", path);
  } else {
    if (options.vocabulary < 1) {
      return absl::InternalError(
          "the server does not tell the model's vocabulary; there is "
          "--prompt-file");
    }
    if (flags.prompt_tokens.has_value()) {
      options.prompt_tokens = *flags.prompt_tokens;
    }
    description->prompts =
        absl::StrCat("prompts of ", FormatTokenRange(options.prompt_tokens),
                     " random tokens");
  }
  return LoadPrompts(std::move(options));
}

std::string ProgressText(const LoadLevel& level, const LoadPlan& plan,
                         const LoadRunner::Progress& progress) {
  return absl::StrCat(
      LevelName(level), ": ", FormatSeconds(progress.seconds), " of ",
      FormatSeconds(absl::ToDoubleSeconds(plan.warmup + plan.duration)), ", ",
      progress.finished, " ended, ", progress.failed, " failed, ",
      progress.in_flight, " under way");
}

absl::StatusOr<std::vector<LevelResult>> RunLevels(Session* session,
                                                   const LoadPlan& plan,
                                                   const LoadPrompts& prompts) {
  LoadRunner runner(session->connection(), plan, prompts);
  POT_RETURN_IF_ERROR(runner.Connect());
  StatusLine line(&session->console());
  std::vector<LevelResult> results;
  for (const LoadLevel& level : plan.levels) {
    POT_ASSIGN_OR_RETURN(
        const std::vector<RequestRecord> records,
        runner.Run(level, [&](const LoadRunner::Progress& progress) {
          if (line.due()) line.Set(ProgressText(level, plan, progress));
        }));
    results.push_back(
        {level, SummarizeLoad(records, absl::ToDoubleSeconds(plan.warmup),
                              absl::ToDoubleSeconds(plan.duration), plan.slo)});
  }
  return results;
}

absl::Status WriteReport(Session* session, const LoadDescription& description,
                         const LoadPlan& plan,
                         const std::vector<LevelResult>& results) {
  switch (session->flags().output) {
    case OutputFormat::kText:
      return session->console().Write(
          FormatLoadTable(description, plan, results));
    case OutputFormat::kJson:
      return session->console().Write(
          LoadJson(description, plan, results, /*indented=*/true));
    case OutputFormat::kJsonLines:
      for (const LevelResult& result : results) {
        POT_RETURN_IF_ERROR(session->console().Write(
            LoadJson(description, plan, {result}, /*indented=*/false)));
      }
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status Bench(Session* session, Flags flags) {
  LoadPlan& plan = flags.plan;
  if (plan.levels.empty()) plan.levels.push_back({.concurrency = 1});
  for (const LoadLevel& level : plan.levels) {
    if (level.open() != plan.levels[0].open()) {
      return absl::InvalidArgumentError(
          "both --concurrency and --rate: a load is one or the other");
    }
  }
  if (plan.poisson && !plan.levels[0].open()) {
    return absl::InvalidArgumentError("--poisson needs --rate");
  }
  if (flags.prompt_file.has_value() && flags.prompt_tokens.has_value()) {
    return absl::InvalidArgumentError(
        "both --prompt-file and --prompt-tokens: give one");
  }
  POT_RETURN_IF_ERROR(CheckLoadPlan(plan));
  std::optional<PlotFormat> plot_format;
  if (flags.plot.has_value()) {
    POT_ASSIGN_OR_RETURN(plot_format, PlotFormatOf("--plot", *flags.plot));
  }
  POT_ASSIGN_OR_RETURN(const v1::ModelRef model,
                       ResolveModel(session, flags.model));
  LoadDescription description;
  description.server = session->connection().server();
  description.max_new_tokens = flags.max_new_tokens;
  POT_ASSIGN_OR_RETURN(description.model, GetModel(session, model));
  POT_ASSIGN_OR_RETURN(const LoadPrompts prompts,
                       MakePrompts(flags, model, &description));
  POT_ASSIGN_OR_RETURN(const std::vector<LevelResult> results,
                       RunLevels(session, plan, prompts));
  POT_RETURN_IF_ERROR(WriteReport(session, description, plan, results));
  if (!plot_format.has_value()) return absl::OkStatus();
  return DrawPlot(MakeLoadPlotScript(description, plan, results, *plot_format),
                  *flags.plot);
}

absl::Status ParseDuration(const std::string& text, absl::Duration* duration) {
  if (text == "0" || text == "0s") {
    *duration = absl::ZeroDuration();
    return absl::OkStatus();
  }
  if (ParseTimeout(text, duration)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(Quoted(text), " is no time such as 30s or 500ms"));
}

void AddLevelFlags(const Command& command, LoadPlan* plan) {
  command
      .AddListFlag(
          "--concurrency",
          [plan](const std::vector<std::string>& texts) -> absl::Status {
            for (const std::string& text : texts) {
              LoadLevel level;
              POT_RETURN_IF_ERROR(ParseNumber(text, &level.concurrency));
              plan->levels.push_back(level);
            }
            return absl::OkStatus();
          },
          "Requests under way at all times; several are run in turn [1]")
      .Delimiter(',')
      .TypeName("N,..");
  command
      .AddListFlag(
          "--rate",
          [plan](const std::vector<std::string>& texts) -> absl::Status {
            for (const std::string& text : texts) {
              LoadLevel level;
              POT_RETURN_IF_ERROR(ParseNumber(text, &level.rate));
              if (!(level.rate > 0)) {
                return absl::InvalidArgumentError(
                    absl::StrCat(Quoted(text), " is not over 0"));
              }
              plan->levels.push_back(level);
            }
            return absl::OkStatus();
          },
          "Requests per second whatever comes back, timed from when they were "
          "due; "
          "several are run in turn")
      .Delimiter(',')
      .TypeName("R,..");
  command.AddSwitch("--poisson", &plan->poisson,
                    "With --rate: after exponential pauses [even ones]");
}

void AddPlanFlags(const Command& command, LoadPlan* plan) {
  AddLevelFlags(command, plan);
  command
      .AddParsedFlag(
          "--duration",
          [plan](const std::string& text) -> absl::Status {
            POT_RETURN_IF_ERROR(ParseDuration(text, &plan->duration));
            if (plan->duration > absl::ZeroDuration()) return absl::OkStatus();
            return absl::InvalidArgumentError("must be over 0");
          },
          "How long each load is measured [10s]")
      .TypeName("DURATION");
  command
      .AddParsedFlag(
          "--warmup",
          [plan](const std::string& text) {
            return ParseDuration(text, &plan->warmup);
          },
          "How long it runs before that [1s]")
      .TypeName("DURATION");
  command
      .AddParsedFlag(
          "--slo",
          [plan](const std::string& text) -> absl::Status {
            POT_ASSIGN_OR_RETURN(plan->slo, ParseSlo(text));
            return absl::OkStatus();
          },
          "Limits of a good answer: ttft=TIME to the first token, itl=TIME "
          "from "
          "token to token on average, total=TIME")
      .TypeName("NAME=TIME,..");
  AddValueFlag<uint64_t>(
      command, "--seed", [plan](uint64_t seed) { plan->seed = seed; },
      "Of prompts and times [0]");
  AddValueFlag<int32_t>(
      command, "--connections",
      [plan](int32_t connections) { plan->connections = connections; },
      "Requests take turns on so many; a server may bound the calls of each "
      "[8]");
}

}  // namespace

void AddBenchCommand(const Command& app, CommandFunction* selected) {
  auto flags = std::make_shared<Flags>();
  const Command command = app.AddCommand(
      "bench", "Load the server, and report latencies and goodput");
  AddModelFlag(command, &flags->model);
  AddPlanFlags(command, &flags->plan);
  AddValueFlag<std::string>(
      command, "--prompt-file",
      [flags](const std::string& path) { flags->prompt_file = path; },
      "Prompts, a line each, that take turns")
      .TypeName("FILE");
  command
      .AddParsedFlag(
          "--prompt-tokens",
          [flags](const std::string& text) -> absl::Status {
            POT_ASSIGN_OR_RETURN(flags->prompt_tokens, ParseTokenRange(text));
            return absl::OkStatus();
          },
          "Random tokens of each prompt, all lengths equally likely [16]")
      .TypeName("N|LOW:HIGH");
  command
      .AddParsedFlag(
          "--max-new-tokens",
          [flags](const std::string& text) -> absl::Status {
            POT_ASSIGN_OR_RETURN(flags->max_new_tokens, ParseTokenRange(text));
            return absl::OkStatus();
          },
          "Tokens to generate [32]")
      .TypeName("N|LOW:HIGH");
  AddValueFlag<double>(
      command, "--temperature",
      [flags](double temperature) { flags->temperature = temperature; },
      "0 takes the likeliest token [0]");
  AddValueFlag<std::string>(
      command, "--plot",
      [flags](const std::string& path) { flags->plot = path; },
      "Draw distributions and rates with gnuplot: FILE.svg or FILE.png")
      .TypeName("FILE");
  command.OnSelected([flags, selected] {
    *selected = [flags](Session* session) { return Bench(session, *flags); };
  });
}

}  // namespace pot
