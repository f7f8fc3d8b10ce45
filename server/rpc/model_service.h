#ifndef POT_SERVER_RPC_MODEL_SERVICE_H_
#define POT_SERVER_RPC_MODEL_SERVICE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "pot/v1/model.grpc.pb.h"
#include "server/rpc/call.h"
#include "server/rpc/worker_pool.h"
#include "server/serving/hub_importer.h"
#include "server/serving/model_repository.h"

namespace pot {

struct ModelServiceOptions {
  // Loads, unloads, imports, diffs and publications that run, and that wait.
  int worker_threads = 4;
  size_t max_queued = 64;
  // Of one RegisterCheckpoint, all files together.
  int64_t max_upload_bytes = int64_t{16} << 30;
  // Downloads that run at a time, and that wait; apart from the others.
  int hub_threads = 1;
  size_t max_queued_hub = 8;
  // Null: ImportModel downloads nothing. Outlives this.
  const HubImporter* hub = nullptr;
  // AliasChange.actor: who calls. Unset: nobody knows, "".
  std::function<std::string(const grpc::CallbackServerContext&)> actor;
};

// pot.v1.ModelService (proto/pot/v1/model.proto). Every method takes raw bytes,
// see server/rpc/wire.h. What lists the disk's directories runs on gRPC's
// threads, everything longer on own ones; a call ends when its client is gone,
// the loading behind it does not.
class ModelService final
    : public v1::ModelService::WithRawCallbackMethod_ListModels<
          v1::ModelService::WithRawCallbackMethod_GetModel<
              v1::ModelService::WithRawCallbackMethod_WatchModels<
                  v1::ModelService::WithRawCallbackMethod_LoadModel<
                      v1::ModelService::WithRawCallbackMethod_UnloadModel<
                          v1::ModelService::WithRawCallbackMethod_RegisterCheckpoint<
                              v1::ModelService::WithRawCallbackMethod_ImportModel<
                                  v1::ModelService::WithRawCallbackMethod_SetAlias<
                                      v1::ModelService::WithRawCallbackMethod_RollbackAlias<
                                          v1::ModelService::WithRawCallbackMethod_ListAliasHistory<
                                              v1::ModelService::
                                                  WithRawCallbackMethod_DeleteVersion<
                                                      v1::ModelService::
                                                          WithRawCallbackMethod_DiffVersions<
                                                              v1::ModelService::
                                                                  Service>>>>>>>>>>>> {
 public:
  // Both outlive this; this outlives the gRPC server.
  ModelService(ModelRepository* repository, CallTracker* calls,
               ModelServiceOptions options = {});

  using Rpc = grpc::CallbackServerContext;
  using Bytes = grpc::ByteBuffer;
  using Unary = grpc::ServerUnaryReactor;

  Unary* ListModels(Rpc* rpc, const Bytes* request, Bytes* response) override;
  Unary* GetModel(Rpc* rpc, const Bytes* request, Bytes* response) override;
  grpc::ServerWriteReactor<Bytes>* WatchModels(Rpc* rpc,
                                               const Bytes* request) override;
  Unary* LoadModel(Rpc* rpc, const Bytes* request, Bytes* response) override;
  Unary* UnloadModel(Rpc* rpc, const Bytes* request, Bytes* response) override;
  grpc::ServerReadReactor<Bytes>* RegisterCheckpoint(Rpc* rpc,
                                                     Bytes* response) override;
  grpc::ServerWriteReactor<Bytes>* ImportModel(Rpc* rpc,
                                               const Bytes* request) override;
  Unary* SetAlias(Rpc* rpc, const Bytes* request, Bytes* response) override;
  Unary* RollbackAlias(Rpc* rpc, const Bytes* request,
                       Bytes* response) override;
  Unary* ListAliasHistory(Rpc* rpc, const Bytes* request,
                          Bytes* response) override;
  Unary* DeleteVersion(Rpc* rpc, const Bytes* request,
                       Bytes* response) override;
  Unary* DiffVersions(Rpc* rpc, const Bytes* request, Bytes* response) override;

 private:
  std::string Actor(const Rpc& rpc) const;

  ModelRepository* const repository_;
  CallTracker* const calls_;
  const ModelServiceOptions options_;
  WorkerPool pool_;
  WorkerPool hub_pool_;
};

}  // namespace pot

#endif  // POT_SERVER_RPC_MODEL_SERVICE_H_
