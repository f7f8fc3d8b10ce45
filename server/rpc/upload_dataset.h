#ifndef POT_SERVER_RPC_UPLOAD_DATASET_H_
#define POT_SERVER_RPC_UPLOAD_DATASET_H_

#include <memory>

#include "absl/status/status.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "server/rpc/call.h"
#include "server/rpc/worker_pool.h"
#include "server/training/dataset_store.h"

namespace pot {

// UploadDataset, or only the end of the call when `begun` is an error. Pieces
// are checked and written where they arrive, one at a time; what waits for the
// database or a sync runs on `pool`. READ_TIMEOUT (StreamWatch) after silence.
grpc::ServerReadReactor<grpc::ByteBuffer>* StartUploadDataset(
    grpc::CallbackServerContext* rpc, std::unique_ptr<Call> call,
    const absl::Status& begun, DatasetStore* datasets, WorkerPool* pool,
    absl::Duration read_timeout, grpc::ByteBuffer* response);

}  // namespace pot

#endif  // POT_SERVER_RPC_UPLOAD_DATASET_H_
