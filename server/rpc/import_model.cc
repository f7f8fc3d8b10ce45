#include "server/rpc/import_model.h"

#include <optional>
#include <utility>

#include "engine/base/status_macros.h"
#include "server/rpc/long_call.h"
#include "server/rpc/message_writer.h"
#include "server/rpc/model_proto_conversion.h"
#include "server/rpc/request_parser.h"
#include "server/rpc/wire.h"
#include "server/serving/error_details.h"
#include "server/serving/field_errors.h"

namespace pot {
namespace {

struct ParsedImport {
  std::string name;
  // One of these.
  std::string directory;
  std::optional<HubId> hub;
  std::optional<ModelSelector> version;
  std::optional<QuantizeModelOptions> options;
  bool load = false;
};

absl::StatusOr<HubId> ParseHub(const v1::HubSource& source,
                               const HubImporter* hub) {
  if (hub == nullptr) {
    return WithDetails(
        absl::FailedPreconditionError(
            "this server downloads nothing: its --import-hosts lists no host; "
            "\"pot-client models import hf:OWNER/NAME\" downloads where it "
            "runs and uploads"),
        {.reason = "IMPORT_DISABLED", .field = "hub"});
  }
  absl::StatusOr<HubId> id = MakeHubId(source.repo_id(), source.revision());
  if (id.ok()) return id;
  return WithDetails(id.status(), {.reason = "INVALID_FIELD", .field = "hub"});
}

absl::StatusOr<ParsedImport> ParseImport(const v1::ImportModelRequest& request,
                                         const HubImporter* hub) {
  ParsedImport parsed;
  POT_RETURN_IF_ERROR(CheckModelName(request.name(), "name"));
  parsed.name = request.name();
  switch (request.source_case()) {
    case v1::ImportModelRequest::kDirectory:
      parsed.directory = request.directory();
      break;
    case v1::ImportModelRequest::kHub: {
      POT_ASSIGN_OR_RETURN(parsed.hub, ParseHub(request.hub(), hub));
      break;
    }
    case v1::ImportModelRequest::kVersion: {
      POT_ASSIGN_OR_RETURN(parsed.version,
                           ParseModelRef(request.version(), "version"));
      break;
    }
    case v1::ImportModelRequest::SOURCE_NOT_SET:
      return FieldError("MISSING_FIELD", "source",
                        "is missing: a directory, a hub or a version", "", "");
  }
  if (request.has_quantization()) {
    POT_ASSIGN_OR_RETURN(
        parsed.options,
        ParseQuantization(request.quantization(), "quantization"));
  }
  parsed.load = request.load();
  return parsed;
}

// What the import's thread and the client's going both end: nothing is written
// after that. Thread-safe.
class ImportStream {
 public:
  explicit ImportStream(grpc::ServerWriteReactor<grpc::ByteBuffer>* reactor)
      : writer_(reactor, 1, [] {}) {}

  void WriteProgress(v1::ImportStage stage, int64_t done, int64_t total) {
    v1::ImportModelResponse message;
    message.mutable_progress()->set_stage(stage);
    message.mutable_progress()->set_done_bytes(done);
    message.mutable_progress()->set_total_bytes(total);
    MutexLock lock(&mutex_);
    grpc::ByteBuffer bytes;
    if (over_ || !writer_.ReadyForMore() ||
        !SerializeMessage(message, &bytes).ok()) {
      return;
    }
    writer_.Write(std::move(bytes));
  }

  // Once.
  void Finish(const grpc::Status& status, grpc::ByteBuffer answer) {
    {
      MutexLock lock(&mutex_);
      over_ = true;
    }
    if (status.ok()) writer_.Write(std::move(answer));
    writer_.Finish([status](const absl::Status&) { return status; });
  }

  void OnWriteDone(bool ok) { writer_.OnWriteDone(ok); }

