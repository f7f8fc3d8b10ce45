#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/generated_text.h"
#include "client/generation.h"
#include "client/generation_flags.h"
#include "client/receipt.h"
#include "engine/base/status_macros.h"
#include "grpcpp/grpcpp.h"
#include "pot/v1/inference.grpc.pb.h"

namespace pot {
namespace {

struct Flags {
  std::optional<std::string> prompt;
  std::string model;
  bool stream = false;
  std::optional<std::string> receipt;  // file
  v1::GenerateRequest request;
};

void ShowStatistics(Session* session, const v1::GenerateSummary& summary,
                    int sequences, v1::FinishReason reason) {
  if (!session->shows_statistics()) return;
  session->console().WriteError(
      absl::StrCat(FormatStatistics(summary, sequences, reason), "\n"));
}

// Sequences that come back, and sequences that are computed.
int Returned(const v1::GenerateRequest& request) {
  return request.sampling().has_n() ? request.sampling().n() : 1;
}
int Computed(const v1::GenerateRequest& request) {
  return request.sampling().has_best_of() ? request.sampling().best_of()
                                          : Returned(request);
}

absl::Status StreamText(Session* session, const v1::GenerateRequest& request,
                        v1::GenerateSummary* summary) {
  GeneratedText text(&session->console(), Returned(request));
  google::protobuf::RepeatedPtrField<v1::TokenLogprob> logprobs;
  const absl::Status status = StreamGeneration(
      session, request,
      [&](const v1::GenerateStreamResponse& event) -> absl::Status {
        if (event.has_summary()) *summary = event.summary();
        if (event.has_prompt()) {
          logprobs.MergeFrom(event.prompt().logprobs());
        }
        if (!event.has_chunk()) return absl::OkStatus();
        if (event.chunk().index() == 0) {
          logprobs.MergeFrom(event.chunk().logprobs());
        }
        return text.Add(event.chunk());
      });
  if (!status.ok()) {
    text.Abandon();
    return status;
  }
  POT_RETURN_IF_ERROR(text.Finish());
  if (!logprobs.empty()) {
    POT_RETURN_IF_ERROR(
        session->console().Write(absl::StrCat("\n", FormatLogprobs(logprobs))));
  }
  ShowStatistics(session, *summary, Computed(request), text.finish_reason());
  return absl::OkStatus();
}

absl::Status WriteResponse(Session* session, const v1::GenerateRequest& request,
                           const v1::GenerateResponse& response) {
  if (!session->text_output()) return WriteJson(session, response);
  GeneratedText text(&session->console(), response.sequences_size());
  google::protobuf::RepeatedPtrField<v1::TokenLogprob> logprobs =
      response.prompt().logprobs();
  for (const v1::GeneratedSequence& sequence : response.sequences()) {
    POT_RETURN_IF_ERROR(text.Add(sequence));
    if (sequence.index() == 0) logprobs.MergeFrom(sequence.logprobs());
  }
  POT_RETURN_IF_ERROR(text.Finish());
  if (!logprobs.empty()) {
    POT_RETURN_IF_ERROR(
        session->console().Write(absl::StrCat("\n", FormatLogprobs(logprobs))));
  }
  ShowStatistics(session, response.summary(), Computed(request),
                 text.finish_reason());
  return absl::OkStatus();
}

absl::Status Answer(Session* session, const Flags& flags,
                    v1::GenerateSummary* summary) {
  const v1::GenerateRequest& request = flags.request;
  if (session->flags().output == OutputFormat::kJsonLines) {
    return StreamGeneration(session, request,
                            [&](const v1::GenerateStreamResponse& event) {
                              if (event.has_summary()) {
                                *summary = event.summary();
                              }
                              return WriteJson(session, event);
                            });
  }
  if (flags.stream) return StreamText(session, request, summary);
  Call call(session->connection());
  v1::GenerateResponse response;
  POT_RETURN_IF_ERROR(call.ToStatus(
      v1::InferenceService::NewStub(session->connection().channel())
          ->Generate(call.context(), request, &response)));
  *summary = response.summary();
  return WriteResponse(session, request, response);
}

absl::Status Generate(Session* session, Flags flags) {
  v1::GenerateRequest& request = flags.request;
  if (flags.stream && session->flags().output == OutputFormat::kJson) {
    return absl::InvalidArgumentError(
        "--stream with --output json: use --output jsonl, one object per "
        "event");
  }
  if (request.token_ids().ids().empty()) {
    POT_ASSIGN_OR_RETURN(
        *request.mutable_text(),
        TextArgument(session,
                     flags.prompt.has_value() ? &*flags.prompt : nullptr,
                     "prompt"));
  } else if (flags.prompt.has_value()) {
    return absl::InvalidArgumentError(
        "both a text prompt and --prompt-token-ids: give one");
  }
  POT_ASSIGN_OR_RETURN(*request.mutable_model(),
                       ResolveModel(session, flags.model));
  if (flags.receipt.has_value()) {
    POT_RETURN_IF_ERROR(CheckReceiptPath(*flags.receipt));
    request.mutable_output()->set_receipt(true);
  }
  v1::GenerateSummary summary;
  POT_RETURN_IF_ERROR(Answer(session, flags, &summary));
  if (!flags.receipt.has_value()) return absl::OkStatus();
  return SaveReceipt(session, summary, *flags.receipt);
}

}  // namespace

void AddGenerateCommand(const Command& app, CommandFunction* selected) {
  auto flags = std::make_shared<Flags>();
  const Command command = app.AddCommand("generate", "Continue a prompt");
  command.AddFlag("prompt", &flags->prompt,
                  "Text; '-' or nothing reads standard input");
  AddModelFlag(command, &flags->model);
  command.AddSwitch("-s,--stream", &flags->stream,
                    "Write the text piece by piece as it comes");
  AddSamplingFlags(command, &flags->request);
  AddOverflowFlag(command, [flags](v1::ContextOverflow overflow) {
    flags->request.set_overflow(overflow);
  });
  AddOutputFlags(command, &flags->request);
  AddValueFlag<std::string>(
      command, "--receipt",
      [flags](const std::string& path) { flags->receipt = path; },
      "Write a receipt that 'replay' proves to this file")
      .TypeName("FILE");
  command.OnSelected([flags, selected] {
    *selected = [flags](Session* session) { return Generate(session, *flags); };
  });
}

}  // namespace pot
