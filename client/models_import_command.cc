#include <memory>
#include <string>

#include "client/enum_names.h"
#include "client/model_report.h"
#include "client/models_commands.h"
#include "client/progress_bar.h"
#include "client/text_format.h"
#include "engine/base/status_macros.h"
#include "grpcpp/grpcpp.h"
#include "pot/v1/model.grpc.pb.h"

namespace pot {
namespace {

absl::Status Import(Session* session, const v1::ImportModelRequest& request) {
  if (request.source_case() == v1::ImportModelRequest::SOURCE_NOT_SET) {
    return absl::InvalidArgumentError("give a DIRECTORY or --hub");
  }
  Call call(session->connection());
  const auto stub = v1::ModelService::NewStub(session->connection().channel());
  const auto reader = stub->ImportModel(call.context(), request);
  v1::ModelVersion version;
  {
    ProgressBar bar(&session->console(), request.name());
    v1::ImportModelResponse response;
    while (reader->Read(&response)) {
      if (response.has_version()) version = response.version();
      const v1::ImportProgress& progress = response.progress();
      if (response.has_progress()) {
        bar.Update(progress.done_bytes(), progress.total_bytes(),
                   StageName(progress.stage()));
      }
    }
  }
  POT_RETURN_IF_ERROR(call.ToStatus(reader->Finish()));
  if (!session->text_output()) return WriteJson(session, version);
  return session->console().Write(FormatModel(version));
}

}  // namespace

void AddModelImportCommand(CLI::App* models, CommandFunction* selected) {
  auto request = std::make_shared<v1::ImportModelRequest>();
  CLI::App* const import = models->add_subcommand(
      "import", "Make a version of a Hugging Face model, quantized if asked");
  AddValueFlag<std::string>(
      import, "name", [=](const std::string& v) { request->set_name(v); },
      "The model that gets the version")
      ->required();
  CLI::Option* const directory = AddValueFlag<std::string>(
      import, "directory",
      [=](const std::string& v) { request->set_directory(v); },
      "On the server's host, below its import root");
  AddValueFlag<std::string>(
      import, "--hub",
      [=](const std::string& v) { request->mutable_hub()->set_repo_id(v); },
      "Id on a model hub instead, e.g. openai-community/gpt2")
      ->excludes(directory);
  AddValueFlag<std::string>(
      import, "--revision",
      [=](const std::string& v) { request->mutable_hub()->set_revision(v); },
      "Branch, tag or commit of --hub [main]")
      ->excludes(directory);
  AddValueFlag<std::string>(
      import, "--format",
      [=](const std::string& v) {
        request->mutable_quantization()->set_format(v);
      },
      "Number format, e.g. pot4, pot3 or twohot4 [f32]");
  AddValueFlag<std::string>(
      import, "--granularity",
      [=](const std::string& v) {
        request->mutable_quantization()->set_granularity(v);
      },
      "Weights that share a scale: tensor, row, g32, g64 or g128 [row]");
  AddValueFlag<std::string>(
      import, "--method",
      [=](const std::string& v) {
        request->mutable_quantization()->set_method(v);
      },
      "How codes are chosen: paper or nearest [nearest]");
  AddValueFlag<std::string>(
      import, "--embedding-format",
      [=](const std::string& v) {
        request->mutable_quantization()->set_embedding_format(v);
      },
      "Number format of the token embedding [--format]");
  AddValueFlag<std::string>(
      import, "--embedding-granularity",
      [=](const std::string& v) {
        request->mutable_quantization()->set_embedding_granularity(v);
      },
      "Weights of the embedding that share a scale [--granularity]");
  import->add_flag_function(
      "--load", [=](int64_t v) { request->set_load(v > 0);
},
      "Load the version and wait until it serves");
  import->callback([=] {
    *selected = [=](Session* session) { return Import(session, *request);
  };  // namespace pot
  });
  }

  }  // namespace pot
