#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/commands.h"
#include "client/generated_text.h"
#include "client/generation_flags.h"
#include "client/table.h"
#include "client/text_format.h"
#include "engine/base/status_macros.h"
#include "grpcpp/grpcpp.h"
#include "pot/v1/inference.grpc.pb.h"

namespace pot {
namespace {

struct Flags {
  std::optional<std::string> prompt;
  std::string model;
  bool tokens = false;
  v1::ScoreRequest request;
};

std::string FormatScores(const v1::ScoreRequest& request,
                         const v1::ScoreResponse& response) {
  constexpr auto kRight = Table::Align::kRight;
  Table table({{"text"},
               {"tokens", kRight},
               {"logprob", kRight},
               {"per token", kRight},
               {"perplexity", kRight},
               {"greedy"}});
  for (int i = 0; i < response.scores_size(); ++i) {
    const v1::ScoredText& score = response.scores(i);
    const double mean = score.scored_tokens() == 0
                            ? 0
                            : score.total_logprob() /
                                  static_cast<double>(score.scored_tokens());
    table.AddRow({i < request.continuations_size()
                      ? Quoted(request.continuations(i).text())
                      : "the prompt",
                  FormatCount(score.scored_tokens()),
                  absl::StrFormat("%.4f", score.total_logprob()),
                  absl::StrFormat("%.4f", mean),
                  absl::StrFormat("%.4f", std::exp(-mean)),
                  score.is_greedy() ? "yes" : "no"});
  }
  return table.ToString();
}

absl::Status Score(Session* session, Flags flags) {
  v1::ScoreRequest& request = flags.request;
  if (request.token_ids().ids().empty()) {
    POT_ASSIGN_OR_RETURN(
        *request.mutable_text(),
        TextArgument(session,
                     flags.prompt.has_value() ? &*flags.prompt : nullptr,
                     "--prompt"));
  } else if (flags.prompt.has_value()) {
    return absl::InvalidArgumentError(
        "both --prompt and --prompt-token-ids: give one");
  }
  POT_ASSIGN_OR_RETURN(*request.mutable_model(),
                       ResolveModel(session, flags.model));
  Call call(session->connection());
  v1::ScoreResponse response;
  POT_RETURN_IF_ERROR(call.ToStatus(
      v1::InferenceService::NewStub(session->connection().channel())
          ->Score(call.context(), request, &response)));
  if (!session->text_output()) return WriteJson(session, response);
  std::string text = FormatScores(request, response);
  if (flags.tokens || request.alternatives() > 0) {
    for (const v1::ScoredText& score : response.scores()) {
      absl::StrAppend(&text, "\n", FormatLogprobs(score.tokens()));
    }
  }
  return session->console().Write(text);
}

}  // namespace

void AddScoreCommand(const Command& app, CommandFunction* selected) {
  auto flags = std::make_shared<Flags>();
  v1::ScoreRequest* const request = &flags->request;
  const Command command = app.AddCommand(
      "score", "How likely texts are after a prompt, or a prompt itself");
  command.AddFlag("-p,--prompt", &flags->prompt,
                  "Text; '-' or nothing reads standard input");
  AddTokenIdsFlag(command, "--prompt-token-ids",
                  request->mutable_token_ids()->mutable_ids(),
                  "The prompt as token ids instead of text");
  command.AddListFlag(
      "-c,--continuation",
      [request](const std::vector<std::string>& texts) {
        request->clear_continuations();
        for (const std::string& text : texts) {
          request->add_continuations()->set_text(text);
        }
        return absl::OkStatus();
      },
      "A text to score after the prompt; repeatable [score the prompt]");
  AddModelFlag(command, &flags->model);
  command.AddSwitch("--tokens", &flags->tokens, "Show every token");
  AddValueFlag<int32_t>(
      command, "--alternatives",
      [=](int32_t v) { request->set_alternatives(v); },
      "Show this many likelier tokens at every place [0]");
  AddOverflowFlag(command, [=](v1::ContextOverflow overflow) {
    request->set_overflow(overflow);
  });
  AddValueFlag<std::string>(
      command, "--request-id",
      [=](const std::string& v) { request->set_request_id(v); },
      "Name of the call in the answer and the server's log");
  command.OnSelected([flags, selected] {
    *selected = [flags](Session* session) { return Score(session, *flags); };
  });
}

}  // namespace pot
