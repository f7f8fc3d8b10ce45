#include "server/rpc/answer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace pot {
namespace {

static_assert(static_cast<int>(FinishReason::kNone) ==
              v1::FINISH_REASON_UNSPECIFIED);
static_assert(static_cast<int>(FinishReason::kLength) ==
              v1::FINISH_REASON_LENGTH);
static_assert(static_cast<int>(FinishReason::kStopString) ==
              v1::FINISH_REASON_STOP_STRING);
static_assert(static_cast<int>(FinishReason::kStopToken) ==
              v1::FINISH_REASON_STOP_TOKEN);
static_assert(static_cast<int>(FinishReason::kEndOfText) ==
              v1::FINISH_REASON_END_OF_TEXT);

void SetPiece(const Tokenizer& tokenizer, int32_t id, std::string* piece) {
  const absl::string_view bytes = tokenizer.TokenBytes(id);
  piece->assign(bytes.data(), bytes.size());
}

}  // namespace

void FillIdentity(const LoadedModel& model, absl::string_view engine,
                  v1::ModelIdentity* identity) {
  identity->set_name(model.identity.name);
  identity->set_version(model.identity.version);
  identity->set_sha256(model.identity.sha256);
  identity->set_engine(
      model.weights->quantized
          ? std::string(engine)
          : absl::StrCat(engine.substr(0, engine.find(' ')), " fp32"));
}

void FillTimings(const TaskTimings& timings, absl::Duration total,
                 v1::Timings* proto) {
  proto->set_queue_seconds(absl::ToDoubleSeconds(timings.queue));
  proto->set_prefill_seconds(absl::ToDoubleSeconds(timings.prefill));
  proto->set_decode_seconds(absl::ToDoubleSeconds(timings.decode));
  proto->set_first_token_seconds(absl::ToDoubleSeconds(timings.first_token));
  proto->set_total_seconds(absl::ToDoubleSeconds(total));
}

void FillLogprob(const SampledToken& token, const Tokenizer& tokenizer,
                 v1::TokenLogprob* proto) {
  proto->set_token_id(token.id);
  SetPiece(tokenizer, token.id, proto->mutable_piece());
  proto->set_logprob(token.logprob);
  for (const TokenLogprob& top : token.top) {
    v1::TokenAlternative* alternative = proto->add_alternatives();
    alternative->set_token_id(top.id);
    SetPiece(tokenizer, top.id, alternative->mutable_piece());
    alternative->set_logprob(top.logprob);
  }
}

GenerateAnswer::GenerateAnswer(const ParsedGenerate& parsed,
                               absl::string_view engine)
    : model_(parsed.task.model),
      engine_(engine),
      request_id_(parsed.task.request_id),
      echo_(parsed.echo),
      prompt_(parsed.task.prompt),
      stop_strings_(parsed.task.stop_strings),
      return_token_ids_(parsed.return_token_ids),
      prompt_logprobs_(parsed.task.prompt_logprobs.has_value()),
      seed_(parsed.seed),
      truncated_tokens_(parsed.truncated_tokens),
      echoed_(parsed.task.n, false) {
  if (parsed.receipt) receipt_.emplace(parsed);
}

void GenerateAnswer::FillPrompt(const std::vector<SampledToken>& logprobs,
                                v1::GeneratePrompt* prompt) const {
  if (return_token_ids_) {
    prompt->mutable_token_ids()->Assign(prompt_.begin(), prompt_.end());
  }
  if (!prompt_logprobs_) return;
  v1::TokenLogprob* first = prompt->add_logprobs();
  first->set_token_id(prompt_.front());
  SetPiece(*model_->tokenizer, prompt_.front(), first->mutable_piece());
  for (const SampledToken& token : logprobs) {
    FillLogprob(token, *model_->tokenizer, prompt->add_logprobs());
  }
}

template <typename Sequence>
void GenerateAnswer::AddEvent(const TokenEvent& event, Sequence* sequence) {
  sequence->set_index(event.index);
  if (!echoed_[event.index]) {
    echoed_[event.index] = true;
    sequence->mutable_text()->append(echo_);
  }
  sequence->mutable_text()->append(event.text);
  if (return_token_ids_) {
    sequence->mutable_token_ids()->Add(event.ids.begin(), event.ids.end());
  }
  for (const SampledToken& token : event.logprobs) {
    FillLogprob(token, *model_->tokenizer, sequence->add_logprobs());
  }
  if (receipt_.has_value()) receipt_->AddEvent(event);
  if (event.finish == FinishReason::kNone) return;
  sequence->set_finish_reason(static_cast<v1::FinishReason>(event.finish));
  if (event.stop_string >= 0) {
    sequence->set_stop_string(stop_strings_[event.stop_string]);
  }
  if (event.stop_token_id.has_value()) {
    sequence->set_stop_token_id(*event.stop_token_id);
  }
  sequence->set_cumulative_logprob(event.cumulative_logprob);
}

template void GenerateAnswer::AddEvent(const TokenEvent&, v1::GenerateChunk*);
template void GenerateAnswer::AddEvent(const TokenEvent&,
                                       v1::GeneratedSequence*);

void GenerateAnswer::FillSummary(const TaskUsage& usage,
                                 const TaskTimings& timings,
                                 absl::Duration total,
                                 v1::GenerateSummary* summary) const {
  FillIdentity(*model_, engine_, summary->mutable_model());
  summary->set_request_id(request_id_);
  v1::Usage* proto = summary->mutable_usage();
  proto->set_prompt_tokens(usage.prompt_tokens);
  proto->set_cached_prompt_tokens(usage.cached_prompt_tokens);
  proto->set_generated_tokens(usage.generated_tokens);
  proto->set_truncated_tokens(truncated_tokens_);
  FillTimings(timings, total, summary->mutable_timings());
  summary->set_seed(seed_);
  if (receipt_.has_value()) {
    *summary->mutable_receipt() = receipt_->Build(summary->model());
  }
}

}  // namespace pot
