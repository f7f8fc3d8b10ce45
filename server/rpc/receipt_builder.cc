#include "server/rpc/receipt_builder.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/base/sha256.h"

namespace pot {
namespace {

// Machines are little-endian (engine/base/xxh64.h).
template <typename T>
absl::Span<const uint8_t> BytesOf(const T* values, int count) {
  return absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(values),
                             sizeof(T) * count);
}

void SetSampling(const GenerateTask& task, v1::Sampling* sampling) {
  const SamplingParams& params = task.sampling;
  sampling->set_temperature(params.temperature);
  sampling->set_top_k(params.top_k);
  sampling->set_top_p(params.top_p);
  sampling->set_min_p(params.min_p);
  sampling->set_typical_p(params.typical_p);
  sampling->set_repetition_penalty(params.repetition_penalty);
  sampling->set_presence_penalty(params.presence_penalty);
  sampling->set_frequency_penalty(params.frequency_penalty);
  for (const SamplingParams::Bias& entry : params.logit_bias) {
    (*sampling->mutable_logit_bias())[entry.id] = entry.bias;
  }
  sampling->mutable_allowed_token_ids()->Assign(params.allowed_ids.begin(),
                                                params.allowed_ids.end());
  sampling->mutable_banned_token_ids()->Assign(params.banned_ids.begin(),
                                               params.banned_ids.end());
  sampling->set_seed(params.seed);
  sampling->set_n(task.n);
  sampling->set_best_of(task.best_of);
}

void SetStopping(const GenerateTask& task, v1::Stopping* stopping) {
  stopping->set_max_new_tokens(static_cast<int32_t>(task.max_new_tokens));
  stopping->set_min_new_tokens(static_cast<int32_t>(task.min_new_tokens));
  *stopping->mutable_stop_strings() = {task.stop_strings.begin(),
                                       task.stop_strings.end()};
  stopping->mutable_stop_token_ids()->Assign(task.stop_token_ids.begin(),
                                             task.stop_token_ids.end());
  stopping->set_ignore_eos(task.ignore_eos);
}

// ModelIdentity.engine of a quantized model ends with how activations are
// quantized.
std::string ArithmeticOf(absl::string_view engine, KvType kv_type) {
  return absl::StrCat(engine.substr(engine.rfind(' ') + 1), " ",
                      kv_type == KvType::kF16 ? "f16" : "f32");
}

}  // namespace

v1::GenerateRequest EffectiveRequest(const ParsedGenerate& parsed) {
  const GenerateTask& task = parsed.task;
  v1::GenerateRequest request;
  request.mutable_model()->set_name(task.model->identity.name);
  request.mutable_model()->set_digest(task.model->identity.sha256);
  request.set_request_id(task.request_id);
  request.mutable_token_ids()->mutable_ids()->Assign(task.prompt.begin(),
                                                     task.prompt.end());
  SetSampling(task, request.mutable_sampling());
  SetStopping(task, request.mutable_stopping());
  request.mutable_output()->set_receipt(true);
  request.set_overflow(v1::CONTEXT_OVERFLOW_REJECT);
  return request;
}

std::string OutputDigest(const v1::ReplayReceipt& receipt) {
  Sha256 digest;
  for (const v1::ReceiptSequence& sequence : receipt.sequences()) {
    const uint64_t count = sequence.token_ids_size();
    digest.Update(BytesOf(&count, 1));
    digest.Update(
        BytesOf(sequence.token_ids().data(), sequence.token_ids_size()));
    digest.Update(
        BytesOf(sequence.logits_xxh64().data(), sequence.logits_xxh64_size()));
  }
  return digest.HexDigest();
}

ReceiptBuilder::ReceiptBuilder(const ParsedGenerate& parsed)
    : kv_type_(parsed.task.model->kv_type) {
  *receipt_.mutable_request() = EffectiveRequest(parsed);
  for (int i = 0; i < parsed.task.n; ++i) receipt_.add_sequences();
}

void ReceiptBuilder::AddEvent(const TokenEvent& event) {
  v1::ReceiptSequence* sequence = receipt_.mutable_sequences(event.index);
  sequence->mutable_token_ids()->Add(event.ids.begin(), event.ids.end());
  sequence->mutable_logits_xxh64()->Add(event.logits_checksums.begin(),
                                        event.logits_checksums.end());
}

v1::ReplayReceipt ReceiptBuilder::Build(
    const v1::ModelIdentity& identity) const {
  v1::ReplayReceipt receipt = receipt_;
  *receipt.mutable_model() = identity;
  receipt.set_arithmetic(ArithmeticOf(identity.engine(), kv_type_));
  receipt.set_output_sha256(OutputDigest(receipt));
  return receipt;
}

}  // namespace pot
