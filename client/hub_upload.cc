#include "client/hub_upload.h"

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "client/progress_bar.h"
#include "client/text_format.h"
#include "client/version_upload.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "engine/hub/hub_settings.h"
#include "engine/hub/model_download.h"
#include "grpcpp/grpcpp.h"
#include "nlohmann/json.hpp"
#include "pot/v1/model.grpc.pb.h"

namespace pot {
namespace {

constexpr char kManifest[] = "manifest.json";

std::string DigestOf(const std::string& text) {
  return Sha256Hex(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

absl::StatusOr<HubModel> Download(Session* session, const HubId& id) {
  POT_ASSIGN_OR_RETURN(HubSettings settings,
                       HubSettingsFromEnvironment(
                           [](const char* name) { return std::getenv(name); }));
  settings.user_agent = "pot-client/" POT_CLIENT_VERSION;
  ProgressBar bar(&session->console(), id.text());
  HubHooks hooks;
  hooks.progress = [&](int64_t done, int64_t total, absl::string_view file) {
    bar.Update(done, total, Printable(file));
    return !session->interrupter().interrupted();
  };
  hooks.note = [&](const std::string& line) { bar.Print(line); };
  return DownloadHubModel(id, settings, hooks);
}

// The same bytes for the same commit, so that its digest finds the version.
absl::StatusOr<std::string> MakeManifest(const HubId& id, const HubModel& model,
                                         v1::CheckpointHeader* header) {
  nlohmann::json files = nlohmann::json::object();
  for (const std::string& name : model.files) {
    const std::string path = absl::StrCat(model.directory, "/", name);
    std::error_code error;
    const auto bytes =
        static_cast<int64_t>(std::filesystem::file_size(path, error));
    if (error) return absl::ErrnoToStatus(error.value(), path);
    POT_ASSIGN_OR_RETURN(const std::string sha256, Sha256File(path));
    files[name] = {{"bytes", bytes}, {"sha256", sha256}};
    v1::FileInfo* const file = header->add_files();
    file->set_path(name);
    file->set_size_bytes(bytes);
    file->set_sha256(sha256);
  }
  const nlohmann::json json = {
      {"created_unix_seconds", model.modified_unix_seconds},
      {"files", files},
      {"tool_version", absl::StrCat("hf:", id.repo, "@", model.commit)}};
  const std::string manifest = json.dump(2) + "\n";
  v1::FileInfo* const file = header->add_files();
  file->set_path(kManifest);
  file->set_size_bytes(static_cast<int64_t>(manifest.size()));
  file->set_sha256(DigestOf(manifest));
  return manifest;
}

}  // namespace

absl::StatusOr<v1::ModelVersion> UploadHubModel(Session* session,
                                                const HubId& id,
                                                const std::string& name,
                                                bool load) {
  const auto stub = v1::ModelService::NewStub(session->connection().channel());
  v1::ListModelsResponse versions;
  {
    v1::ListModelsRequest request;
    request.set_name(name);
    Call call(session->connection());
    POT_RETURN_IF_ERROR(
        call.ToStatus(stub->ListModels(call.context(), request, &versions)));
  }
  POT_ASSIGN_OR_RETURN(const HubModel model, Download(session, id));
  v1::CheckpointHeader header;
  header.set_name(name);
  header.set_load(load);
  POT_ASSIGN_OR_RETURN(const std::string manifest,
                       MakeManifest(id, model, &header));
  const std::string digest = DigestOf(manifest);
  for (const v1::ModelVersion& version : versions.versions()) {
    if (version.digest() != digest) continue;
    session->console().WriteError(
        absl::StrCat("pot-client: version ", version.version(), " of ", name,
                     " is this commit: not uploaded again\n"));
    if (!load) return version;
    v1::LoadModelRequest request;
    request.mutable_model()->set_name(name);
    request.mutable_model()->set_version(version.version());
    v1::LoadModelResponse response;
    Call call(session->connection());
    POT_RETURN_IF_ERROR(
        call.ToStatus(stub->LoadModel(call.context(), request, &response)));
    return response.version();
  }
  return UploadVersion(session, header, model.directory, manifest);
}

}  // namespace pot
