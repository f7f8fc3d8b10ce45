#include "server/rpc/message_writer.h"

#include <utility>

namespace pot {

MessageWriter::MessageWriter(
    grpc::ServerWriteReactor<grpc::ByteBuffer>* reactor, size_t max_buffered,
    std::function<void()> on_drained, std::shared_ptr<StreamWatch> watch)
    : start_write_([reactor](const grpc::ByteBuffer* message) {
        reactor->StartWrite(message);
      }),
      finish_([reactor](grpc::Status status) {
        reactor->Finish(std::move(status));
      }),
      max_buffered_(max_buffered),
      on_drained_(std::move(on_drained)),
      watch_(std::move(watch)) {}

MessageWriter::MessageWriter(
    grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* reactor,
    size_t max_buffered, std::function<void()> on_drained,
    std::shared_ptr<StreamWatch> watch)
    : start_write_([reactor](const grpc::ByteBuffer* message) {
        reactor->StartWrite(message);
      }),
      finish_([reactor](grpc::Status status) {
        reactor->Finish(std::move(status));
      }),
      max_buffered_(max_buffered),
      on_drained_(std::move(on_drained)),
      watch_(std::move(watch)) {}

MessageWriter::~MessageWriter() {
  if (watch_ != nullptr) watch_->Stop();
}

absl::Status MessageWriter::Outcome(const absl::Status& status,
                                    const absl::Status& written) {
  if (absl::IsDeadlineExceeded(written)) return written;
  return status.ok() ? written : status;
}

void MessageWriter::Write(grpc::ByteBuffer message) {
  {
    MutexLock lock(&mutex_);
    if (broken_) return;
    buffer_.push_back(std::move(message));
    if (buffer_.size() >= max_buffered_) was_full_ = true;
  }
  Advance();
}

bool MessageWriter::ReadyForMore() const {
  MutexLock lock(&mutex_);
  return buffer_.size() < max_buffered_;
}

void MessageWriter::Finish(StatusFunction status) {
  {
    MutexLock lock(&mutex_);
    status_ = std::move(status);
  }
  Advance();
}

void MessageWriter::OnWriteDone(bool ok) {
  if (watch_ != nullptr) watch_->End();
  bool drained = false;
  {
    MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) {
      broken_ = true;
      buffer_.clear();
    }
    drained = was_full_ && buffer_.size() < max_buffered_;
    if (drained) was_full_ = false;
  }
  if (drained) on_drained_();
  Advance();
}

void MessageWriter::Advance() {
  StatusFunction status;
  absl::Status written;
  {
    MutexLock lock(&mutex_);
    if (writing_) return;
    if (buffer_.empty()) {
      if (status_ == nullptr) return;
      status = std::exchange(status_, nullptr);
      if (broken_) written = absl::CancelledError("the client is gone");
    } else {
      // Nobody else writes or finishes until OnWriteDone.
      writing_ = true;
      in_flight_ = std::move(buffer_.front());
      buffer_.pop_front();
    }
  }
  // The reactor, and with it the owner of this, may be gone after either call.
  if (status != nullptr) {
    if (watch_ != nullptr && !watch_->status().ok()) {
      written = watch_->status();
    }
    finish_(status(written));
  } else {
    if (watch_ != nullptr) watch_->Begin();
    start_write_(&in_flight_);
  }
}

}  // namespace pot
