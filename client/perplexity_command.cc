#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/model_ref.h"
#include "client/perplexity_call.h"
#include "client/perplexity_report.h"
#include "client/progress_bar.h"
#include "client/text_file.h"
#include "engine/base/status_macros.h"
#include "grpcpp/grpcpp.h"
#include "pot/v1/model.grpc.pb.h"

namespace pot {
namespace {

struct Flags {
  std::vector<std::string> files;
  std::vector<std::string> models;
  std::string reference;
  bool table = false;
  v1::PerplexityOptions options;
};

absl::StatusOr<v1::ModelVersion> GetVersion(Session* session,
                                            const v1::ModelIdentity& model) {
  Call call(session->connection());
  v1::GetModelRequest request;
  request.mutable_model()->set_name(model.name());
  request.mutable_model()->set_version(model.version());
  v1::GetModelResponse response;
  POT_RETURN_IF_ERROR(
      call.ToStatus(v1::ModelService::NewStub(session->connection().channel())
                        ->GetModel(call.context(), request, &response)));
  return response.version();
}

absl::StatusOr<PerplexityRow> Measure(Session* session,
                                      const v1::PerplexityOptions& options,
                                      const TextFile& file) {
  PerplexityRow row;
  {
    ProgressBar bar(&session->console(), FormatModelRef(options.model()));
    POT_ASSIGN_OR_RETURN(row.result,
                         MeasurePerplexity(session, options, file, &bar));
  }
  POT_ASSIGN_OR_RETURN(row.version, GetVersion(session, row.result.model()));
  return row;
}

bool SameProtocol(const v1::PerplexityResult& a,
                  const v1::PerplexityResult& b) {
  return a.window() == b.window() && a.stride() == b.stride() &&
         a.tokens() == b.tokens() && a.bytes() == b.bytes();
}

absl::Status WriteText(Session* session, const std::string& name,
                       const std::vector<PerplexityRow>& rows, bool table) {
  std::string text;
  // Rows of one protocol share a line about it and a table.
  for (size_t begin = 0; begin < rows.size();) {
    size_t end = begin + 1;
    while (end < rows.size() &&
           SameProtocol(rows[begin].result, rows[end].result)) {
      ++end;
    }
    const std::vector<PerplexityRow> group(
        rows.begin() + static_cast<std::ptrdiff_t>(begin),
        rows.begin() + static_cast<std::ptrdiff_t>(end));
    absl::StrAppend(&text, begin > 0 ? "\n" : "",
                    FormatProtocol(name, group[0].result), "\n",
                    table ? FormatPerplexityTable(group)
                          : FormatPerplexityFigures(group[0]));
    begin = end;
  }
  return session->console().Write(text);
}

absl::Status WriteJsonRows(Session* session,
                           const std::vector<std::string>& objects) {
  if (session->flags().output == OutputFormat::kJsonLines) {
    std::string lines;
    for (const std::string& object : objects) {
      absl::StrAppend(&lines, object, "\n");
    }
    return session->console().Write(lines);
  }
  std::string array = "[";
  for (const std::string& object : objects) {
    absl::StrAppend(&array, array.size() > 1 ? ",\n " : "\n ", object);
  }
  return session->console().Write(absl::StrCat(array, "\n]\n"));
}

absl::Status Perplexity(Session* session, Flags flags) {
  if (!flags.reference.empty()) {
    POT_ASSIGN_OR_RETURN(*flags.options.mutable_reference(),
                         ParseModelRef(flags.reference));
  }
  std::vector<v1::ModelRef> models;
  if (flags.models.empty()) flags.models.emplace_back();
  for (const std::string& model : flags.models) {
    POT_ASSIGN_OR_RETURN(models.emplace_back(), ResolveModel(session, model));
  }
  std::vector<std::string> objects;
  for (const std::string& path : flags.files) {
    POT_ASSIGN_OR_RETURN(TextFile file, TextFile::Open(path, session->console(),
                                                       models.size() > 1,
                                                       session->interrupter()));
    std::vector<PerplexityRow> rows;
    for (const v1::ModelRef& model : models) {
      if (!rows.empty()) POT_RETURN_IF_ERROR(file.Rewind());
      *flags.options.mutable_model() = model;
      POT_ASSIGN_OR_RETURN(rows.emplace_back(),
                           Measure(session, flags.options, file));
    }
    if (session->text_output()) {
      if (&path != &flags.files[0]) {
        POT_RETURN_IF_ERROR(session->console().Write("\n"));
      }
      POT_RETURN_IF_ERROR(WriteText(session, file.name(), rows,
                                    flags.table || rows.size() > 1));
    }
    for (const PerplexityRow& row : rows) {
      objects.push_back(FormatPerplexityJson(file.name(), row));
    }
  }
  return session->text_output() ? absl::OkStatus()
                                : WriteJsonRows(session, objects);
}

}  // namespace

void AddPerplexityCommand(const Command& app, CommandFunction* selected) {
  auto flags = std::make_shared<Flags>();
  const Command command = app.AddCommand(
      "perplexity", "How well models predict texts of any length");
  command
      .AddFlag("file", &flags->files,
               "UTF-8 texts, each measured on its own; '-' is standard "
               "input")
      .Required();
  command
      .AddListFlag(
          "-m,--model",
          [flags](const std::vector<std::string>& models) {
            flags->models = models;
            return absl::OkStatus();
          },
          "NAME, NAME@VERSION, NAME@ALIAS or NAME@sha256:DIGEST; repeat it to "
          "compare [the server's only model]")
      .TypeName("MODEL");
  command
      .AddFlag("--reference", &flags->reference,
               "Model for KL divergence and agreement of top tokens")
      .TypeName("MODEL");
  command.AddSwitch("--table", &flags->table,
                    "A table also for one model, with memory beside fp32");
  v1::PerplexityOptions* const options = &flags->options;
  AddValueFlag<int32_t>(
      command, "--window", [=](int32_t v) { options->set_window(v); },
      "Input tokens per window [context length]");
  AddValueFlag<int32_t>(
      command, "--stride", [=](int32_t v) { options->set_stride(v); },
      "Tokens between beginnings of windows [window]");
  AddValueFlag<std::string>(
      command, "--request-id",
      [=](const std::string& v) { options->set_request_id(v); },
      "Name of the call in the answer and the server's log");
  command.OnSelected([flags, selected] {
    *selected = [flags](Session* session) {
      return Perplexity(session, *flags);
    };
  });
}

}  // namespace pot
