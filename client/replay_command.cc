#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/receipt.h"
#include "client/text_format.h"
#include "engine/base/status_macros.h"
#include "grpcpp/grpcpp.h"
#include "nlohmann/json.hpp"
#include "pot/v1/inference.grpc.pb.h"
#include "pot/v1/model.grpc.pb.h"

namespace pot {
namespace {

std::string Describe(const v1::ModelIdentity& model) {
  return absl::StrCat(model.name(), "@", model.version(),
                      " sha256:", model.sha256());
}

std::string SoftwareOf(const v1::ModelIdentity& model) {
  return model.engine().substr(0, model.engine().find(' '));
}

// `status` is that of the replay's call: says, besides, what the server has in
// place of the receipt's model.
absl::Status ExplainMissingModel(Session* session, const absl::Status& status,
                                 const v1::ModelIdentity& wanted) {
  v1::GetModelRequest request;
  request.mutable_model()->set_name(wanted.name());
  request.mutable_model()->set_version(wanted.version());
  v1::GetModelResponse response;
  Call call(session->connection());
  const absl::Status found =
      call.ToStatus(v1::ModelService::NewStub(session->connection().channel())
                        ->GetModel(call.context(), request, &response));
  const v1::ModelVersion& there = response.version();
  std::string instead;
  if (found.ok() && there.digest() != wanted.sha256()) {
    instead = absl::StrCat("; the server's ", there.name(), "@",
                           there.version(), " is sha256:", there.digest());
  } else if (found.ok() && there.state() != v1::MODEL_VERSION_STATE_AVAILABLE) {
    instead = absl::StrCat("; pot-client models load ", there.name(), "@",
                           there.version());
  }
  return absl::Status(status.code(),
                      absl::StrCat("the receipt is of ", Describe(wanted), ": ",
                                   std::string(status.message()), instead));
}

absl::StatusOr<v1::ReplayReceipt> RunAgain(Session* session,
                                           const v1::ReplayReceipt& receipt) {
  v1::GenerateRequest request = receipt.request();
  request.clear_request_id();
  request.clear_output();
  request.mutable_output()->set_receipt(true);
  request.mutable_model()->set_name(receipt.model().name());
  request.mutable_model()->set_digest(receipt.model().sha256());
  Call call(session->connection());
  v1::GenerateResponse response;
  const absl::Status status = call.ToStatus(
      v1::InferenceService::NewStub(session->connection().channel())
          ->Generate(call.context(), request, &response));
  if (absl::IsNotFound(status) || absl::IsFailedPrecondition(status)) {
    return ExplainMissingModel(session, status, receipt.model());
  }
  POT_RETURN_IF_ERROR(status);
  const v1::GenerateSummary& summary = response.summary();
  if (!summary.has_receipt()) {
    return absl::UnimplementedError(
        absl::StrCat("the server ", session->connection().server(), ", ",
                     Quoted(summary.model().engine()), ", gives no receipts"));
  }
  return summary.receipt();
}

nlohmann::ordered_json ToJson(const v1::ModelIdentity& model) {
  return {{"name", model.name()},
          {"version", model.version()},
          {"sha256", model.sha256()},
          {"engine", model.engine()}};
}

nlohmann::ordered_json ToJson(const ReplayDifference& at) {
  nlohmann::ordered_json json = {{"sequence", at.sequence},
                                 {"position", at.position},
                                 {"expected_token_id", nullptr},
                                 {"actual_token_id", nullptr}};
  if (at.expected_id.has_value()) json["expected_token_id"] = *at.expected_id;
  if (at.actual_id.has_value()) json["actual_token_id"] = *at.actual_id;
  json["same_logits"] = at.expected_xxh64 == at.actual_xxh64;
  return json;
}

absl::Status Report(Session* session, const v1::ReplayReceipt& receipt,
                    const v1::ReplayReceipt& again,
                    const std::optional<ReplayDifference>& difference) {
  const int64_t tokens = CountTokens(receipt);
  if (!session->text_output()) {
    nlohmann::ordered_json json = {{"identical", !difference.has_value()},
                                   {"sequences", receipt.sequences_size()},
                                   {"tokens", tokens},
                                   {"output_sha256", receipt.output_sha256()},
                                   {"then", ToJson(receipt.model())},
                                   {"now", ToJson(again.model())}};
    if (difference.has_value()) {
      json["first_difference"] = ToJson(*difference);
    }
    const bool indented = session->flags().output == OutputFormat::kJson;
    return session->console().Write(
        absl::StrCat(json.dump(indented ? 1 : -1), "\n"));
  }
  if (difference.has_value()) return absl::OkStatus();
  return session->console().Write(absl::StrCat(
      "identical: ", FormatCount(tokens), tokens == 1 ? " token" : " tokens",
      " in ", receipt.sequences_size(),
      receipt.sequences_size() == 1 ? " sequence" : " sequences",
      ", from bitwise the same logits\n", "model   ", Describe(receipt.model()),
      "\noutput  sha256:", receipt.output_sha256(), "\nthen    ",
      Printable(receipt.model().engine()), "\nnow     ",
      Printable(again.model().engine()), "\n"));
}

absl::Status Replay(Session* session, const std::string& path) {
  POT_ASSIGN_OR_RETURN(const v1::ReplayReceipt receipt,
                       ReadReceipt(session, path));
  POT_ASSIGN_OR_RETURN(const v1::ReplayReceipt again,
                       RunAgain(session, receipt));
  if (again.arithmetic() != receipt.arithmetic()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the receipt's arithmetic is ", Quoted(receipt.arithmetic()),
        ", the server's ", Quoted(again.arithmetic()),
        ": see pot-server --activations"));
  }
  if (SoftwareOf(again.model()) != SoftwareOf(receipt.model())) {
    session->console().WriteError(absl::StrCat(
        "pot-client: warning: the receipt is by ",
        Printable(SoftwareOf(receipt.model())), ", the server runs ",
        Printable(SoftwareOf(again.model())), "\n"));
  }
  const auto difference = FindDifference(receipt, again);
  POT_RETURN_IF_ERROR(Report(session, receipt, again, difference));
  if (!difference.has_value()) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("not identical: ", FormatDifference(*difference)));
}

}  // namespace

void AddReplayCommand(const Command& app, CommandFunction* selected) {
  auto path = std::make_shared<std::string>();
  const Command command = app.AddCommand(
      "replay",
      "Prove a receipt of 'generate --receipt': run its request again and "
      "compare tokens and logits bit by bit");
  command.AddFlag("file", path.get(), "The receipt; '-' reads standard input")
      .Required();
  command.OnSelected([path, selected] {
    *selected = [path](Session* session) { return Replay(session, *path); };
  });
}

}  // namespace pot
