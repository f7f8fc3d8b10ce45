#include "server/rpc/score.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "engine/base/status_macros.h"
#include "pot/v1/inference.pb.h"
#include "server/rpc/answer.h"
#include "server/rpc/request_parser.h"
#include "server/rpc/score_pipeline.h"
#include "server/rpc/wire.h"

namespace pot {
namespace {

class ScoreReactor final : public grpc::ServerUnaryReactor {
 public:
  explicit ScoreReactor(Patience patience) : patience_(std::move(patience)) {}

  void OnCancel() override { patience_.OnCancel(); }
  void OnDone() override { delete this; }

 private:
  Patience patience_;
};

// The state of one call. Its methods run one at a time: Next() under the
// pipeline's lock, the others as the pipeline's hooks.
class ScoreCall {
 public:
  ScoreCall(std::unique_ptr<Call> call, ParsedScore parsed,
            std::shared_ptr<const LoadedModel> model, std::string engine,
            ScoreReactor* reactor, grpc::ByteBuffer* bytes)
      : call_(std::move(call)),
        parsed_(std::move(parsed)),
        model_(std::move(model)),
        engine_(std::move(engine)),
        reactor_(reactor),
        bytes_(bytes) {}

  ScorePipeline::Source Next(WindowCutter::Window* window) {
    if (next_ == parsed_.windows.size()) return ScorePipeline::Source::kEnd;
    *window = parsed_.windows[next_++];
    return ScorePipeline::Source::kWindow;
  }

  void AddResult(const ScoreTask::Result& result) {
    const Tokenizer& tokenizer = *model_->tokenizer;
    v1::ScoredText* score = response_.add_scores();
    if (parsed_.scores_prompt) {
      const int32_t first = parsed_.windows.front().tokens.front();
      v1::TokenLogprob* token = score->add_tokens();
      token->set_token_id(first);
      token->set_piece(std::string(tokenizer.TokenBytes(first)));
    }
    bool greedy = true;
    for (const SampledToken& token : result.tokens) {
      // The best token is there whatever the client asked for.
      greedy = greedy && !token.top.empty() && token.top.front().id == token.id;
      SampledToken shown = token;
      shown.top.resize(
          std::min<size_t>(shown.top.size(), parsed_.alternatives));
      FillLogprob(shown, tokenizer, score->add_tokens());
    }
    score->set_total_logprob(-result.sums.nats);
    score->set_scored_tokens(result.sums.tokens);
    score->set_scored_bytes(result.sums.bytes);
    score->set_is_greedy(greedy);
    if (response_.scores_size() == 1) {
      timings_.queue = result.timings.queue;
      timings_.first_token = result.timings.first_token;
    }
    timings_.prefill += result.timings.prefill;
  }

  void End(const absl::Status& status) {
    call_->SetUsage({.prompt_tokens = parsed_.prompt_tokens}, timings_);
    absl::Status outcome = status;
    if (outcome.ok()) {
      FillIdentity(*model_, engine_, response_.mutable_model());
      response_.set_request_id(parsed_.request_id);
      response_.mutable_usage()->set_prompt_tokens(parsed_.prompt_tokens);
      response_.mutable_usage()->set_truncated_tokens(parsed_.truncated_tokens);
      FillTimings(timings_, call_->elapsed(), response_.mutable_timings());
      outcome = SerializeMessage(response_, bytes_);
    }
    reactor_->Finish(call_->End(outcome));
  }

 private:
  const std::unique_ptr<Call> call_;
  const ParsedScore parsed_;
  const std::shared_ptr<const LoadedModel> model_;
  const std::string engine_;
  // Alive until it is finished, and so is *bytes_.
  ScoreReactor* const reactor_;
  grpc::ByteBuffer* const bytes_;
  v1::ScoreResponse response_;
  TaskTimings timings_;
  size_t next_ = 0;
};

struct Prepared {
  std::shared_ptr<const LoadedModel> model;
  ParsedScore parsed;
};

absl::StatusOr<Prepared> Prepare(const ServiceContext& context,
                                 const grpc::ByteBuffer& request, Call* call) {
  POT_RETURN_IF_ERROR(call->Enter());
  v1::ScoreRequest message;
  POT_RETURN_IF_ERROR(ParseMessage(request, &message));
  POT_ASSIGN_OR_RETURN(const ModelSelector selector,
                       ParseModelRef(message.model(), "model"));
  Prepared prepared;
  POT_ASSIGN_OR_RETURN(prepared.model, context.repository->Acquire(selector));
  call->SetModel(*prepared.model);
  if (context.log_prompts) call->SetPrompt(message.text());
  POT_ASSIGN_OR_RETURN(prepared.parsed,
                       ParseScore(message, *prepared.model, &RandomFromSystem));
  call->SetRequestId(prepared.parsed.request_id);
  return prepared;
}

}  // namespace

grpc::ServerUnaryReactor* StartScore(const ServiceContext& context,
                                     grpc::CallbackServerContext* rpc,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) {
  const Patience patience(context.scheduler, *rpc);
  auto* reactor = new ScoreReactor(patience);
  auto call = std::make_unique<Call>(context.calls, "Score", *rpc);
  call->SetPatience(patience);
  absl::StatusOr<Prepared> prepared = Prepare(context, *request, call.get());
  if (!prepared.ok()) {
    reactor->Finish(call->End(prepared.status()));
    return reactor;
  }
  ScoreTask task;
  task.request_id = prepared->parsed.request_id;
  task.model = prepared->model;
  task.want_tokens = true;
  task.alternatives = std::max(1, prepared->parsed.alternatives);
  task.deadline = patience.deadline();
  task.cancelled = patience.cancelled();
  auto state = std::make_shared<ScoreCall>(
      std::move(call), std::move(prepared->parsed), prepared->model,
      context.engine, reactor, response);
  std::make_shared<ScorePipeline>(
      context.scheduler, std::move(task),
      ScorePipeline::Hooks{
          .next = [state](auto* window) { return state->Next(window); },
          .result = [state](auto result) { state->AddResult(result); },
          .end = [state](const auto& status) { state->End(status); }})
      ->Pump();
  return reactor;
}

}  // namespace pot
