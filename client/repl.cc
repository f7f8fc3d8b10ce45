#include "client/repl.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/exit_code.h"
#include "client/generated_text.h"
#include "client/generation.h"
#include "client/generation_flags.h"
#include "client/model_ref.h"
#include "client/text_format.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "grpcpp/grpcpp.h"
#include "pot/v1/model.grpc.pb.h"

namespace pot {
namespace {

constexpr size_t kMaxLineBytes = 1 << 20;
// Bytes of transcript kept per token of context: GPT-2's longest token has 128,
// English has 4.
constexpr size_t kBytesPerToken = 128;
constexpr int kMaxDefaultNewTokens = 200;

constexpr char kHelp[] =
    "Type text; the model continues the conversation so far.\n"
    "  /set NAME VALUE  change a setting, e.g. /set temperature 0.7; every\n"
    "                   sampling and stopping flag of generate works\n"
    "  /set             show the settings\n"
    "  /model MODEL     continue with another model or version\n"
    "  /seed N          the same as /set seed N\n"
    "  /reset           forget the conversation\n"
    "  /history         show it\n"
    "  /quit            leave; Ctrl-D does, too\n"
    "Ctrl-C stops what is being written.\n";

std::string Settings(const v1::GenerateRequest& request) {
  std::string text =
      absl::StrCat("model: ", FormatModelRef(request.model()), "\n");
  absl::StrAppend(&text, request.sampling().DebugString(),
                  request.stopping().DebugString());
  return text;
}

}  // namespace

Repl::Repl(Session* session, const v1::GenerateRequest& request)
    : session_(session),
      request_(request),
      settings_(std::make_unique<CLI::App>()) {
  request_.set_overflow(v1::CONTEXT_OVERFLOW_TRUNCATE_LEFT);
  request_.mutable_output()->Clear();
  AddSamplingFlags(Command(settings_.get()), &request_);
}

Repl::~Repl() = default;

void Repl::Say(absl::string_view text) { session_->console().WriteError(text); }

void Repl::Report(const absl::Status& status) {
  Say(absl::StrCat(absl::StatusCodeToString(status.code()), ": ",
                   Printable(status.message()), "\n"));
}

absl::Status Repl::SelectModel(absl::string_view name) {
  POT_ASSIGN_OR_RETURN(const v1::ModelRef model, ResolveModel(session_, name));
  Call call(session_->connection());
  v1::GetModelRequest request;
  *request.mutable_model() = model;
  v1::GetModelResponse response;
  POT_RETURN_IF_ERROR(
      call.ToStatus(v1::ModelService::NewStub(session_->connection().channel())
                        ->GetModel(call.context(), request, &response)));
  *request_.mutable_model() = model;
  context_length_ = std::max(2, response.version().config().positions());
  if (session_->console().in_is_terminal()) {
    Say(absl::StrCat(response.version().name(), "@",
                     response.version().version(), ", ",
                     response.version().quantization().format(), ", context ",
                     context_length_, " tokens. /help helps.\n"));
  }
  return absl::OkStatus();
}

absl::Status Repl::Set(absl::string_view arguments) {
  if (arguments.empty()) {
    Say(Settings(request_));
    return absl::OkStatus();
  }
  const size_t blank = std::min(arguments.find(' '), arguments.size());
  const std::string name =
      absl::StrCat("--", std::string(arguments.substr(0, blank)));
  const std::string value(absl::StripAsciiWhitespace(arguments.substr(blank)));
  CLI::Option* const option = settings_->get_option_no_throw(name);
  if (option == nullptr || name == "--help") {
    return absl::InvalidArgumentError(
        absl::StrCat("no setting ", Quoted(arguments.substr(0, blank)),
                     "; try temperature, "
                     "top-k, top-p, seed, max-new-tokens, stop, ..."));
  }
  try {
    option->clear();
    option->add_result(option->get_expected_min() == 0
                           ? option->get_flag_value(name, value)
                           : value);
    option->run_callback();
  } catch (const CLI::Error& error) {
    return absl::InvalidArgumentError(error.what());
  }
  return absl::OkStatus();
}

void Repl::TrimTranscript() {
  const size_t limit = static_cast<size_t>(context_length_) * kBytesPerToken;
  if (transcript_.size() <= limit) return;
  size_t begin = transcript_.size() - limit;
  while (begin < transcript_.size() && (transcript_[begin] & 0xc0) == 0x80) {
    ++begin;
  }
  transcript_.erase(0, begin);
}

absl::Status Repl::Generate(absl::string_view line) {
  const size_t invalid = FindInvalidUtf8(line);
  if (invalid != line.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the line is not UTF-8 from byte ", invalid, " on"));
  }
  std::string prompt = absl::StrCat(transcript_, line, "\n");
  v1::GenerateRequest request = request_;
  request.set_text(prompt);
  if (!request.stopping().has_max_new_tokens()) {
    // A prompt that fills the context needs a number.
    request.mutable_stopping()->set_max_new_tokens(
        std::min(kMaxDefaultNewTokens, context_length_ / 2));
  }
  const int sequences = request.sampling().has_n() ? request.sampling().n() : 1;
  GeneratedText text(&session_->console(), sequences);
  v1::GenerateSummary summary;
  absl::Status status = StreamGeneration(
      session_, request,
      [&](const v1::GenerateStreamResponse& event) -> absl::Status {
        if (event.has_summary()) summary = event.summary();
        return event.has_chunk() ? text.Add(event.chunk()) : absl::OkStatus();
      });
  const bool stopped = session_->interrupter().interrupted();
  if (!status.ok() && !stopped) {
    text.Abandon();
    return status;
  }
  transcript_ = absl::StrCat(prompt, text.text());
  if (transcript_.back() != '\n') transcript_ += '\n';
  TrimTranscript();
  POT_RETURN_IF_ERROR(text.Finish());
  if (!stopped && session_->shows_statistics()) {
    Say(absl::StrCat("[",
                     FormatStatistics(summary, sequences, text.finish_reason()),
                     "]\n"));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> Repl::HandleCommand(absl::string_view line) {
  const size_t blank = std::min(line.find(' '), line.size());
  const absl::string_view command = line.substr(0, blank);
  const absl::string_view rest = absl::StripAsciiWhitespace(line.substr(blank));
  if (command == "/quit" || command == "/exit") return false;
  if (command == "/help") {
    Say(kHelp);
  } else if (command == "/set") {
    POT_RETURN_IF_ERROR(Set(rest));
  } else if (command == "/seed") {
    POT_RETURN_IF_ERROR(Set(absl::StrCat("seed ", rest)));
  } else if (command == "/model") {
    POT_RETURN_IF_ERROR(SelectModel(rest));
  } else if (command == "/reset") {
    transcript_.clear();
  } else if (command == "/history") {
    POT_RETURN_IF_ERROR(session_->console().Write(transcript_));
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("no command ", Quoted(command), "; see /help"));
  }
  return true;
}

absl::Status Repl::Run() {
  POT_RETURN_IF_ERROR(SelectModel(FormatModelRef(request_.model())));
  Console& console = session_->console();
  for (;;) {
    if (console.in_is_terminal()) Say("> ");
    absl::StatusOr<std::optional<std::string>> line =
        console.ReadLine(kMaxLineBytes);
    if (session_->interrupter().interrupted()) {
      session_->interrupter().Reset();
      console.DiscardLine();
      if (!console.in_is_terminal()) return absl::OkStatus();
      Say("\n(/quit or Ctrl-D leaves)\n");
      continue;
    }
    POT_RETURN_IF_ERROR(line.status());
    if (!line->has_value()) {
      if (console.in_is_terminal()) Say("\n");
      return absl::OkStatus();
    }
    absl::Status status;
    if (!(*line)->empty() && (*line)->front() == '/') {
      const absl::StatusOr<bool> goes_on =
          HandleCommand(absl::StripAsciiWhitespace(**line));
      if (goes_on.ok() && !*goes_on) return absl::OkStatus();
      status = goes_on.status();
    } else {
      status = Generate(**line);
    }
    if (console.out_closed()) return status;
    session_->interrupter().Reset();
    if (!status.ok()) Report(status);
  }
}

}  // namespace pot
