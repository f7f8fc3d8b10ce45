#include "server/rpc/upload_dataset.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "engine/base/status_macros.h"
#include "pot/v1/training.pb.h"
#include "server/rpc/long_call.h"
#include "server/rpc/stream_watch.h"
#include "server/rpc/wire.h"
#include "server/serving/field_errors.h"

namespace pot {
namespace {

constexpr int64_t kMaxNameBytes = 128;
constexpr int64_t kMaxPieceBytes = int64_t{1} << 20;

absl::Status CheckHeader(const v1::DatasetHeader& header) {
  POT_RETURN_IF_ERROR(CheckSha256("header.sha256", header.sha256()));
  POT_RETURN_IF_ERROR(
      CheckBytes("header.name", header.name(), 0, kMaxNameBytes));
  return CheckRange("header.size_bytes", header.size_bytes(), 1,
                    std::numeric_limits<int64_t>::max());
}

absl::Status Answer(const v1::Dataset& dataset, bool deduplicated,
                    grpc::ByteBuffer* answer) {
  v1::UploadDatasetResponse response;
  *response.mutable_dataset() = dataset;
  response.set_deduplicated(deduplicated);
  return SerializeMessage(response, answer);
}

// Deletes itself when gRPC is done with it. While the pool works for it there
// is no read, and a cancellation waits for the pool: so it is alive then.
class DatasetReactor final : public grpc::ServerReadReactor<grpc::ByteBuffer> {
 public:
  DatasetReactor(DatasetStore* datasets, WorkerPool* pool,
                 grpc::ByteBuffer* response)
      : datasets_(datasets), pool_(pool), response_(response) {}

  void Start(std::shared_ptr<LongCall> call, const absl::Status& begun,
             std::shared_ptr<StreamWatch> watch) {
    call_ = std::move(call);
    watch_ = std::move(watch);
    if (begun.ok()) {
      Read();
    } else {
      call_->Finish(begun);
    }
  }

  void FinishWith(grpc::Status status, grpc::ByteBuffer answer) {
    *response_ = std::move(answer);
    Finish(std::move(status));
  }

  void OnReadDone(bool ok) override {
    // Kept: after a finish, which another thread may be at, only this is.
    const std::shared_ptr<LongCall> call = call_;
    watch_->End();
    {
      MutexLock lock(&mutex_);
      if (cancelled_) return;
    }
    if (!ok) {
      const absl::Status late = watch_->status();
      if (!late.ok()) {
        Refuse(call.get(), late);
      } else if (upload_ == nullptr) {
        call->Finish(FieldError("MISSING_FIELD", "header",
                                "must be in the first message", "", ""));
      } else {
        OnPool(&DatasetReactor::Complete);
      }
      return;
    }
    v1::UploadDatasetRequest request;
    absl::Status status = ParseMessage(bytes_, &request);
    if (status.ok()) status = CheckPart(request);
    if (status.ok() && request.has_header()) {
      header_ = std::move(*request.mutable_header());
      OnPool(&DatasetReactor::Begin);
      return;
    }
    if (status.ok()) status = upload_->Append(request.data());
    if (status.ok()) {
      Read();
    } else {
      Refuse(call.get(), status);
    }
  }

  void OnCancel() override {
    {
      MutexLock lock(&mutex_);
      cancelled_ = true;
      if (working_) return;
    }
    EndCancelled(call_.get());
  }

  void OnDone() override {
    // Whoever started the last read has left the lock then.
    { MutexLock lock(&mutex_); }
    watch_->Stop();
    delete this;
  }

 private:
  void EndCancelled(LongCall* call) {
    const absl::Status late = watch_->status();
    if (late.ok()) {
      call->OnCancel();
    } else {
      call->Finish(late);
    }
  }

  void Read() {
    watch_->Begin();
    StartRead(&bytes_);
  }

