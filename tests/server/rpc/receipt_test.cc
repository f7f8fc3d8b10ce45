#include <set>
#include <string>
#include <vector>

#include "engine/base/sha256.h"
#include "engine/base/xxh64.h"
#include "engine/gpt2/forward.h"
#include "gmock/gmock.h"
#include "tests/server/rpc/server_testing.h"

namespace pot {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

class ReceiptTest : public ServerTest {
 protected:
  static v1::GenerateRequest WithReceipt(const std::string& text) {
    v1::GenerateRequest request = Request(text);
    request.mutable_output()->set_receipt(true);
    request.mutable_stopping()->set_max_new_tokens(12);
    return request;
  }

  v1::GenerateResponse Generate(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    const grpc::Status status = stub_->Generate(&context, request, &response);
    EXPECT_TRUE(status.ok()) << Describe(status);
    return response;
  }

  v1::GenerateSummary Stream(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    v1::GenerateStreamRequest wrapped;
    *wrapped.mutable_request() = request;
    const auto reader = stub_->GenerateStream(&context, wrapped);
    v1::GenerateStreamResponse event;
    while (reader->Read(&event)) {
    }
    const grpc::Status status = reader->Finish();
    EXPECT_TRUE(status.ok()) << Describe(status);
    return event.summary();
  }
};

// One of everything, so that a parameter which the receipt forgets is missed.
v1::GenerateRequest WithEverything(v1::GenerateRequest request) {
  v1::Sampling& sampling = *request.mutable_sampling();
  sampling.set_temperature(0.9f);
  sampling.set_top_k(50);
  sampling.set_top_p(0.95f);
  sampling.set_min_p(0.01f);
  sampling.set_typical_p(0.97f);
  sampling.set_repetition_penalty(1.1f);
  sampling.set_presence_penalty(0.2f);
  sampling.set_frequency_penalty(-0.1f);
  (*sampling.mutable_logit_bias())[5] = -1.5f;
  (*sampling.mutable_logit_bias())[7] = 2;
  for (int id = 0; id < 250; ++id) sampling.add_allowed_token_ids(id);
  sampling.add_banned_token_ids(9);
  sampling.set_n(2);
  v1::Stopping& stopping = *request.mutable_stopping();
  stopping.set_min_new_tokens(3);
  stopping.add_stop_strings("zzz");
  stopping.add_stop_token_ids(11);
  stopping.set_ignore_eos(true);
  return request;
}

TEST_F(ReceiptTest, HoldsTheRequestInEffect) {
  const v1::GenerateRequest request = WithEverything(WithReceipt("the dog"));
  const v1::GenerateResponse answer = Generate(request);
  const v1::ReplayReceipt& receipt = answer.summary().receipt();
  EXPECT_EQ(receipt.model().DebugString(),
            answer.summary().model().DebugString());
  EXPECT_EQ(receipt.arithmetic(), "affine f16");
  // What was given is there as it was given.
  const v1::GenerateRequest& effective = receipt.request();
  EXPECT_EQ(effective.sampling().seed(), 7);
  v1::Sampling sampling = effective.sampling();
  EXPECT_EQ(sampling.best_of(), 2);
  sampling.clear_best_of();
  EXPECT_EQ(sampling.DebugString(), request.sampling().DebugString());
  EXPECT_EQ(effective.stopping().DebugString(),
            request.stopping().DebugString());
  EXPECT_EQ(effective.model().name(), "tiny-pot");
  EXPECT_EQ(effective.model().digest(), answer.summary().model().sha256());
  EXPECT_TRUE(effective.has_token_ids());
}

TEST_F(ReceiptTest, SettlesWhatWasUnset) {
  v1::GenerateRequest request = WithReceipt("the dog");
  request.mutable_sampling()->Clear();
  request.mutable_stopping()->Clear();
  const v1::GenerateResponse answer = Generate(request);
  const v1::GenerateRequest& effective = answer.summary().receipt().request();
  const v1::Sampling& sampling = effective.sampling();
  EXPECT_EQ(sampling.temperature(), 1);
  EXPECT_EQ(sampling.top_p(), 1);
  EXPECT_EQ(sampling.typical_p(), 1);
  EXPECT_EQ(sampling.repetition_penalty(), 1);
  EXPECT_EQ(sampling.n(), 1);
  EXPECT_EQ(sampling.best_of(), 1);
  EXPECT_TRUE(sampling.has_seed());
  EXPECT_EQ(sampling.seed(), answer.summary().seed());
  // Every optional field is set.
  const google::protobuf::Descriptor* type = v1::Sampling::descriptor();
  for (int i = 0; i < type->field_count(); ++i) {
    const auto* field = type->field(i);
    if (field->is_repeated()) continue;
    EXPECT_TRUE(sampling.GetReflection()->HasField(sampling, field))
        << field->name();
  }
  EXPECT_EQ(
      effective.stopping().max_new_tokens() + effective.token_ids().ids_size(),
      64);
  EXPECT_TRUE(effective.stopping().has_min_new_tokens());
}

TEST_F(ReceiptTest, ItsRequestGivesTheSameReceiptAgain) {
  for (const bool everything : {false, true}) {
    v1::GenerateRequest request = WithReceipt("the dog sleeps");
    if (everything) request = WithEverything(request);
    const v1::GenerateResponse answer = Generate(request);
    const v1::ReplayReceipt& receipt = answer.summary().receipt();
    ASSERT_EQ(receipt.sequences_size(), everything ? 2 : 1);
    EXPECT_EQ(Generate(receipt.request()).summary().receipt().DebugString(),
              receipt.DebugString());
    EXPECT_EQ(Stream(receipt.request()).receipt().DebugString(),
              receipt.DebugString());
  }
}

TEST_F(ReceiptTest, TruncatedPromptsAreReplayedAsTheModelSawThem) {
  std::string text;
  for (int i = 0; i < 60; ++i) absl::StrAppend(&text, "the dog ");
  v1::GenerateRequest request = WithReceipt(text);
  request.set_overflow(v1::CONTEXT_OVERFLOW_TRUNCATE_LEFT);
  const v1::GenerateResponse answer = Generate(request);
  EXPECT_GT(answer.summary().usage().truncated_tokens(), 0);
  const v1::ReplayReceipt& receipt = answer.summary().receipt();
  EXPECT_EQ(receipt.request().overflow(), v1::CONTEXT_OVERFLOW_REJECT);
  EXPECT_EQ(receipt.request().token_ids().ids_size(), 64 - 12);
  EXPECT_EQ(Generate(receipt.request()).summary().receipt().output_sha256(),
            receipt.output_sha256());
}

TEST_F(ReceiptTest, BestOfKeepsTheReceiptOfWhatIsReturned) {
  v1::GenerateRequest request = WithReceipt("the dog");
  request.mutable_sampling()->set_n(2);
  request.mutable_sampling()->set_best_of(5);
  request.mutable_output()->set_return_token_ids(true);
  const v1::GenerateResponse answer = Generate(request);
  const v1::ReplayReceipt& receipt = answer.summary().receipt();
  ASSERT_EQ(receipt.sequences_size(), 2);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(std::vector<int32_t>(receipt.sequences(i).token_ids().begin(),
                                   receipt.sequences(i).token_ids().end()),
              std::vector<int32_t>(answer.sequences(i).token_ids().begin(),
                                   answer.sequences(i).token_ids().end()));
    EXPECT_EQ(receipt.sequences(i).logits_xxh64_size(),
              receipt.sequences(i).token_ids_size());
  }
  EXPECT_EQ(Generate(receipt.request()).summary().receipt().output_sha256(),
            receipt.output_sha256());
}

