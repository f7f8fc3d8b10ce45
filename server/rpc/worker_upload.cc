#include "server/rpc/worker_upload.h"

#include <utility>

#include "server/rpc/hand_over.h"
#include "server/serving/field_errors.h"

namespace pot {
namespace {

// One thing at a time, so that nothing here needs a lock: a read, then what its
// OnReadDone does, here or on a pool, .., the finish. Deletes itself when gRPC
// is done with it, which is after the finish.
class WorkerUploadReactor final
    : public grpc::ServerReadReactor<grpc::ByteBuffer> {
 public:
  WorkerUploadReactor(std::shared_ptr<StreamWatch> watch,
                      std::unique_ptr<Call> call,
                      std::unique_ptr<UploadProtocol> protocol,
                      WorkerPool* quick, WorkerPool* slow,
                      grpc::ByteBuffer* response)
      : watch_(std::move(watch)),
        call_(std::move(call)),
        protocol_(std::move(protocol)),
        quick_(quick),
        slow_(slow),
        response_(response) {}

  void Begin() { Read(); }

  void End(const absl::Status& status) {
    // Whoever hears of the end may open the upload again.
    upload_.reset();
    if (!status.ok()) response_->Clear();
    const grpc::Status end = call_->End(status);
    turn_.Give();
    Finish(end);
  }

  void OnReadDone(bool ok) override {
    watch_->End();
    turn_.Take();
    if (!ok) {
      const absl::Status late = watch_->status();
      return late.ok() ? Complete() : End(late);
    }
    v1::TransferChunk chunk;
    const absl::StatusOr<UploadProtocol::Part> part =
        protocol_->Parse(message_, &chunk);
    if (!part.ok()) return End(part.status());
    if (*part == UploadProtocol::Part::kHeader) return Open();
    if (upload_ == nullptr) {
      return End(FieldError("MISSING_FIELD", "header",
                            "must be in the first message", "", ""));
    }
    const absl::Status status = upload_->Append(chunk);
    if (!status.ok()) return End(status);
    Read();
  }

  void OnDone() override {
    turn_.Take();
    watch_->Stop();
    delete this;
  }

 private:
  void Read() {
    watch_->Begin();
    turn_.Give();
    StartRead(&message_);
  }

  void Open() {
    if (upload_ != nullptr) {
      return End(FieldError("MISSING_FIELD", "chunk",
                            "must be in every message but the first", "", ""));
    }
    const absl::Status submitted = quick_->Submit([this] {
      absl::StatusOr<std::unique_ptr<Upload>> upload =
          protocol_->Open(response_);
      if (!upload.ok() || *upload == nullptr) return End(upload.status());
      upload_ = *std::move(upload);
      Read();
    });
    if (!submitted.ok()) End(submitted);
  }

  void Complete() {
    if (upload_ == nullptr) {
      return End(FieldError("MISSING_FIELD", "header",
                            "must be in the first message", "", ""));
    }
    const absl::Status submitted = slow_->Submit(
        [this] { End(protocol_->Accept(upload_.get(), response_)); });
    if (!submitted.ok()) End(submitted);
  }

  const std::shared_ptr<StreamWatch> watch_;  // of reads
  const std::unique_ptr<Call> call_;
  const std::unique_ptr<UploadProtocol> protocol_;
  WorkerPool* const quick_;
  WorkerPool* const slow_;
  grpc::ByteBuffer* const response_;  // alive until Finish()
  grpc::ByteBuffer message_;
  std::unique_ptr<Upload> upload_;
  HandOver turn_;
};

}  // namespace

grpc::ServerReadReactor<grpc::ByteBuffer>* StartWorkerUpload(
    std::shared_ptr<StreamWatch> watch, std::unique_ptr<Call> call,
    const absl::Status& begun, std::unique_ptr<UploadProtocol> protocol,
    WorkerPool* quick, WorkerPool* slow, grpc::ByteBuffer* response) {
  auto* const reactor =
      new WorkerUploadReactor(std::move(watch), std::move(call),
                              std::move(protocol), quick, slow, response);
  if (begun.ok()) {
    reactor->Begin();
  } else {
    reactor->End(begun);
  }
  return reactor;
}

}  // namespace pot
