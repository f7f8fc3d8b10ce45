#include "server/serving/generation_sequence.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/base/xxh64.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

int32_t EndOfTextOf(const GenerateTask& task) {
  return task.ignore_eos ? -1 : task.model->tokenizer->end_of_text_id();
}

absl::Status WithReason(const absl::Status& status) {
  if (absl::IsDataLoss(status)) {
    return WithDetails(status, {.reason = "NON_FINITE_LOGITS"});
  }
  if (absl::IsFailedPrecondition(status)) {
    // Bans alone were checked before; with ids suppressed until
    // min_new_tokens nothing may be left.
    return WithDetails(
        absl::InvalidArgumentError(status.message()),
        {.reason = "INVALID_FIELD", .field = "stopping.min_new_tokens"});
  }
  return WithDetails(absl::InternalError(status.message()),
                     {.reason = "INTERNAL"});
}

}  // namespace

GenerationRules::GenerationRules(const GenerateTask& task)
    : task_(task),
      max_new_tokens_(std::min<int64_t>(
          task.max_new_tokens, task.model->config().n_positions -
                                   static_cast<int64_t>(task.prompt.size()))),
      end_of_text_(EndOfTextOf(task)),
      ending_ids_(task.stop_token_ids),
      matcher_(task.stop_strings) {
  if (end_of_text_ >= 0) ending_ids_.push_back(end_of_text_);
}

int64_t GenerationRules::least_new_tokens() const {
  if (!task_.stop_strings.empty()) return 1;
  if (ending_ids_.empty()) return max_new_tokens_;
  return std::clamp<int64_t>(task_.min_new_tokens, 1, max_new_tokens_);
}

absl::Span<const int32_t> GenerationRules::SuppressedAt(
    int64_t generated) const {
  if (generated >= task_.min_new_tokens) return {};
  return ending_ids_;
}

FinishReason GenerationRules::ReasonOf(int32_t id) const {
  if (id == end_of_text_) return FinishReason::kEndOfText;
  const bool stops =
      std::find(task_.stop_token_ids.begin(), task_.stop_token_ids.end(), id) !=
      task_.stop_token_ids.end();
  return stops ? FinishReason::kStopToken : FinishReason::kNone;
}

GenerationSequence::GenerationSequence(const GenerationRules* rules, int index,
                                       std::unique_ptr<KvCache> cache)
    : rules_(rules),
      index_(index),
      cache_(std::move(cache)),
      sampler_(rules->task().sampling,
               rules->task().model->tokenizer->vocab_size(),
               static_cast<uint32_t>(index)),
      detokenizer_(rules->task().model->tokenizer.get()),
      matcher_(rules->matcher()),
      drawn_(absl::InternalError("no token was drawn")) {
  sampler_.AddPrompt(rules->task().prompt);
}

void GenerationSequence::Draw(absl::Span<const float> logits) {
  const GenerateTask& task = rules_->task();
  const int64_t position =
      static_cast<int64_t>(task.prompt.size()) + generated_;
  if (task.logits_checksums) logits_checksum_ = Xxh64(logits);
  // An embedding may be padded beyond the tokenizer's ids; what has no text is
  // never drawn.
  drawn_ = sampler_.Sample(logits.first(task.model->tokenizer->vocab_size()),
                           position, task.logprobs.value_or(0),
                           rules_->SuppressedAt(generated_));
}

absl::StatusOr<TokenEvent> GenerationSequence::Take() {
  if (!drawn_.ok()) return WithReason(drawn_.status());
  const int32_t id = drawn_->id;
  last_token_ = id;
  ++generated_;
  cumulative_logprob_ += drawn_->logprob;

  TokenEvent event;
  event.index = index_;
  event.ids = {id};
  if (rules_->task().logprobs.has_value()) {
    event.logprobs.push_back(*std::move(drawn_));
  }
  if (rules_->task().logits_checksums) {
    event.logits_checksums = {logits_checksum_};
  }
  drawn_ = absl::InternalError("no token was drawn");
  AppendText(id, &event);
  if (event.finish != FinishReason::kNone) {
    event.cumulative_logprob = cumulative_logprob_;
    finished_ = true;
  }
  return event;
}

void GenerationSequence::AppendText(int32_t id, TokenEvent* event) {
  event->finish = rules_->ReasonOf(id);
  std::string piece;
  // A token that ends the sequence is not part of its text.
  if (event->finish == FinishReason::kNone) {
    piece = detokenizer_.Push(id);
    if (generated_ >= rules_->max_new_tokens()) {
      event->finish = FinishReason::kLength;
    }
  } else {
    event->stop_token_id = id;
  }
  if (event->finish != FinishReason::kNone) piece += detokenizer_.Finish();

  const bool may_stop = generated_ >= rules_->task().min_new_tokens;
  StopMatcher::Result match = matcher_.Push(piece, may_stop);
  event->text = std::move(match.text);
  if (match.stop_index >= 0) {
    event->finish = FinishReason::kStopString;
    event->stop_string = match.stop_index;
    event->stop_token_id.reset();
  } else if (event->finish != FinishReason::kNone) {
    event->text += matcher_.Finish();
  }
}

}  // namespace pot
