#ifndef POT_SERVER_RPC_WORKER_UPLOAD_CALLS_H_
#define POT_SERVER_RPC_WORKER_UPLOAD_CALLS_H_

#include <memory>

#include "server/rpc/worker_upload.h"
#include "server/training/upload_acceptor.h"
#include "server/training/upload_store.h"

namespace pot {

// UploadSnapshot and UploadCheckpoint of worker.proto. Both arguments outlive
// the call.
std::unique_ptr<UploadProtocol> MakeSnapshotUpload(UploadAcceptor* acceptor,
                                                   UploadStore* uploads);
std::unique_ptr<UploadProtocol> MakeCheckpointUpload(UploadAcceptor* acceptor,
                                                     UploadStore* uploads);

}  // namespace pot

#endif  // POT_SERVER_RPC_WORKER_UPLOAD_CALLS_H_
