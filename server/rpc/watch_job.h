#ifndef POT_SERVER_RPC_WATCH_JOB_H_
#define POT_SERVER_RPC_WATCH_JOB_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "server/rpc/call.h"
#include "server/rpc/worker_pool.h"
#include "server/training/qat_job_store.h"

namespace pot {

// WatchJob from `after_sequence` on, or only the end of the call when `begun`
// is an error. Events are read from the store a page at a time, on `pool`, and
// only when the page before is written: a slow client costs a page.
grpc::ServerWriteReactor<grpc::ByteBuffer>* StartWatchJob(
    std::unique_ptr<Call> call, const absl::Status& begun, QatJobStore* jobs,
    WorkerPool* pool, const std::string& job_id, int64_t after_sequence);

}  // namespace pot

#endif  // POT_SERVER_RPC_WATCH_JOB_H_