// The checksums are those of the engine's logits, computed here without the
// scheduler, all positions at once and with another kernel.
TEST_F(ReceiptTest, ChecksumsAreOfTheLogits) {
  const v1::GenerateResponse answer = Generate(WithReceipt("the dog"));
  const v1::ReplayReceipt& receipt = answer.summary().receipt();
  const v1::ReceiptSequence& sequence = receipt.sequences(0);
  ASSERT_THAT(sequence.token_ids(), SizeIs(12));
  ASSERT_THAT(sequence.logits_xxh64(), SizeIs(12));

  LoadOptions options;
  options.kernels = FindKernelTable("scalar").value();
  const auto weights =
      LoadModelWeights(absl::StrCat(TinyRepository(), "/tiny-pot/1"), options);
  ASSERT_TRUE(weights.ok()) << weights.status();
  const auto& prompt = receipt.request().token_ids().ids();
  std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  tokens.insert(tokens.end(), sequence.token_ids().begin(),
                sequence.token_ids().end() - 1);
  const auto cache = KvCache::Create((*weights)->config, KvType::kF16, 64,
                                     std::make_shared<KvBudget>(1 << 30));
  ASSERT_TRUE(cache.ok());
  ThreadPool pool(1);
  ForwardScratch scratch;
  std::vector<float> logits;
  ASSERT_TRUE(Forward(**weights,
                      {{cache->get(), tokens, ForwardSpan::Logits::kAll}},
                      &pool, &scratch, &logits)
                  .ok());
  const int64_t V = (*weights)->config.vocab_size;
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(sequence.logits_xxh64(i),
              Xxh64(absl::MakeConstSpan(logits).subspan(
                  (prompt.size() - 1 + i) * V, V)))
        << i;
  }
}

// Byte by byte as the .proto says.
TEST_F(ReceiptTest, DigestIsOfCountsTokensAndChecksums) {
  v1::GenerateRequest request = WithReceipt("the dog");
  request.mutable_sampling()->set_n(2);
  const v1::GenerateResponse answer = Generate(request);
  const v1::ReplayReceipt& receipt = answer.summary().receipt();
  std::vector<uint8_t> bytes;
  const auto append = [&bytes](uint64_t value, int size) {
    for (int i = 0; i < size; ++i) bytes.push_back((value >> (8 * i)) & 255);
  };
  for (const v1::ReceiptSequence& sequence : receipt.sequences()) {
    append(sequence.token_ids_size(), 8);
    for (const int32_t id : sequence.token_ids()) append(id, 4);
    for (const uint64_t sum : sequence.logits_xxh64()) append(sum, 8);
  }
  EXPECT_EQ(receipt.output_sha256(), Sha256Hex(bytes));
}

TEST_F(ReceiptTest, OnlyOnRequestAndOnlyOfQuantizedModels) {
  v1::GenerateRequest request = Request("the dog");
  EXPECT_FALSE(Generate(request).summary().has_receipt());
  request.mutable_output()->set_receipt(true);
  request.mutable_model()->set_name("tiny");
  grpc::ClientContext context;
  v1::GenerateResponse response;
  const std::string error =
      Describe(stub_->Generate(&context, request, &response));
  EXPECT_THAT(
      error,
      StartsWith("FAILED_PRECONDITION NOT_REPRODUCIBLE output.receipt: "));
  EXPECT_THAT(error, HasSubstr("f32"));
}

}  // namespace
}  // namespace pot
