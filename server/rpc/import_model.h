#ifndef POT_SERVER_RPC_IMPORT_MODEL_H_
#define POT_SERVER_RPC_IMPORT_MODEL_H_

#include <memory>

#include "absl/status/status.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "pot/v1/model.pb.h"
#include "server/rpc/call.h"
#include "server/rpc/worker_pool.h"
#include "server/serving/hub_importer.h"
#include "server/serving/model_repository.h"

namespace pot {

// ImportModel, on `pool`, or only the end of the call when `begun` is an error.
// A client that reads slowly misses progress, never the end; one that is gone
// cancels the import, but not a load after it. `hub` is null where no host is
// allowed; what it downloads runs on `hub_pool`, so that slow hubs do not keep
// others from loading models.
grpc::ServerWriteReactor<grpc::ByteBuffer>* StartImportModel(
    grpc::CallbackServerContext* rpc, std::unique_ptr<Call> call,
    const absl::Status& begun, v1::ImportModelRequest request,
    ModelRepository* repository, WorkerPool* pool, const HubImporter* hub,
    WorkerPool* hub_pool);

}  // namespace pot

#endif  // POT_SERVER_RPC_IMPORT_MODEL_H_
