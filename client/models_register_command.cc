#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/model_report.h"
#include "client/models_commands.h"
#include "client/progress_bar.h"
#include "client/version_directory.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "grpcpp/grpcpp.h"
#include "pot/v1/model.grpc.pb.h"

namespace pot {
namespace {

// FileChunk's limit.
constexpr size_t kChunkBytes = 1 << 20;

using Writer = grpc::ClientWriter<v1::RegisterCheckpointRequest>;

// What a Write() that fails ends with; the call's own status says more.
absl::Status EndOfStream() { return absl::AbortedError("the server hung up"); }

absl::Status SendFiles(const std::string& directory,
                       const v1::CheckpointHeader& header, Writer* writer,
                       ProgressBar* bar) {
  int64_t total = 0;
  for (const v1::FileInfo& file : header.files()) total += file.size_bytes();
  v1::RegisterCheckpointRequest request;
  *request.mutable_header() = header;
  if (!writer->Write(request)) return EndOfStream();
  int64_t sent = 0;
  for (int i = 0; i < header.files_size(); ++i) {
    int64_t offset = 0;
    POT_RETURN_IF_ERROR(ReadFilePieces(
        absl::StrCat(directory, "/", header.files(i).path()),
        [&](absl::Span<const uint8_t> piece) -> absl::Status {
          for (size_t at = 0; at < piece.size(); at += kChunkBytes) {
            const absl::Span<const uint8_t> data =
                piece.subspan(at, kChunkBytes);
            v1::FileChunk* const chunk = request.mutable_chunk();
            chunk->set_file_index(static_cast<uint32_t>(i));
            chunk->set_offset(offset);
            chunk->set_data(data.data(), data.size());
            if (!writer->Write(request)) return EndOfStream();
            offset += static_cast<int64_t>(data.size());
            sent += static_cast<int64_t>(data.size());
            bar->Update(sent, total, header.files(i).path());
          }
          return absl::OkStatus();
        }));
  }
  writer->WritesDone();
  return absl::OkStatus();
}

absl::Status Register(Session* session, v1::CheckpointHeader header,
                      const std::string& directory) {
  POT_ASSIGN_OR_RETURN(*header.mutable_files(),
                       ListVersionDirectory(directory));
  Call call(session->connection());
  const auto stub = v1::ModelService::NewStub(session->connection().channel());
  v1::RegisterCheckpointResponse response;
  const auto writer = stub->RegisterCheckpoint(call.context(), &response);
  absl::Status sent;
  {
    ProgressBar bar(&session->console(), header.name());
    sent = SendFiles(directory, header, writer.get(), &bar);
  }
  // A file that cannot be read must not end as a short upload.
  if (!sent.ok() && !absl::IsAborted(sent)) call.context()->TryCancel();
  const absl::Status status = call.ToStatus(writer->Finish());
  if (!sent.ok() && !absl::IsAborted(sent)) return sent;
  POT_RETURN_IF_ERROR(status);
  if (!session->text_output()) return WriteJson(session, response.version());
  return session->console().Write(FormatModel(response.version()));
}

}  // namespace

void AddModelRegisterCommand(CLI::App* models, CommandFunction* selected) {
  auto header = std::make_shared<v1::CheckpointHeader>();
  auto directory = std::make_shared<std::string>();
  CLI::App* const command = models->add_subcommand(
      "register", "Upload a version's directory as a new version");
  AddValueFlag<std::string>(
      command, "name", [=](const std::string& v) { header->set_name(v); },
      "The model that gets the version")
      ->required();
  command
      ->add_option("directory", *directory,
                   "Here, with the manifest.json that pot-trainer wrote")
      ->required();
  AddValueFlag<int64_t>(
      command, "--version-number", [=](int64_t v) { header->set_version(v); },
      "Its number [the next one]");
  command->add_flag_function(
      "--load", [=](int64_t v) { header->set_load(v > 0); },
      "Load the version and wait until it serves");
  command->callback([=] {
    *selected = [=](Session* session) {
      return Register(session, *header, *directory);
    };
  });
}

}  // namespace pot
