#include "server/rpc/model_service.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "server/rpc/answer_later.h"
#include "server/rpc/import_model.h"
#include "server/rpc/long_call.h"
#include "server/rpc/model_proto_conversion.h"
#include "server/rpc/register_checkpoint.h"
#include "server/rpc/request_parser.h"
#include "server/rpc/watch_models.h"
#include "server/rpc/wire.h"
#include "server/serving/field_errors.h"

namespace pot {
namespace {

constexpr int kMaxHistory = 1000;
constexpr int kDefaultHistory = 100;

// A call that is answered at once: `answer` of a parsed request.
template <typename Request, typename Answer>
grpc::ServerUnaryReactor* AnswerNow(CallTracker* calls,
                                    absl::string_view method,
                                    grpc::CallbackServerContext* rpc,
                                    const grpc::ByteBuffer& bytes,
                                    grpc::ByteBuffer* response, Answer answer) {
  Call call(calls, method, *rpc);
  Request request;
  absl::Status status = BeginCall(bytes, &request, &call);
  if (status.ok()) status = answer(request, response);
  grpc::ServerUnaryReactor* const reactor = rpc->DefaultReactor();
  reactor->Finish(call.End(status));
  return reactor;
}

template <typename Response>
absl::Status VersionAnswer(const absl::StatusOr<ModelVersionInfo>& info,
                           grpc::ByteBuffer* answer) {
  POT_RETURN_IF_ERROR(info.status());
  Response response;
  FillModelVersion(*info, response.mutable_version());
  return SerializeMessage(response, answer);
}

template <typename Response>
absl::Status ChangeAnswer(const absl::StatusOr<AliasChange>& change,
                          grpc::ByteBuffer* answer) {
  POT_RETURN_IF_ERROR(change.status());
  Response response;
  FillAliasChange(*change, response.mutable_change());
  return SerializeMessage(response, answer);
}

template <typename Request>
std::optional<int64_t> Expected(const Request& request) {
  if (!request.has_expected_version()) return std::nullopt;
  return request.expected_version();
}

absl::Status CheckOptionalName(absl::string_view name) {
  return name.empty() ? absl::OkStatus() : CheckModelName(name, "name");
}

}  // namespace

ModelService::ModelService(ModelRepository* repository, CallTracker* calls,
                           ModelServiceOptions options)
    : repository_(repository),
      calls_(calls),
      options_(std::move(options)),
      pool_(options_.worker_threads, options_.max_queued),
      hub_pool_(options_.hub_threads, options_.max_queued_hub) {}

std::string ModelService::Actor(const Rpc& rpc) const {
  return options_.actor == nullptr ? std::string() : options_.actor(rpc);
}

ModelService::Unary* ModelService::ListModels(Rpc* rpc, const Bytes* request,
                                              Bytes* response) {
  return AnswerNow<v1::ListModelsRequest>(
      calls_, "ListModels", rpc, *request, response,
      [this](const v1::ListModelsRequest& parsed,
             Bytes* answer) -> absl::Status {
        POT_RETURN_IF_ERROR(CheckOptionalName(parsed.name()));
        POT_ASSIGN_OR_RETURN(const std::vector<ModelVersionInfo> infos,
                             repository_->List(parsed.name()));
        v1::ListModelsResponse message;
        for (const ModelVersionInfo& info : infos) {
          FillModelVersion(info, message.add_versions());
        }
        return SerializeMessage(message, answer);
      });
}

ModelService::Unary* ModelService::GetModel(Rpc* rpc, const Bytes* request,
                                            Bytes* response) {
  return AnswerNow<v1::GetModelRequest>(
      calls_, "GetModel", rpc, *request, response,
      [this](const v1::GetModelRequest& parsed, Bytes* answer) -> absl::Status {
        POT_ASSIGN_OR_RETURN(const ModelSelector selector,
                             ParseModelRef(parsed.model(), "model"));
        return VersionAnswer<v1::GetModelResponse>(repository_->Get(selector),
                                                   answer);
      });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* ModelService::WatchModels(
    Rpc* rpc, const Bytes* request) {
  auto call = std::make_unique<Call>(calls_, "WatchModels", *rpc);
  absl::Status status = call->EnterWatch();
  v1::WatchModelsRequest parsed;
  if (status.ok()) status = ParseMessage(*request, &parsed);
  if (status.ok()) status = CheckOptionalName(parsed.name());
  return StartWatchModels(std::move(call), status, repository_, parsed.name());
}

ModelService::Unary* ModelService::LoadModel(Rpc* rpc, const Bytes* request,
                                             Bytes* response) {
  return AnswerLater<v1::LoadModelRequest>(
      calls_, &pool_, "LoadModel", rpc, *request, response,
      [this](const v1::LoadModelRequest& parsed) -> absl::StatusOr<LongWork> {
        POT_ASSIGN_OR_RETURN(const ModelSelector selector,
                             ParseModelRef(parsed.model(), "model"));
        return LongWork([repository = repository_, selector](
                            const LongCall& call, Bytes* answer) {
          return VersionAnswer<v1::LoadModelResponse>(
              WaitInSlices(call,
                           [&](absl::Time until) {
                             return repository->Load(selector, until);
                           }),
              answer);
        });
      });
}

ModelService::Unary* ModelService::UnloadModel(Rpc* rpc, const Bytes* request,
                                               Bytes* response) {
  return AnswerLater<v1::UnloadModelRequest>(
      calls_, &pool_, "UnloadModel", rpc, *request, response,
      [this](const v1::UnloadModelRequest& parsed) -> absl::StatusOr<LongWork> {
        POT_ASSIGN_OR_RETURN(const ModelSelector selector,
                             ParseModelRef(parsed.model(), "model"));
        if (parsed.model().selector_case() == v1::ModelRef::SELECTOR_NOT_SET) {
          return FieldError("MISSING_FIELD", "model.selector",
                            "is missing: a version, alias or digest", "", "");
        }
        return LongWork([repository = repository_, selector](
                            const LongCall& call,
                            Bytes* answer) -> absl::Status {
          // What an alias names may change while this waits.
          POT_ASSIGN_OR_RETURN(const ModelVersionInfo info,
                               repository->Get(selector));
          return VersionAnswer<v1::UnloadModelResponse>(
              WaitInSlices(call,
                           [&](absl::Time until) {
                             return repository->Unload(
                                 {.name = info.name, .version = info.version},
                                 until);
                           }),
              answer);
        });
      });
}

grpc::ServerReadReactor<grpc::ByteBuffer>* ModelService::RegisterCheckpoint(
    Rpc* rpc, Bytes* response) {
  auto call = std::make_unique<Call>(calls_, "RegisterCheckpoint", *rpc);
  const absl::Status status = call->Enter();
  return StartRegisterCheckpoint(rpc, std::move(call), status, repository_,
                                 &pool_, options_.max_upload_bytes,
                                 calls_->read_timeout(), response);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* ModelService::ImportModel(
    Rpc* rpc, const Bytes* request) {
  auto call = std::make_unique<Call>(calls_, "ImportModel", *rpc);
  v1::ImportModelRequest parsed;
  const absl::Status status = BeginCall(*request, &parsed, call.get());
  return StartImportModel(rpc, std::move(call), status, std::move(parsed),
                          repository_, &pool_, options_.hub, &hub_pool_);
}

ModelService::Unary* ModelService::SetAlias(Rpc* rpc, const Bytes* request,
                                            Bytes* response) {
  return AnswerLater<v1::SetAliasRequest>(
      calls_, &pool_, "SetAlias", rpc, *request, response,
      [this,
       rpc](const v1::SetAliasRequest& parsed) -> absl::StatusOr<LongWork> {
        POT_ASSIGN_OR_RETURN(AliasChange change, ParseChangeRequest(parsed));
        change.actor = Actor(*rpc);
        return LongWork(
            [repository = repository_, change, expected = Expected(parsed)](
                const LongCall&, Bytes* answer) {
              return ChangeAnswer<v1::SetAliasResponse>(
                  repository->SetAlias(change, expected), answer);
            });
      });
}

ModelService::Unary* ModelService::RollbackAlias(Rpc* rpc, const Bytes* request,
                                                 Bytes* response) {
  return AnswerLater<v1::RollbackAliasRequest>(
      calls_, &pool_, "RollbackAlias", rpc, *request, response,
      [this, rpc](
          const v1::RollbackAliasRequest& parsed) -> absl::StatusOr<LongWork> {
        POT_ASSIGN_OR_RETURN(AliasChange change, ParseChangeRequest(parsed));
        change.actor = Actor(*rpc);
        return LongWork(
            [repository = repository_, change, expected = Expected(parsed)](
                const LongCall& call, Bytes* answer) {
              return ChangeAnswer<v1::RollbackAliasResponse>(
                  WaitInSlices(call,
                               [&](absl::Time until) {
                                 return repository->RollbackAlias(
                                     change, expected, until);
                               }),
                  answer);
            });
      });
}

ModelService::Unary* ModelService::ListAliasHistory(Rpc* rpc,
                                                    const Bytes* request,
                                                    Bytes* response) {
  return AnswerNow<v1::ListAliasHistoryRequest>(
      calls_, "ListAliasHistory", rpc, *request, response,
      [this](const v1::ListAliasHistoryRequest& parsed,
             Bytes* answer) -> absl::Status {
        POT_RETURN_IF_ERROR(CheckModelName(parsed.name(), "name"));
        if (!parsed.alias().empty()) {
          POT_RETURN_IF_ERROR(CheckAlias(parsed.alias(), "alias"));
        }
        POT_RETURN_IF_ERROR(
            CheckRange("limit", parsed.limit(), 0, kMaxHistory));
        POT_ASSIGN_OR_RETURN(
            const std::vector<AliasChange> changes,
            repository_->AliasHistory(
                parsed.name(), parsed.alias(),
                parsed.limit() == 0 ? kDefaultHistory : parsed.limit()));
        v1::ListAliasHistoryResponse message;
        for (const AliasChange& change : changes) {
          FillAliasChange(change, message.add_changes());
        }
        return SerializeMessage(message, answer);
      });
}

ModelService::Unary* ModelService::DeleteVersion(Rpc* rpc, const Bytes* request,
                                                 Bytes* response) {
  return AnswerLater<v1::DeleteVersionRequest>(
      calls_, &pool_, "DeleteVersion", rpc, *request, response,
      [this](
          const v1::DeleteVersionRequest& parsed) -> absl::StatusOr<LongWork> {
        POT_RETURN_IF_ERROR(CheckModelName(parsed.name(), "name"));
        if (parsed.version() < 1) {
          return RangeError("version", "[1, 9223372036854775807]",
                            absl::StrCat(parsed.version()));
        }
        return LongWork([repository = repository_, parsed](
                            const LongCall&, Bytes* answer) -> absl::Status {
          POT_RETURN_IF_ERROR(
              repository->Delete(parsed.name(), parsed.version()));
          return SerializeMessage(v1::DeleteVersionResponse(), answer);
        });
      });
}

ModelService::Unary* ModelService::DiffVersions(Rpc* rpc, const Bytes* request,
                                                Bytes* response) {
  return AnswerLater<v1::DiffVersionsRequest>(
      calls_, &pool_, "DiffVersions", rpc, *request, response,
      [this](
          const v1::DiffVersionsRequest& parsed) -> absl::StatusOr<LongWork> {
        POT_ASSIGN_OR_RETURN(const ModelSelector left,
                             ParseModelRef(parsed.left(), "left"));
        POT_ASSIGN_OR_RETURN(const ModelSelector right,
                             ParseModelRef(parsed.right(), "right"));
        return LongWork([repository = repository_, left, right](
                            const LongCall&, Bytes* answer) -> absl::Status {
          POT_ASSIGN_OR_RETURN(const VersionDiff diff,
                               repository->Diff(left, right));
          v1::DiffVersionsResponse message;
          FillVersionDiff(diff, &message);
          return SerializeMessage(message, answer);
        });
      });
}

}  // namespace pot
