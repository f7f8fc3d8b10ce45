// A file to a client in chunks.
#ifndef POT_SERVER_RPC_FILE_FETCH_H_
#define POT_SERVER_RPC_FILE_FETCH_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "pot/v1/worker.pb.h"
#include "server/rpc/call.h"
#include "server/rpc/worker_pool.h"

namespace pot {

struct FetchedFile {
  std::string path;
  int64_t size = 0;
};

// Finds the file on a thread of `pool` and streams it from `offset` on, in
// chunks of 256 KiB with their CRC-32C, each read when the one before has been
// taken: that is all the memory. `wrap` makes the call's message of a chunk.
// OUT_OF_RANGE (OFFSET_OUT_OF_RANGE) for an offset outside [0, size], DATA_LOSS
// when the file is shorter than it should be.
grpc::ServerWriteReactor<grpc::ByteBuffer>* StartFileFetch(
    std::unique_ptr<Call> call, const absl::Status& begun, WorkerPool* pool,
    std::function<absl::StatusOr<FetchedFile>()> find, int64_t offset,
    std::function<absl::Status(v1::TransferChunk chunk, grpc::ByteBuffer*)>
        wrap);

}  // namespace pot

#endif  // POT_SERVER_RPC_FILE_FETCH_H_
