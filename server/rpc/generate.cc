#include "server/rpc/generate.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "pot/v1/inference.pb.h"
#include "server/rpc/answer.h"
#include "server/rpc/answer_later.h"
#include "server/rpc/message_writer.h"
#include "server/rpc/request_parser.h"
#include "server/rpc/wire.h"
#include "server/serving/field_errors.h"

namespace pot {
namespace {

absl::StatusOr<ParsedGenerate> Prepare(const ServiceContext& context,
                                       const v1::GenerateRequest& request,
                                       bool stream, absl::string_view prefix,
                                       Call* call) {
  call->SetRequestId(request.request_id());
  if (context.log_prompts) call->SetPrompt(request.text());
  POT_ASSIGN_OR_RETURN(
      const ModelSelector selector,
      ParseModelRef(request.model(), absl::StrCat(prefix, "model")));
  POT_ASSIGN_OR_RETURN(std::shared_ptr<const LoadedModel> model,
                       context.repository->Acquire(selector));
  call->SetModel(*model);
  POT_ASSIGN_OR_RETURN(ParsedGenerate parsed,
                       ParseGenerate(request, std::move(model), stream, prefix,
                                     &RandomFromSystem));
  call->SetRequestId(parsed.task.request_id);
  return parsed;
}

absl::Status SubmitGenerate(const ServiceContext& context,
                            ParsedGenerate parsed, const Patience& patience,
                            std::shared_ptr<TokenSink> sink) {
  auto task = std::make_unique<GenerateTask>(std::move(parsed.task));
  task->deadline = patience.deadline();
  task->cancelled = patience.cancelled();
  task->sink = std::move(sink);
  return context.scheduler->Submit(std::move(task));
}

class GenerateReactor final : public grpc::ServerUnaryReactor {
 public:
  explicit GenerateReactor(Patience patience)
      : patience_(std::move(patience)) {}

  void OnCancel() override { patience_.OnCancel(); }
  void OnDone() override { delete this; }

 private:
  Patience patience_;
};

// Collects everything and finishes the reactor.
class CollectingSink final : public TokenSink {
 public:
  CollectingSink(std::unique_ptr<Call> call, GenerateAnswer answer,
                 GenerateReactor* reactor, grpc::ByteBuffer* bytes)
      : call_(std::move(call)),
        answer_(std::move(answer)),
        reactor_(reactor),
        bytes_(bytes) {
    for (int i = 0; i < answer_.num_sequences(); ++i) {
      response_.add_sequences()->set_index(i);
    }
    if (answer_.wants_prompt() && answer_.prompt_is_complete()) {
      answer_.FillPrompt({}, response_.mutable_prompt());
    }
  }

  void OnPrompt(std::vector<SampledToken> logprobs) override {
    answer_.FillPrompt(logprobs, response_.mutable_prompt());
  }
  void OnToken(TokenEvent event) override {
    answer_.AddEvent(event, response_.mutable_sequences(event.index));
  }
  void OnDone(const absl::Status& status, const TaskUsage& usage,
              const TaskTimings& timings) override {
    call_->SetUsage(usage, timings);
    absl::Status outcome = status;
    if (outcome.ok()) {
      answer_.FillSummary(usage, timings, call_->elapsed(),
                          response_.mutable_summary());
      outcome = SerializeMessage(response_, bytes_);
    }
    reactor_->Finish(call_->End(outcome));
  }
  bool ReadyForMore() const override { return true; }

  // The task was refused: nobody else will finish the call.
  void Refuse(const absl::Status& status) {
    reactor_->Finish(call_->End(status));
  }

 private:
  const std::unique_ptr<Call> call_;
  GenerateAnswer answer_;
  // Alive until it is finished, and so is *bytes_.
  GenerateReactor* const reactor_;
  grpc::ByteBuffer* const bytes_;
  v1::GenerateResponse response_;
};

// Lives until gRPC and the writer are done with it.
class GenerateStreamReactor final
    : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  GenerateStreamReactor(Patience patience, const ServiceContext& context,
                        grpc::CallbackServerContext* rpc)
      : patience_(std::move(patience)),
        writer_(std::make_shared<MessageWriter>(
            this, kMaxBufferedMessages,
            [scheduler = context.scheduler] { scheduler->Wake(); },
            std::make_shared<StreamWatch>(
                StreamWatch::Direction::kWrites, rpc, context.write_timeout))) {}

  void OnWriteDone(bool ok) override {
    if (!ok) OnCancel();
    // The stream may finish, and this be gone, before the writer returns.
    const std::shared_ptr<MessageWriter> writer = writer_;
    writer->OnWriteDone(ok);
  }
  void OnCancel() override { patience_.OnCancel(); }
  void OnDone() override { delete this; }

