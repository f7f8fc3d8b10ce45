#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/enum_names.h"
#include "client/hub_upload.h"
#include "client/model_ref.h"
#include "client/model_report.h"
#include "client/models_commands.h"
#include "client/progress_bar.h"
#include "client/text_format.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/hub/hub_id.h"
#include "grpcpp/grpcpp.h"
#include "pot/v1/model.grpc.pb.h"

namespace pot {
namespace {

// What the command line says.
struct ImportFlags {
  v1::ImportModelRequest request;
  // A hub's model, to be downloaded here.
  std::string hub_id;
};

absl::Status Show(Session* session, const v1::ModelVersion& version) {
  if (!session->text_output()) return WriteJson(session, version);
  return session->console().Write(FormatModel(version));
}

absl::Status ImportOnServer(Session* session,
                            const v1::ImportModelRequest& request) {
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
  return Show(session, version);
}

// "import hf:x/y" and "import NAME hf:x/y".
absl::Status FindHubId(ImportFlags* flags) {
  v1::ImportModelRequest& request = flags->request;
  if (IsHubId(request.directory())) {
    flags->hub_id = request.directory();
  } else if (IsHubId(request.name())) {
    flags->hub_id = request.name();
    if (request.source_case() != v1::ImportModelRequest::SOURCE_NOT_SET) {
      return absl::InvalidArgumentError(absl::StrCat(
          Quote(request.name()),
          " stands alone: import [NAME] hf:OWNER/NAME[@REVISION]"));
    }
    POT_ASSIGN_OR_RETURN(const HubId id, ParseHubId(flags->hub_id));
    request.set_name(id.name());
  }
  return absl::OkStatus();
}

absl::Status Import(Session* session, ImportFlags flags) {
  POT_RETURN_IF_ERROR(FindHubId(&flags));
  v1::ImportModelRequest& request = flags.request;
  if (flags.hub_id.empty()) {
    if (request.source_case() != v1::ImportModelRequest::SOURCE_NOT_SET) {
      return ImportOnServer(session, request);
    }
    return absl::InvalidArgumentError(
        "give hf:OWNER/NAME, a DIRECTORY, --hub or --from-version");
  }
  POT_ASSIGN_OR_RETURN(const HubId id, ParseHubId(flags.hub_id));
  const bool quantized = request.has_quantization();
  POT_ASSIGN_OR_RETURN(const v1::ModelVersion uploaded,
                       UploadHubModel(session, id, request.name(),
                                      request.load() && !quantized));
  if (!quantized) return Show(session, uploaded);
  request.mutable_version()->set_name(uploaded.name());
  request.mutable_version()->set_version(uploaded.version());
  return ImportOnServer(session, request);
}

}  // namespace

void AddModelImportCommand(const Command& models, CommandFunction* selected) {
  auto flags = std::make_shared<ImportFlags>();
  const std::shared_ptr<v1::ImportModelRequest> request(flags, &flags->request);
  const Command command = models.AddCommand(
      "import", "Make a version of a Hugging Face model, quantized if asked");
  AddValueFlag<std::string>(
      command, "name", [=](const std::string& v) { request->set_name(v); },
      "The model that gets the version [of hf:OWNER/NAME: NAME]")
      .Required();
  const Flag directory = AddValueFlag<std::string>(
      command, "directory",
      [=](const std::string& v) { request->set_directory(v); },
      "hf:OWNER/NAME[@REVISION], downloaded here and uploaded; or a directory "
      "on the server's host, below its import root");
  const Flag hub = AddValueFlag<std::string>(
      command, "--hub",
      [=](const std::string& v) { request->mutable_hub()->set_repo_id(v); },
      "OWNER/NAME that the server downloads itself, if it may");
  hub.Excludes(directory);
  AddValueFlag<std::string>(
      command, "--revision",
      [=](const std::string& v) { request->mutable_hub()->set_revision(v); },
      "Branch, tag or commit of --hub [main]")
      .Excludes(directory);
  command
      .AddParsedFlag(
          "--from-version",
          [=](const std::string& v) -> absl::Status {
            POT_ASSIGN_OR_RETURN(*request->mutable_version(), ParseModelRef(v));
            return absl::OkStatus();
          },
          "MODEL[@VERSION|@ALIAS] of the format f32 that the server has")
      .Excludes(directory)
      .Excludes(hub);
  AddValueFlag<std::string>(
      command, "--format",
      [=](const std::string& v) {
        request->mutable_quantization()->set_format(v);
      },
      "Number format, e.g. pot4, pot3 or twohot4 [f32]");
  AddValueFlag<std::string>(
      command, "--granularity",
      [=](const std::string& v) {
        request->mutable_quantization()->set_granularity(v);
      },
      "Weights that share a scale: tensor, row, g32, g64 or g128 [row]");
  AddValueFlag<std::string>(
      command, "--method",
      [=](const std::string& v) {
        request->mutable_quantization()->set_method(v);
      },
      "How codes are chosen: paper or nearest [nearest]");
  AddValueFlag<std::string>(
      command, "--embedding-format",
      [=](const std::string& v) {
        request->mutable_quantization()->set_embedding_format(v);
      },
      "Number format of the token embedding [--format]");
  AddValueFlag<std::string>(
      command, "--embedding-granularity",
      [=](const std::string& v) {
        request->mutable_quantization()->set_embedding_granularity(v);
      },
      "Weights of the embedding that share a scale [--granularity]");
  command.AddSwitch(
      "--load", [=](int64_t v) { request->set_load(v > 0); },
      "Load the version and wait until it serves");
  command.OnSelected([=] {
    *selected = [=](Session* session) { return Import(session, *flags); };
  });
}

}  // namespace pot
