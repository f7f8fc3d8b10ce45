#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/model_ref.h"
#include "client/model_report.h"
#include "client/models_commands.h"
#include "engine/base/status_macros.h"
#include "grpcpp/grpcpp.h"
#include "pot/v1/model.grpc.pb.h"

namespace pot {
namespace {

std::unique_ptr<v1::ModelService::Stub> Stub(Session* session) {
  return v1::ModelService::NewStub(session->connection().channel());
}

absl::Status List(Session* session, const std::string& name) {
  v1::ListModelsRequest request;
  request.set_name(name);
  v1::ListModelsResponse response;
  Call call(session->connection());
  POT_RETURN_IF_ERROR(call.ToStatus(
      Stub(session)->ListModels(call.context(), request, &response)));
  switch (session->flags().output) {
    case OutputFormat::kJson:
      return WriteJson(session, response);
    case OutputFormat::kJsonLines:
      for (const v1::ModelVersion& version : response.versions()) {
        POT_RETURN_IF_ERROR(WriteJson(session, version));
      }
      return absl::OkStatus();
    case OutputFormat::kText:
      break;
  }
  return session->console().Write(
      FormatModelTable(response.versions(), session->Now()));
}

absl::Status Show(Session* session, const std::string& model) {
  v1::GetModelRequest request;
  POT_ASSIGN_OR_RETURN(*request.mutable_model(), ResolveModel(session, model));
  v1::GetModelResponse response;
  Call call(session->connection());
  POT_RETURN_IF_ERROR(call.ToStatus(
      Stub(session)->GetModel(call.context(), request, &response)));
  if (!session->text_output()) return WriteJson(session, response.version());
  return session->console().Write(FormatModel(response.version()));
}

absl::Status History(Session* session,
                     const v1::ListAliasHistoryRequest& request) {
  v1::ListAliasHistoryResponse response;
  Call call(session->connection());
  POT_RETURN_IF_ERROR(call.ToStatus(
      Stub(session)->ListAliasHistory(call.context(), request, &response)));
  if (!session->text_output()) return WriteJson(session, response);
  return session->console().Write(FormatAliasHistory(response.changes()));
}

absl::Status Diff(Session* session, const std::string& left,
                  const std::string& right) {
  v1::DiffVersionsRequest request;
  POT_ASSIGN_OR_RETURN(*request.mutable_left(), ParseModelRef(left));
  POT_ASSIGN_OR_RETURN(*request.mutable_right(), ParseModelRef(right));
  v1::DiffVersionsResponse response;
  Call call(session->connection());
  POT_RETURN_IF_ERROR(call.ToStatus(
      Stub(session)->DiffVersions(call.context(), request, &response)));
  if (!session->text_output()) return WriteJson(session, response);
  return session->console().Write(FormatDiff(response));
}

absl::Status Watch(Session* session, const std::string& name) {
  v1::WatchModelsRequest request;
  request.set_name(name);
  Call call(session->connection());
  const auto stub = Stub(session);
  const auto reader = stub->WatchModels(call.context(), request);
  v1::WatchModelsResponse event;
  absl::Status written;
  while (written.ok() && reader->Read(&event)) {
    if (!session->text_output()) {
      written = session->console().Write(ToJson(event, /*indented=*/false));
    } else if (event.kind() != v1::MODEL_EVENT_KIND_SNAPSHOT_DONE) {
      written =
          session->console().Write(absl::StrCat(FormatModelEvent(event), "\n"));
    }
  }
  if (!written.ok()) call.context()->TryCancel();
  const absl::Status status = call.ToStatus(reader->Finish());
  return written.ok() ? status : written;
}

}  // namespace

void AddModelQueryCommands(const Command& models, CommandFunction* selected) {
  struct Flags {
    std::string name, other;
    v1::ListAliasHistoryRequest history;
  };
  auto flags = std::make_shared<Flags>();

  const Command list =
      models.AddCommand("list", "Every version, loaded or not");
  list.AddFlag("name", &flags->name, "Only this model");
  list.OnSelected([=] {
    *selected = [=](Session* session) { return List(session, flags->name); };
  });

  const Command show =
      models.AddCommand("show", "All that is known about one version");
  show.AddFlag("model", &flags->name,
               "NAME, NAME@VERSION, NAME@ALIAS or NAME@sha256:DIGEST "
               "[the server's only model]");
  show.OnSelected([=] {
    *selected = [=](Session* session) { return Show(session, flags->name); };
  });

  const Command history =
      models.AddCommand("history", "Who moved which alias when and why");
  AddValueFlag<std::string>(
      history, "name",
      [=](const std::string& v) { flags->history.set_name(v); }, "The model")
      .Required();
  AddValueFlag<std::string>(
      history, "alias",
      [=](const std::string& v) { flags->history.set_alias(v); },
      "Only this alias");
  AddValueFlag<int32_t>(
      history, "--limit", [=](int32_t v) { flags->history.set_limit(v); },
      "At most this many changes, newest first [100]");
  history.OnSelected([=] {
    *selected = [=](Session* session) {
      return History(session, flags->history);
    };
  });

  const Command diff = models.AddCommand(
      "diff", "What differs between the weights of two versions");
  diff.AddFlag("left", &flags->name, "MODEL@VERSION").Required();
  diff.AddFlag("right", &flags->other, "MODEL@VERSION").Required();
  diff.OnSelected([=] {
    *selected = [=](Session* session) {
      return Diff(session, flags->name, flags->other);
    };
  });

  const Command watch = models.AddCommand(
      "watch", "The present state and every change, until Ctrl-C");
  watch.AddFlag("name", &flags->name, "Only this model");
  watch.OnSelected([=] {
    *selected = [=](Session* session) { return Watch(session, flags->name); };
  });
}

}  // namespace pot
