#include "client/version_upload.h"

#include <cstdint>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "client/progress_bar.h"
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

absl::Span<const uint8_t> BytesOf(const std::string& text) {
  return absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(text.data()),
                             text.size());
}

absl::Status SendFiles(const std::string& directory,
                       const std::string& manifest,
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
    const auto send = [&](absl::Span<const uint8_t> piece) -> absl::Status {
      for (size_t at = 0; at < piece.size(); at += kChunkBytes) {
        const absl::Span<const uint8_t> data = piece.subspan(at, kChunkBytes);
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
    };
    const bool last = i + 1 == header.files_size();
    POT_RETURN_IF_ERROR(
        last && !manifest.empty()
            ? send(BytesOf(manifest))
            : ReadFilePieces(
                  absl::StrCat(directory, "/", header.files(i).path()), send));
  }
  writer->WritesDone();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::ModelVersion> UploadVersion(
    Session* session, const v1::CheckpointHeader& header,
    const std::string& directory, const std::string& manifest) {
  Call call(session->connection());
  const auto stub = v1::ModelService::NewStub(session->connection().channel());
  v1::RegisterCheckpointResponse response;
  const auto writer = stub->RegisterCheckpoint(call.context(), &response);
  absl::Status sent;
  {
    ProgressBar bar(&session->console(), header.name());
    sent = SendFiles(directory, manifest, header, writer.get(), &bar);
  }
  // A file that cannot be read must not end as a short upload.
  if (!sent.ok() && !absl::IsAborted(sent)) call.context()->TryCancel();
  const absl::Status status = call.ToStatus(writer->Finish());
  if (!sent.ok() && !absl::IsAborted(sent)) return sent;
  POT_RETURN_IF_ERROR(status);
  return response.version();
}

}  // namespace pot