  const std::shared_ptr<MessageWriter>& writer() const { return writer_; }

 private:
  Patience patience_;
  const std::shared_ptr<MessageWriter> writer_;
};

// Hands events to the stream's writer as they come.
class StreamingSink final : public TokenSink {
 public:
  StreamingSink(std::unique_ptr<Call> call, GenerateAnswer answer,
                std::shared_ptr<MessageWriter> writer)
      : call_(std::move(call)),
        answer_(std::move(answer)),
        writer_(std::move(writer)) {}

  // Before the task is submitted.
  void Begin() {
    if (answer_.wants_prompt() && answer_.prompt_is_complete()) OnPrompt({});
  }
  void OnPrompt(std::vector<SampledToken> logprobs) override {
    v1::GenerateStreamResponse message;
    answer_.FillPrompt(logprobs, message.mutable_prompt());
    Write(message);
  }
  void OnToken(TokenEvent event) override {
    v1::GenerateStreamResponse message;
    answer_.AddEvent(event, message.mutable_chunk());
    Write(message);
  }
  void OnDone(const absl::Status& status, const TaskUsage& usage,
              const TaskTimings& timings) override {
    call_->SetUsage(usage, timings);
    if (status.ok()) {
      v1::GenerateStreamResponse message;
      answer_.FillSummary(usage, timings, call_->elapsed(),
                          message.mutable_summary());
      Write(message);
    }
    Finish(status);
  }
  bool ReadyForMore() const override { return writer_->ReadyForMore(); }

  void Finish(const absl::Status& status) {
    writer_->Finish([call = call_, status](const absl::Status& written) {
      return call->End(MessageWriter::Outcome(status, written));
    });
  }

 private:
  void Write(const v1::GenerateStreamResponse& message) {
    grpc::ByteBuffer bytes;
    if (SerializeMessage(message, &bytes).ok()) {
      writer_->Write(std::move(bytes));
    }
  }

  const std::shared_ptr<Call> call_;
  GenerateAnswer answer_;
  const std::shared_ptr<MessageWriter> writer_;
};

}  // namespace

grpc::ServerUnaryReactor* StartGenerate(const ServiceContext& context,
                                        grpc::CallbackServerContext* rpc,
                                        const grpc::ByteBuffer* request,
                                        grpc::ByteBuffer* response) {
  const Patience patience(context.scheduler, *rpc);
  auto* reactor = new GenerateReactor(patience);
  auto call = std::make_unique<Call>(context.calls, "Generate", *rpc);
  call->SetPatience(patience);
  v1::GenerateRequest message;
  absl::Status status = BeginCall(*request, &message, call.get());
  absl::StatusOr<ParsedGenerate> parsed =
      status.ok() ? Prepare(context, message, /*stream=*/false, "", call.get())
                  : status;
  if (!parsed.ok()) {
    reactor->Finish(call->End(parsed.status()));
    return reactor;
  }
  auto sink = std::make_shared<CollectingSink>(
      std::move(call), GenerateAnswer(*parsed, context.engine), reactor,
      response);
  status = SubmitGenerate(context, *std::move(parsed), patience, sink);
  if (!status.ok()) sink->Refuse(status);
  return reactor;
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* StartGenerateStream(
    const ServiceContext& context, grpc::CallbackServerContext* rpc,
    const grpc::ByteBuffer* request) {
  const Patience patience(context.scheduler, *rpc);
  auto* reactor = new GenerateStreamReactor(patience, context, rpc);
  auto call = std::make_unique<Call>(context.calls, "GenerateStream", *rpc);
  call->SetPatience(patience);
  v1::GenerateStreamRequest message;
  absl::Status status = BeginCall(*request, &message, call.get());
  if (status.ok() && !message.has_request()) {
    status = FieldError("MISSING_FIELD", "request", "is missing", "", "");
  }
  absl::StatusOr<ParsedGenerate> parsed =
      status.ok() ? Prepare(context, message.request(), /*stream=*/true,
                            "request.", call.get())
                  : status;
  if (!parsed.ok()) {
    reactor->Finish(call->End(parsed.status()));
    return reactor;
  }
  auto sink = std::make_shared<StreamingSink>(
      std::move(call), GenerateAnswer(*parsed, context.engine),
      reactor->writer());
  sink->Begin();
  status = SubmitGenerate(context, *std::move(parsed), patience, sink);
  if (!status.ok()) sink->Finish(status);
  return reactor;
}

}  // namespace pot
