#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "engine/gpt2/evaluation.h"
#include "gmock/gmock.h"
#include "tests/server/rpc/server_testing.h"

namespace pot {
namespace {

using ::testing::StartsWith;

std::string Text() {
  const std::vector<std::string> words = {
      "the ",   "miller's ", "dog sleeps", "  ", "\n\n",           "and ",
      "he'll ", "do.",       " The wheel", ", ", "\u00e9t\u00e9 ", "42 "};
  std::mt19937 random(1);
  std::string text = "The";
  for (int i = 0; i < 400; ++i) text += words[random() % words.size()];
  return text;
}

class PerplexityTest : public ServerTest {
 protected:
  struct Outcome {
    v1::PerplexityResult result;
    grpc::Status status;
  };

  static v1::PerplexityOptions Options() {
    v1::PerplexityOptions options;
    options.mutable_model()->set_name("tiny-pot");
    options.set_request_id("p");
    return options;
  }

  Outcome Run(const v1::PerplexityOptions& options,
              const std::vector<std::string>& pieces) {
    grpc::ClientContext context;
    const auto stream = stub_->Perplexity(&context);
    v1::PerplexityRequest request;
    *request.mutable_options() = options;
    bool open = stream->Write(request);
    for (const std::string& piece : pieces) {
      request.set_text(piece);
      open = open && stream->Write(request);
    }
    if (open) stream->WritesDone();
    Outcome outcome;
    v1::PerplexityResponse response;
    while (stream->Read(&response)) {
      if (response.has_result()) outcome.result = response.result();
    }
    outcome.status = stream->Finish();
    return outcome;
  }

