// Streams of a worker's files on their way into UploadStore.
#ifndef POT_SERVER_RPC_WORKER_UPLOAD_H_
#define POT_SERVER_RPC_WORKER_UPLOAD_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "pot/v1/worker.pb.h"
#include "server/rpc/call.h"
#include "server/rpc/stream_watch.h"
#include "server/rpc/worker_pool.h"
#include "server/training/upload_store.h"

namespace pot {

// What differs between snapshots and checkpoints.
class UploadProtocol {
 public:
  enum class Part { kHeader, kChunk };

  virtual ~UploadProtocol() = default;

  // A message of the stream; a chunk goes to `chunk`. MISSING_FIELD when it is
  // neither.
  virtual absl::StatusOr<Part> Parse(const grpc::ByteBuffer& bytes,
                                     v1::TransferChunk* chunk) = 0;

  // On a thread that may wait. Null when the upload was accepted before, with
  // the `answer` of then.
  virtual absl::StatusOr<std::unique_ptr<Upload>> Open(
      grpc::ByteBuffer* answer) = 0;
  virtual absl::Status Accept(Upload* upload, grpc::ByteBuffer* answer) = 0;
};

// Chunks are checked and written where they arrive, one at a time; `quick`
// opens the upload and `slow` accepts it. When the stream breaks, what has come
// stays for the next one; a client that goes away while its upload is accepted
// finds it accepted. READ_TIMEOUT (StreamWatch) after silence.
grpc::ServerReadReactor<grpc::ByteBuffer>* StartWorkerUpload(
    std::shared_ptr<StreamWatch> watch, std::unique_ptr<Call> call,
    const absl::Status& begun, std::unique_ptr<UploadProtocol> protocol,
    WorkerPool* quick, WorkerPool* slow, grpc::ByteBuffer* response);

}  // namespace pot

#endif  // POT_SERVER_RPC_WORKER_UPLOAD_H_
