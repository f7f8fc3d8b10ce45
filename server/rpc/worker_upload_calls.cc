#include "server/rpc/worker_upload_calls.h"

#include <optional>
#include <utility>

#include "engine/base/status_macros.h"
#include "server/rpc/wire.h"
#include "server/rpc/worker_requests.h"
#include "server/serving/field_errors.h"

namespace pot {
namespace {

// Both kinds of uploads: Request is the stream's message and Response its
// answer.
template <typename Request, typename Response>
class WorkersUpload : public UploadProtocol {
 public:
  WorkersUpload(UploadAcceptor* acceptor, UploadStore* uploads)
      : acceptor_(acceptor), uploads_(uploads) {}

  absl::StatusOr<Part> Parse(const grpc::ByteBuffer& bytes,
                             v1::TransferChunk* chunk) override {
    Request message;
    POT_RETURN_IF_ERROR(ParseMessage(bytes, &message));
    switch (message.part_case()) {
      case Request::kHeader:
        POT_RETURN_IF_ERROR(TakeHeader(message));
        return Part::kHeader;
      case Request::kChunk:
        *chunk = std::move(*message.mutable_chunk());
        return Part::kChunk;
      case Request::PART_NOT_SET:
        break;
    }
    return FieldError("MISSING_FIELD", "part", "is missing: header or chunk",
                      "", "");
  }

 protected:
  virtual absl::Status TakeHeader(const Request& message) = 0;

  UploadAcceptor* acceptor() const { return acceptor_; }
  UploadStore* uploads() const { return uploads_; }

 private:
  UploadAcceptor* const acceptor_;
  UploadStore* const uploads_;
};

class SnapshotUpload final : public WorkersUpload<v1::UploadSnapshotRequest,
                                                  v1::UploadSnapshotResponse> {
 public:
  using WorkersUpload::WorkersUpload;

  absl::StatusOr<std::unique_ptr<Upload>> Open(
      grpc::ByteBuffer* answer) override {
    POT_ASSIGN_OR_RETURN(const std::optional<v1::Snapshot> known,
                         acceptor()->FindSnapshot(header_));
    if (!known.has_value()) {
      return uploads()->Open(UploadKind::kSnapshot, header_);
    }
    POT_RETURN_IF_ERROR(Answer(*known, answer));
    return nullptr;
  }
  absl::Status Accept(Upload* upload, grpc::ByteBuffer* answer) override {
    POT_ASSIGN_OR_RETURN(const v1::Snapshot snapshot,
                         acceptor()->AcceptSnapshot(upload));
    return Answer(snapshot, answer);
  }

 private:
  absl::Status TakeHeader(const v1::UploadSnapshotRequest& message) override {
    header_ = message.header();
    return CheckLeaseKey(header_.lease(), "header.lease");
  }
  static absl::Status Answer(const v1::Snapshot& snapshot,
                             grpc::ByteBuffer* answer) {
    v1::UploadSnapshotResponse response;
    *response.mutable_snapshot() = snapshot;
    return SerializeMessage(response, answer);
  }

  v1::UploadHeader header_;
};

class CheckpointUploadCall final
    : public WorkersUpload<v1::UploadCheckpointRequest,
                           v1::UploadCheckpointResponse> {
 public:
  using WorkersUpload::WorkersUpload;

  absl::StatusOr<std::unique_ptr<Upload>> Open(
      grpc::ByteBuffer* answer) override {
    POT_ASSIGN_OR_RETURN(const std::optional<v1::JobCheckpoint> known,
                         acceptor()->FindCheckpoint(header_.upload()));
    if (!known.has_value()) {
      return uploads()->Open(UploadKind::kCheckpoint, header_.upload());
    }
    POT_RETURN_IF_ERROR(Answer(*known, answer));
    return nullptr;
  }
  absl::Status Accept(Upload* upload, grpc::ByteBuffer* answer) override {
    POT_ASSIGN_OR_RETURN(
        const v1::JobCheckpoint checkpoint,
        acceptor()->AcceptCheckpoint(upload, header_.evaluation()));
    return Answer(checkpoint, answer);
  }

 private:
  absl::Status TakeHeader(const v1::UploadCheckpointRequest& message) override {
    header_ = message.header();
    return CheckLeaseKey(header_.upload().lease(), "header.upload.lease");
  }
  static absl::Status Answer(const v1::JobCheckpoint& checkpoint,
                             grpc::ByteBuffer* answer) {
    v1::UploadCheckpointResponse response;
    *response.mutable_checkpoint() = checkpoint;
    return SerializeMessage(response, answer);
  }

  v1::CheckpointUploadHeader header_;
};

}  // namespace

std::unique_ptr<UploadProtocol> MakeSnapshotUpload(UploadAcceptor* acceptor,
                                                   UploadStore* uploads) {
  return std::make_unique<SnapshotUpload>(acceptor, uploads);
}

std::unique_ptr<UploadProtocol> MakeCheckpointUpload(UploadAcceptor* acceptor,
                                                     UploadStore* uploads) {
  return std::make_unique<CheckpointUploadCall>(acceptor, uploads);
}

}  // namespace pot