  static std::vector<std::string> Cut(const std::string& text, size_t size) {
    std::vector<std::string> pieces;
    for (size_t begin = 0; begin < text.size(); begin += size) {
      pieces.push_back(text.substr(begin, size));
    }
    return pieces;
  }
};

// The server adds window sums, the evaluation tokens: each sum of N terms has
// at most N roundings of relative size 2^-53.
double RoundingOf(const EvaluationSums& sums) {
  return static_cast<double>(sums.tokens) * 0x1p-52 * std::abs(sums.nats);
}

TEST_F(PerplexityTest, EqualsTheEngineAndDoesNotDependOnTheCut) {
  const std::string text = Text();
  LoadOptions load;
  load.kernels = FindKernelTable("auto").value();
  const auto model =
      LoadModel(TinyRepository() + "/tiny-pot/1", {"tiny-pot", 1, ""}, load);
  ASSERT_TRUE(model.ok()) << model.status();
  const auto reference =
      LoadModel(TinyRepository() + "/tiny/1", {"tiny", 1, ""}, load);
  ASSERT_TRUE(reference.ok()) << reference.status();
  std::vector<int32_t> tokens;
  ASSERT_TRUE((*model)->tokenizer->Encode(text, &tokens).ok());
  ThreadPool pool(1);
  for (const int stride : {64, 24}) {
    const auto sums = Evaluate(
        *(*model)->weights, (*reference)->weights.get(), tokens, {64, stride},
        [&](int32_t id) {
          return static_cast<int64_t>(
              (*model)->tokenizer->TokenBytes(id).size());
        },
        &pool, [](int64_t, int64_t) { return true; });
    ASSERT_TRUE(sums.ok()) << sums.status();

    v1::PerplexityOptions options = Options();
    options.mutable_reference()->set_name("tiny");
    options.set_stride(stride);
    double first_nats = 0;
    for (const size_t size : {size_t{1}, size_t{7}, size_t{100}, text.size()}) {
      const Outcome outcome = Run(options, Cut(text, size));
      ASSERT_TRUE(outcome.status.ok()) << Describe(outcome.status);
      const v1::PerplexityResult& result = outcome.result;
      EXPECT_EQ(result.window(), 64);
      EXPECT_EQ(result.stride(), stride);
      EXPECT_EQ(result.tokens(), tokens.size() - 1);
      EXPECT_EQ(result.bytes(), sums->bytes);
      EXPECT_NEAR(result.total_nats(), sums->nats, RoundingOf(*sums));
      EXPECT_NEAR(result.perplexity(), sums->perplexity(),
                  sums->perplexity() * RoundingOf(*sums));
      EXPECT_NEAR(result.bits_per_byte(), sums->bits_per_byte(),
                  RoundingOf(*sums));
      EXPECT_NEAR(result.standard_error(), sums->standard_error(), 1e-9);
      EXPECT_EQ(result.comparison().top1_agreement(),
                static_cast<double>(sums->top1_agreements) /
                    static_cast<double>(sums->tokens));
      // The fp32 model's floats may round differently in other batches: 1e-4
      // nats is the bound on fp32 logits.
      EXPECT_NEAR(result.comparison().mean_kl_nats(),
                  sums->kl / static_cast<double>(sums->tokens), 1e-4);
      EXPECT_EQ(result.request_id(), "p");
      // Bit by bit the same for every cut.
      if (size == 1) first_nats = result.total_nats();
      EXPECT_EQ(result.total_nats(), first_nats);
    }
  }
}

TEST_F(PerplexityTest, BadStreamsAreRefused) {
  EXPECT_THAT(Describe(Run(Options(), {}).status),
              StartsWith("INVALID_ARGUMENT EMPTY_PROMPT text"));
  EXPECT_THAT(Describe(Run(Options(), {"t"}).status),
              StartsWith("INVALID_ARGUMENT EMPTY_PROMPT text"));
  EXPECT_THAT(Describe(Run(Options(), {"the dog\xff", " x"}).status),
              StartsWith("INVALID_ARGUMENT INVALID_UTF8 text: text is not "
                         "UTF-8: byte 7"));
  EXPECT_THAT(Describe(Run(Options(),
                           {std::string(700000, 'a'), std::string(700000, 'a')})
                           .status),
              StartsWith("INVALID_ARGUMENT WORD_TOO_LONG text"));
  v1::PerplexityOptions options = Options();
  options.set_window(65);
  EXPECT_THAT(Describe(Run(options, {"the dog"}).status),
              StartsWith("INVALID_ARGUMENT INVALID_FIELD options.window"));
  options = Options();
  options.mutable_reference()->set_name("nobody");
  EXPECT_THAT(Describe(Run(options, {"the dog"}).status),
              StartsWith("NOT_FOUND MODEL_NOT_FOUND"));
  {
    grpc::ClientContext context;
    const auto stream = stub_->Perplexity(&context);
    v1::PerplexityRequest request;
    request.set_text("no options");
    stream->Write(request);
    EXPECT_THAT(Describe(stream->Finish()),
                StartsWith("INVALID_ARGUMENT MISSING_FIELD options"));
  }
  {
    grpc::ClientContext context;
    const auto stream = stub_->Perplexity(&context);
    stream->WritesDone();
    EXPECT_THAT(Describe(stream->Finish()),
                StartsWith("INVALID_ARGUMENT MISSING_FIELD options"));
  }
  {
    grpc::ClientContext context;
    const auto stream = stub_->Perplexity(&context);
    v1::PerplexityRequest request;
    *request.mutable_options() = Options();
    stream->Write(request);
    stream->Write(request);
    EXPECT_THAT(Describe(stream->Finish()),
                StartsWith("INVALID_ARGUMENT MISSING_FIELD options"));
  }
  EXPECT_TRUE(Run(Options(), {"the dog"}).status.ok());
  EXPECT_TRUE(AllCallsEnd());
}

TEST_F(PerplexityTest, CancellationEndsTheCallWhateverItWaitsFor) {
  for (const bool send_options : {false, true}) {
    grpc::ClientContext context;
    const auto stream = stub_->Perplexity(&context);
    if (send_options) {
      v1::PerplexityRequest request;
      *request.mutable_options() = Options();
      ASSERT_TRUE(stream->Write(request));
      request.set_text(Text());
      ASSERT_TRUE(stream->Write(request));
    }
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_TRUE(AllCallsEnd());
}

}  // namespace
}  // namespace pot
