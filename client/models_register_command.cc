#include <cstdint>
#include <memory>
#include <string>

#include "client/model_report.h"
#include "client/models_commands.h"
#include "client/version_directory.h"
#include "client/version_upload.h"
#include "engine/base/status_macros.h"
#include "pot/v1/model.pb.h"

namespace pot {
namespace {

absl::Status Register(Session* session, v1::CheckpointHeader header,
                      const std::string& directory) {
  POT_ASSIGN_OR_RETURN(*header.mutable_files(),
                       ListVersionDirectory(directory));
  POT_ASSIGN_OR_RETURN(const v1::ModelVersion version,
                       UploadVersion(session, header, directory, ""));
  if (!session->text_output()) return WriteJson(session, version);
  return session->console().Write(FormatModel(version));
}

}  // namespace

void AddModelRegisterCommand(const Command& models, CommandFunction* selected) {
  auto header = std::make_shared<v1::CheckpointHeader>();
  auto directory = std::make_shared<std::string>();
  const Command command = models.AddCommand(
      "register", "Upload a version's directory as a new version");
  AddValueFlag<std::string>(
      command, "name", [=](const std::string& v) { header->set_name(v); },
      "The model that gets the version")
      .Required();
  command
      .AddFlag("directory", directory.get(),
               "Here, with the manifest.json that pot-trainer wrote")
      .Required();
  AddValueFlag<int64_t>(
      command, "--version-number", [=](int64_t v) { header->set_version(v); },
      "Its number [the next one]");
  command.AddSwitch(
      "--load", [=](int64_t v) { header->set_load(v > 0); },
      "Load the version and wait until it serves");
  command.OnSelected([=] {
    *selected = [=](Session* session) {
      return Register(session, *header, *directory);
    };
  });
}

}  // namespace pot
