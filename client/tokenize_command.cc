#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/commands.h"
#include "client/generation_flags.h"
#include "client/table.h"
#include "client/text_format.h"
#include "engine/base/status_macros.h"
#include "grpcpp/grpcpp.h"
#include "pot/v1/inference.grpc.pb.h"

namespace pot {
namespace {

struct TokenizeFlags {
  std::optional<std::string> text;
  std::string model;
  bool pieces = false;
};

struct DetokenizeFlags {
  std::vector<std::string> ids;
  std::string model;
};

std::string FormatPieces(const v1::TokenizeResponse& response) {
  Table table({{"token", Table::Align::kRight}, {"piece"}});
  for (int i = 0; i < response.token_ids_size(); ++i) {
    table.AddRow(
        {absl::StrCat(response.token_ids(i)),
         i < response.pieces_size() ? Quoted(response.pieces(i)) : ""});
  }
  return table.ToString();
}

absl::Status Tokenize(Session* session, const TokenizeFlags& flags) {
  v1::TokenizeRequest request;
  POT_ASSIGN_OR_RETURN(
      *request.mutable_text(),
      TextArgument(session, flags.text.has_value() ? &*flags.text : nullptr,
                   "text"));
  POT_ASSIGN_OR_RETURN(*request.mutable_model(),
                       ResolveModel(session, flags.model));
  request.set_return_pieces(flags.pieces);
  Call call(session->connection());
  v1::TokenizeResponse response;
  POT_RETURN_IF_ERROR(call.ToStatus(
      v1::InferenceService::NewStub(session->connection().channel())
          ->Tokenize(call.context(), request, &response)));
  if (!session->text_output()) return WriteJson(session, response);
  return session->console().Write(
      flags.pieces
          ? FormatPieces(response)
          : absl::StrCat(absl::StrJoin(response.token_ids(), " "), "\n"));
}

absl::Status Detokenize(Session* session, const DetokenizeFlags& flags) {
  std::vector<std::string> texts = flags.ids;
  if (texts.empty() || texts == std::vector<std::string>{"-"}) {
    POT_ASSIGN_OR_RETURN(
        const std::string read,
        TextArgument(session, texts.empty() ? nullptr : &texts[0],
                     "token ids"));
    texts =
        absl::StrSplit(read, absl::ByAnyChar(", \t\r\n"), absl::SkipEmpty());
  }
  v1::DetokenizeRequest request;
  POT_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, ParseTokenIds(texts));
  *request.mutable_token_ids() = {ids.begin(), ids.end()};
  POT_ASSIGN_OR_RETURN(*request.mutable_model(),
                       ResolveModel(session, flags.model));
  Call call(session->connection());
  v1::DetokenizeResponse response;
  POT_RETURN_IF_ERROR(call.ToStatus(
      v1::InferenceService::NewStub(session->connection().channel())
          ->Detokenize(call.context(), request, &response)));
  if (!session->text_output()) return WriteJson(session, response);
  Console& console = session->console();
  POT_RETURN_IF_ERROR(console.Write(response.data()));
  const bool open_line =
      !response.data().empty() && response.data().back() != '\n';
  return open_line && console.out_is_terminal() ? console.Write("\n")
                                                : absl::OkStatus();
}

}  // namespace

void AddTokenizeCommand(const Command& app, CommandFunction* selected) {
  auto flags = std::make_shared<TokenizeFlags>();
  const Command command = app.AddCommand("tokenize", "Text to token ids");
  command.AddFlag("text", &flags->text,
                  "Text; '-' or nothing reads standard input");
  AddModelFlag(command, &flags->model);
  command.AddSwitch("--pieces", &flags->pieces, "Show each token's bytes");
  command.OnSelected([flags, selected] {
    *selected = [flags](Session* session) { return Tokenize(session, *flags); };
  });
}

void AddDetokenizeCommand(const Command& app, CommandFunction* selected) {
  auto flags = std::make_shared<DetokenizeFlags>();
  const Command command =
      app.AddCommand("detokenize", "Token ids to text, exactly its bytes");
  command
      .AddFlag("ids", &flags->ids,
               "Token ids; '-' or nothing reads standard input")
      .Delimiter(',');
  AddModelFlag(command, &flags->model);
  command.OnSelected([flags, selected] {
    *selected = [flags](Session* session) {
      return Detokenize(session, *flags);
    };
  });
}

}  // namespace pot
