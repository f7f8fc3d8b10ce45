#include "server/rpc/watch_models.h"

#include <optional>
#include <utility>

#include "pot/v1/model.pb.h"
#include "server/rpc/event_buffer.h"
#include "server/rpc/model_proto_conversion.h"
#include "server/rpc/wire.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

// One write in flight; deletes itself when gRPC is done with it.
class WatchReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit WatchReactor(std::unique_ptr<Call> call) : call_(std::move(call)) {}

  void Subscribe(ModelRepository* repository, const std::string& name) {
    subscription_ = repository->Watch(
        name, [this](const ModelEvent& event) { OnEvent(event); });
  }

  void Refuse(const absl::Status& status) {
    {
      MutexLock lock(&mutex_);
      finished_ = true;
    }
    Finish(call_->End(status));
  }

  void OnWriteDone(bool ok) override {
    {
      MutexLock lock(&mutex_);
      writing_ = false;
      if (!ok) over_ = true;
    }
    Advance();
  }

  void OnCancel() override {
    {
      MutexLock lock(&mutex_);
      over_ = true;
    }
    Advance();
  }

  // Ends the subscription, after which OnEvent() is not called any more.
  void OnDone() override { delete this; }

 private:
  void OnEvent(const ModelEvent& event) {
    {
      MutexLock lock(&mutex_);
      if (over_) return;
      buffer_.Push(event);
    }
    Advance();
  }

  // Writes what waits, or finishes; without the lock, as this may be deleted
  // as soon as Finish() is called.
  void Advance() {
    absl::Status failed;
    bool write = false;
    {
      MutexLock lock(&mutex_);
      if (writing_ || finished_) return;
      std::optional<ModelEvent> event;
      if (!over_) event = buffer_.Pop();
      if (event.has_value()) {
        v1::WatchModelsResponse message;
        FillModelEvent(*event, &message);
        in_flight_.Clear();
        failed = SerializeMessage(message, &in_flight_);
        write = failed.ok();
      }
      if (!write && failed.ok() && !over_) return;
      writing_ = write;
      finished_ = !write;
    }
    if (write) {
      StartWrite(&in_flight_);
      return;
    }
    if (failed.ok()) {
      failed = WithDetails(absl::CancelledError("the client is gone"),
                           {.reason = "CLIENT_CANCELLED"});
    }
    Finish(call_->End(failed));
  }

  const std::unique_ptr<Call> call_;
  Mutex mutex_;
  EventBuffer buffer_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::ByteBuffer in_flight_;  // of the one who set writing_
  // Last, so that it goes first.
  std::shared_ptr<ModelRepository::Subscription> subscription_;
};

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* StartWatchModels(
    std::unique_ptr<Call> call, const absl::Status& begun,
    ModelRepository* repository, const std::string& name) {
  auto* const reactor = new WatchReactor(std::move(call));
  if (begun.ok()) {
    reactor->Subscribe(repository, name);
  } else {
    reactor->Refuse(begun);
  }
  return reactor;
}

}  // namespace pot