  absl::Status CheckPart(const v1::UploadDatasetRequest& request) const {
    switch (request.part_case()) {
      case v1::UploadDatasetRequest::kHeader:
        if (upload_ == nullptr) return CheckHeader(request.header());
        return FieldError("MISSING_FIELD", "data",
                          "must be in every message but the first", "", "");
      case v1::UploadDatasetRequest::kData:
        if (upload_ != nullptr) {
          return CheckBytes("data", request.data(), 1, kMaxPieceBytes);
        }
        return FieldError("MISSING_FIELD", "header",
                          "must be in the first message", "", "");
      case v1::UploadDatasetRequest::PART_NOT_SET:
        break;
    }
    return FieldError("MISSING_FIELD", "part", "is missing: header or data", "",
                      "");
  }

  // Runs `work`, which says whether to read on; a finish comes after it.
  void OnPool(
      absl::StatusOr<bool> (DatasetReactor::*work)(grpc::ByteBuffer* answer)) {
    {
      MutexLock lock(&mutex_);
      working_ = true;
    }
    const absl::Status submitted = pool_->Submit([this, work] {
      grpc::ByteBuffer answer;
      const absl::StatusOr<bool> more = (this->*work)(&answer);
      AfterWork(more, std::move(answer));
    });
    if (!submitted.ok()) AfterWork(submitted, {});
  }

  void AfterWork(const absl::StatusOr<bool>& more, grpc::ByteBuffer answer) {
    const std::shared_ptr<LongCall> call = call_;
    bool cancelled = false;
    {
      MutexLock lock(&mutex_);
      cancelled = cancelled_;
      if (!cancelled && more.ok() && *more) {
        working_ = false;
        Read();
        return;
      }
    }
    // Still working, so that OnCancel() does nothing.
    if (cancelled && !(more.ok() && !*more)) {
      upload_.reset();
      EndCancelled(call.get());
    } else if (more.ok()) {
      call->Finish(absl::OkStatus(), std::move(answer));
    } else {
      Refuse(call.get(), more.status());
    }
  }

  absl::StatusOr<bool> Begin(grpc::ByteBuffer* answer) {
    POT_ASSIGN_OR_RETURN(const std::optional<v1::Dataset> found,
                         datasets_->Find(header_.sha256()));
    if (found.has_value()) {
      POT_RETURN_IF_ERROR(Answer(*found, /*deduplicated=*/true, answer));
      return false;
    }
    POT_ASSIGN_OR_RETURN(upload_,
                         datasets_->Begin(header_.sha256(), header_.name(),
                                          header_.size_bytes()));
    return true;
  }

  absl::StatusOr<bool> Complete(grpc::ByteBuffer* answer) {
    POT_ASSIGN_OR_RETURN(const v1::Dataset dataset, upload_->Finish());
    POT_RETURN_IF_ERROR(Answer(dataset, /*deduplicated=*/false, answer));
    return false;
  }

  // Whoever hears of the error finds nothing left of the upload.
  void Refuse(LongCall* call, const absl::Status& status) {
    upload_.reset();
    call->Finish(status);
  }

  DatasetStore* const datasets_;
  WorkerPool* const pool_;
  grpc::ByteBuffer* const response_;  // alive until Finish()
  v1::DatasetHeader header_;
  std::unique_ptr<DatasetUpload> upload_;  // from Begin() until it is refused
  grpc::ByteBuffer bytes_;
  std::shared_ptr<LongCall> call_;
  std::shared_ptr<StreamWatch> watch_;  // of reads
  Mutex mutex_;
  bool working_ ABSL_GUARDED_BY(mutex_) = false;  // on the pool
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerReadReactor<grpc::ByteBuffer>* StartUploadDataset(
    grpc::CallbackServerContext* rpc, std::unique_ptr<Call> call,
    const absl::Status& begun, DatasetStore* datasets, WorkerPool* pool,
    absl::Duration read_timeout, grpc::ByteBuffer* response) {
  auto* const reactor = new DatasetReactor(datasets, pool, response);
  reactor->Start(
      std::make_shared<LongCall>(
          std::move(call), *rpc,
          [reactor](grpc::Status status, grpc::ByteBuffer answer) {
            reactor->FinishWith(std::move(status), std::move(answer));
          }),
      begun,
      std::make_shared<StreamWatch>(StreamWatch::Direction::kReads, rpc,
                                    read_timeout));
  return reactor;
}

}  // namespace pot
