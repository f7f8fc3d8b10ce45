#ifndef POT_SERVER_RPC_STREAM_WATCH_H_
#define POT_SERVER_RPC_STREAM_WATCH_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "grpcpp/alarm.h"
#include "grpcpp/server_context.h"

namespace pot {

// Ends a stream whose client takes no message, or sends none, for too long: it
// would keep what its call holds, KV memory above all, for as long as its
// connection lives. Thread-safe; always in a std::shared_ptr, which a pending
// alarm shares.
class StreamWatch : public std::enable_shared_from_this<StreamWatch> {
 public:
  enum class Direction { kWrites, kReads };

  // `rpc` is alive while an operation is in flight. `limit` 0: watches nothing.
  StreamWatch(Direction direction, grpc::CallbackServerContext* rpc,
              absl::Duration limit);

  // Before StartWrite() or StartRead().
  void Begin();
  // First in OnWriteDone() or OnReadDone(). After one that took longer than the
  // limit the call was cancelled: its client gets the code and message of
  // status(), and the operation has failed.
  void End();
  // Drops a pending alarm.
  void Stop();

  // DEADLINE_EXCEEDED (WRITE_TIMEOUT, READ_TIMEOUT) once one took too long.
  absl::Status status() const;

 private:
  void SetAlarm(absl::Time time) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnAlarm();
  absl::Status Error() const;

  const Direction direction_;
  grpc::CallbackServerContext* const rpc_;
  const absl::Duration limit_;

  mutable Mutex mutex_;
  // Null: none is set.
  std::unique_ptr<grpc::Alarm> alarm_ ABSL_GUARDED_BY(mutex_);
  // InfiniteFuture: nothing is in flight.
  absl::Time begun_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  bool expired_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace pot

#endif  // POT_SERVER_RPC_STREAM_WATCH_H_
