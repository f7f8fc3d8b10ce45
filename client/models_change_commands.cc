#include <memory>
#include <optional>
#include <string>
#include <vector>

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

absl::Status WriteVersion(Session* session, const v1::ModelVersion& version) {
  if (!session->text_output()) return WriteJson(session, version);
  return session->console().Write(FormatModel(version));
}

absl::Status WriteChange(Session* session, const v1::AliasChange& change) {
  if (!session->text_output()) return WriteJson(session, change);
  return session->console().Write(
      absl::StrCat(FormatAliasChange(change), "\n"));
}

absl::Status Load(Session* session, const std::string& model) {
  v1::LoadModelRequest request;
  POT_ASSIGN_OR_RETURN(*request.mutable_model(), ParseModelRef(model));
  v1::LoadModelResponse response;
  Call call(session->connection());
  POT_RETURN_IF_ERROR(call.ToStatus(
      Stub(session)->LoadModel(call.context(), request, &response)));
  return WriteVersion(session, response.version());
}

absl::Status Unload(Session* session, const std::string& model) {
  v1::UnloadModelRequest request;
  POT_ASSIGN_OR_RETURN(*request.mutable_model(), ParseModelRef(model));
  if (request.model().selector_case() == v1::ModelRef::SELECTOR_NOT_SET) {
    return absl::InvalidArgumentError(
        absl::StrCat("say which version goes: ", model, "@VERSION"));
  }
  v1::UnloadModelResponse response;
  Call call(session->connection());
  POT_RETURN_IF_ERROR(call.ToStatus(
      Stub(session)->UnloadModel(call.context(), request, &response)));
  return WriteVersion(session, response.version());
}

absl::Status SetAlias(Session* session, const v1::SetAliasRequest& request) {
  if (request.target_case() == v1::SetAliasRequest::TARGET_NOT_SET) {
    return absl::InvalidArgumentError("give a VERSION or --remove");
  }
  v1::SetAliasResponse response;
  Call call(session->connection());
  POT_RETURN_IF_ERROR(call.ToStatus(
      Stub(session)->SetAlias(call.context(), request, &response)));
  return WriteChange(session, response.change());
}

absl::Status Rollback(Session* session,
                      const v1::RollbackAliasRequest& request) {
  v1::RollbackAliasResponse response;
  Call call(session->connection());
  POT_RETURN_IF_ERROR(call.ToStatus(
      Stub(session)->RollbackAlias(call.context(), request, &response)));
  return WriteChange(session, response.change());
}

absl::Status Remove(Session* session, const std::vector<std::string>& models) {
  std::vector<v1::DeleteVersionRequest> requests;
  for (const std::string& text : models) {
    POT_ASSIGN_OR_RETURN(const v1::ModelRef model, ParseModelRef(text));
    if (!model.has_version()) {
      return absl::InvalidArgumentError(
          absl::StrCat("deletes only versions named by number, such as ",
                       model.name(), "@1, not ", text));
    }
    v1::DeleteVersionRequest& request = requests.emplace_back();
    request.set_name(model.name());
    request.set_version(model.version());
  }
  for (const v1::DeleteVersionRequest& request : requests) {
    v1::DeleteVersionResponse response;
    Call call(session->connection());
    POT_RETURN_IF_ERROR(call.ToStatus(
        Stub(session)->DeleteVersion(call.context(), request, &response)));
    if (session->text_output()) {
      POT_RETURN_IF_ERROR(session->console().Write(absl::StrCat(
          "deleted ", request.name(), "@", request.version(), "\n")));
    } else {
      POT_RETURN_IF_ERROR(WriteJson(session, request));
    }
  }
  return absl::OkStatus();
}

void AddAliasCommand(const Command& models, CommandFunction* selected) {
  auto request = std::make_shared<v1::SetAliasRequest>();
  // Both targets given is an error that the oneof would swallow.
  const Command alias =
      models.AddCommand("alias", "Point an alias at a version, or remove it");
  AddValueFlag<std::string>(
      alias, "name", [=](const std::string& v) { request->set_name(v); },
      "The model")
      .Required();
  AddValueFlag<std::string>(
      alias, "alias", [=](const std::string& v) { request->set_alias(v); },
      "The alias, e.g. default")
      .Required();
  const Flag version = AddValueFlag<int64_t>(
      alias, "version", [=](int64_t v) { request->set_version(v); },
      "Number of an AVAILABLE version");
  alias
      .AddSwitch(
          "--remove",
          [=](int64_t v) {
            if (v > 0) request->set_remove(true);
          },
          "Remove the alias")
      .Excludes(version);
  AddValueFlag<int64_t>(
      alias, "--expect", [=](int64_t v) { request->set_expected_version(v); },
      "Only if the alias names this version now; 0: only if it is new");
  AddValueFlag<std::string>(
      alias, "--comment",
      [=](const std::string& v) { request->set_comment(v); },
      "Why, for the history");
  alias.OnSelected([=] {
    *selected = [=](Session* session) { return SetAlias(session, *request); };
  });
}

void AddRollbackCommand(const Command& models, CommandFunction* selected) {
  auto request = std::make_shared<v1::RollbackAliasRequest>();
  const Command rollback = models.AddCommand(
      "rollback", "Point an alias back at the version before its last change");
  AddValueFlag<std::string>(
      rollback, "name", [=](const std::string& v) { request->set_name(v); },
      "The model")
      .Required();
  AddValueFlag<std::string>(
      rollback, "alias", [=](const std::string& v) { request->set_alias(v); },
      "The alias [default]");
  AddValueFlag<int64_t>(
      rollback, "--expect",
      [=](int64_t v) { request->set_expected_version(v); },
      "Only if the alias names this version now");
  AddValueFlag<std::string>(
      rollback, "--comment",
      [=](const std::string& v) { request->set_comment(v); },
      "Why, for the history");
  rollback.OnSelected([=] {
    *selected = [=](Session* session) { return Rollback(session, *request); };
  });
}

}  // namespace

void AddModelChangeCommands(const Command& models, CommandFunction* selected) {
  auto names = std::make_shared<std::vector<std::string>>(1);
  const Command load = models.AddCommand(
      "load", "Load a version beside what is serving, and wait for it");
  load.AddFlag("model", &(*names)[0], "MODEL or MODEL@VERSION").Required();
  load.OnSelected([=] {
    *selected = [=](Session* session) { return Load(session, (*names)[0]); };
  });

  const Command unload = models.AddCommand(
      "unload", "Let running calls finish and free a version's memory");
  unload.AddFlag("model", &(*names)[0], "MODEL@VERSION").Required();
  unload.OnSelected([=] {
    *selected = [=](Session* session) { return Unload(session, (*names)[0]); };
  });

  AddAliasCommand(models, selected);
  AddRollbackCommand(models, selected);

  const Command remove =
      models.AddCommand("rm", "Delete unloaded versions from disk");
  auto removed = std::make_shared<std::vector<std::string>>();
  remove.AddFlag("model", removed.get(), "MODEL@VERSION").Required();
  remove.OnSelected([=] {
    *selected = [=](Session* session) { return Remove(session, *removed); };
  });
}

}  // namespace pot