 private:
  Mutex mutex_;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  MessageWriter writer_;
};

class ImportReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  ImportReactor() : stream_(std::make_shared<ImportStream>(this)) {}

  const std::shared_ptr<ImportStream>& stream() const { return stream_; }
  void set_call(std::shared_ptr<LongCall> call) { call_ = std::move(call); }

  void OnWriteDone(bool ok) override {
    // Finishing may delete this, and the stream must outlast its own method.
    const std::shared_ptr<ImportStream> stream = stream_;
    stream->OnWriteDone(ok);
  }
  void OnCancel() override { call_->OnCancel(); }
  void OnDone() override { delete this; }

 private:
  const std::shared_ptr<ImportStream> stream_;
  std::shared_ptr<LongCall> call_;
};

absl::Status Import(const ParsedImport& parsed, const LongCall& call,
                    ModelRepository* repository, const HubImporter* hub,
                    ImportStream* stream, grpc::ByteBuffer* answer) {
  v1::ImportStage stage = v1::IMPORT_STAGE_DOWNLOADING;
  const auto progress = [&](int64_t done, int64_t total) {
    if (call.finished()) return false;
    stream->WriteProgress(stage, done, total);
    return true;
  };
  std::string downloaded;
  if (parsed.hub.has_value()) {
    POT_ASSIGN_OR_RETURN(downloaded, hub->Download(*parsed.hub, progress));
  }
  stage = parsed.options.has_value() ? v1::IMPORT_STAGE_QUANTIZING
                                     : v1::IMPORT_STAGE_WRITING;
  if (!progress(0, 0)) return absl::CancelledError("the client is gone");
  absl::StatusOr<ModelVersionInfo> imported;
  if (parsed.hub.has_value()) {
    imported = repository->ImportOwn(parsed.name, downloaded, parsed.options,
                                     progress);
  } else if (parsed.version.has_value()) {
    imported = repository->ImportVersion(parsed.name, *parsed.version,
                                         parsed.options, progress);
  } else {
    imported = repository->Import(parsed.name, parsed.directory, parsed.options,
                                  progress);
  }
  POT_ASSIGN_OR_RETURN(ModelVersionInfo info, std::move(imported));
  if (parsed.load) {
    stream->WriteProgress(v1::IMPORT_STAGE_LOADING, 0, info.file_bytes);
    POT_ASSIGN_OR_RETURN(
        info, repository->Load({.name = info.name, .version = info.version},
                               absl::InfiniteFuture()));
  }
  v1::ImportModelResponse message;
  FillModelVersion(info, message.mutable_version());
  return SerializeMessage(message, answer);
}

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* StartImportModel(
    grpc::CallbackServerContext* rpc, std::unique_ptr<Call> call,
    const absl::Status& begun, v1::ImportModelRequest request,
    ModelRepository* repository, WorkerPool* pool, const HubImporter* hub,
    WorkerPool* hub_pool) {
  auto* const reactor = new ImportReactor();
  const std::shared_ptr<ImportStream> stream = reactor->stream();
  const auto shared = std::make_shared<LongCall>(
      std::move(call), *rpc,
      [stream](const grpc::Status& status, grpc::ByteBuffer answer) {
        stream->Finish(status, std::move(answer));
      });
  reactor->set_call(shared);
  absl::Status status = begun;
  absl::StatusOr<ParsedImport> parsed;
  if (status.ok()) {
    parsed = ParseImport(request, hub);
    status = parsed.status();
  }
  if (status.ok()) {
    WorkerPool* const workers = parsed->hub.has_value() ? hub_pool : pool;
    status = workers->Submit([=, parsed = *std::move(parsed)] {
      grpc::ByteBuffer answer;
      const absl::Status result =
          Import(parsed, *shared, repository, hub, stream.get(), &answer);
      shared->Finish(result, std::move(answer));
    });
  }
  if (!status.ok()) shared->Finish(status);
  return reactor;
}

}  // namespace pot
