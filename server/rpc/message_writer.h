#ifndef POT_SERVER_RPC_MESSAGE_WRITER_H_
#define POT_SERVER_RPC_MESSAGE_WRITER_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "engine/base/mutex.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "server/rpc/stream_watch.h"

namespace pot {

// The outgoing messages of one stream: a buffer, and one write in flight.
// Thread-safe; never blocks. gRPC wants one write at a time and the finish
// after the last of them.
class MessageWriter {
 public:
  // `reactor`, of either kind, is alive until it is finished, which happens
  // only here. `on_drained` is called without a lock when ReadyForMore()
  // becomes true again. `watch`, unless null, is told of every write.
  MessageWriter(grpc::ServerWriteReactor<grpc::ByteBuffer>* reactor,
                size_t max_buffered, std::function<void()> on_drained,
                std::shared_ptr<StreamWatch> watch = nullptr);
  MessageWriter(
      grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* reactor,
      size_t max_buffered, std::function<void()> on_drained,
      std::shared_ptr<StreamWatch> watch = nullptr);
  ~MessageWriter();

  // Dropped when the client is gone. Not after Finish().
  void Write(grpc::ByteBuffer message);

  // False while `max_buffered` messages or more wait.
  bool ReadyForMore() const;

  // Finishes the stream when everything is written. `status` is called last
  // before that, with what became of the writes: OK, the watch's error, or
  // CANCELLED when the client was gone. Once.
  using StatusFunction = std::function<grpc::Status(const absl::Status&)>;
  void Finish(StatusFunction status);

  // How a call ended that itself came to `status`.
  static absl::Status Outcome(const absl::Status& status,
                              const absl::Status& written);

  // To be called from the reactor's OnWriteDone.
  void OnWriteDone(bool ok);

 private:
  // Starts the next write, or finishes; the lock is not held.
  void Advance();

  const std::function<void(const grpc::ByteBuffer*)> start_write_;
  const std::function<void(grpc::Status)> finish_;
  const size_t max_buffered_;
  const std::function<void()> on_drained_;
  const std::shared_ptr<StreamWatch> watch_;

  mutable Mutex mutex_;
  std::deque<grpc::ByteBuffer> buffer_ ABSL_GUARDED_BY(mutex_);
  grpc::ByteBuffer in_flight_;  // of the one who set writing_
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;
  bool was_full_ ABSL_GUARDED_BY(mutex_) = false;
  StatusFunction status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pot

#endif  // POT_SERVER_RPC_MESSAGE_WRITER_H_
