#include "server/rpc/register_checkpoint.h"

#include <utility>

#include "engine/base/status_macros.h"
#include "pot/v1/model.pb.h"
#include "server/rpc/checkpoint_upload.h"
#include "server/rpc/long_call.h"
#include "server/rpc/model_proto_conversion.h"
#include "server/rpc/stream_watch.h"
#include "server/rpc/wire.h"

namespace pot {
namespace {

absl::Status Publish(ModelRepository* repository, StagedVersion staged,
                     const v1::CheckpointHeader& header,
                     grpc::ByteBuffer* answer) {
  POT_ASSIGN_OR_RETURN(
      ModelVersionInfo info,
      repository->Register(std::move(staged), header.name(), header.version()));
  if (header.load()) {
    POT_ASSIGN_OR_RETURN(
        info, repository->Load({.name = info.name, .version = info.version},
                               absl::InfiniteFuture()));
  }
  v1::RegisterCheckpointResponse response;
  FillModelVersion(info, response.mutable_version());
  return SerializeMessage(response, answer);
}

// Deletes itself when gRPC is done with it.
class UploadReactor final : public grpc::ServerReadReactor<grpc::ByteBuffer> {
 public:
  UploadReactor(ModelRepository* repository, WorkerPool* pool,
                int64_t max_bytes, grpc::ByteBuffer* response)
      : repository_(repository),
        pool_(pool),
        response_(response),
        upload_(std::make_unique<CheckpointUpload>(repository, max_bytes)) {}

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
    if (call->finished()) return;
    if (!ok) {
      const absl::Status late = watch_->status();
      if (late.ok()) {
        Complete(call);
      } else {
        Refuse(call.get(), late);
      }
      return;
    }
    v1::RegisterCheckpointRequest request;
    absl::Status status = ParseMessage(message_, &request);
    if (status.ok()) status = upload_->Add(request);
    if (status.ok()) {
      Read();
    } else {
      Refuse(call.get(), status);
    }
  }

  void OnCancel() override {
    const absl::Status late = watch_->status();
    if (late.ok()) {
      call_->OnCancel();
    } else {
      call_->Finish(late);
    }
  }
  void OnDone() override {
    watch_->Stop();
    delete this;
  }

 private:
  void Read() {
    watch_->Begin();
    StartRead(&message_);
  }

  // Whoever hears of the error finds nothing left of the upload.
  void Refuse(LongCall* call, const absl::Status& status) {
    upload_.reset();
    call->Finish(status);
  }

  void Complete(const std::shared_ptr<LongCall>& call) {
    absl::StatusOr<StagedVersion> staged = upload_->Complete();
    if (!staged.ok()) {
      Refuse(call.get(), staged.status());
      return;
    }
    const auto shared = std::make_shared<StagedVersion>(*std::move(staged));
    const absl::Status submitted = pool_->Submit(
        [call, shared, header = upload_->header(), repository = repository_] {
          // Nobody waits for a client that went before anything was done.
          if (call->finished()) return;
          grpc::ByteBuffer answer;
          const absl::Status status =
              Publish(repository, std::move(*shared), header, &answer);
          call->Finish(status, std::move(answer));
        });
    if (!submitted.ok()) call->Finish(submitted);
  }

  ModelRepository* const repository_;
  WorkerPool* const pool_;
  grpc::ByteBuffer* const response_;          // alive until Finish()
  std::unique_ptr<CheckpointUpload> upload_;  // until it is refused
  grpc::ByteBuffer message_;
  std::shared_ptr<LongCall> call_;
  std::shared_ptr<StreamWatch> watch_;  // of reads
};

}  // namespace

grpc::ServerReadReactor<grpc::ByteBuffer>* StartRegisterCheckpoint(
    grpc::CallbackServerContext* rpc, std::unique_ptr<Call> call,
    const absl::Status& begun, ModelRepository* repository, WorkerPool* pool,
    int64_t max_bytes, absl::Duration read_timeout,
    grpc::ByteBuffer* response) {
  auto* const reactor =
      new UploadReactor(repository, pool, max_bytes, response);
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
