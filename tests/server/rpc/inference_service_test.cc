#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "server/observability/log.h"
#include "tests/server/rpc/server_testing.h"

namespace pot {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

using InferenceTest = ServerTest;

struct StreamedAnswer {
  std::map<uint32_t, v1::GeneratedSequence> sequences;
  v1::GeneratePrompt prompt;
  v1::GenerateSummary summary;
  int chunks = 0;
  grpc::Status status;
};

StreamedAnswer ReadAll(grpc::ClientReader<v1::GenerateStreamResponse>* reader) {
  StreamedAnswer answer;
  v1::GenerateStreamResponse message;
  while (reader->Read(&message)) {
    if (message.has_prompt()) {
      EXPECT_EQ(answer.chunks, 0) << "the prompt comes first";
      answer.prompt = message.prompt();
    } else if (message.has_summary()) {
      answer.summary = message.summary();
    } else {
      ++answer.chunks;
      const v1::GenerateChunk& chunk = message.chunk();
      v1::GeneratedSequence& sequence = answer.sequences[chunk.index()];
      EXPECT_EQ(sequence.finish_reason(), v1::FINISH_REASON_UNSPECIFIED);
      sequence.set_index(chunk.index());
      sequence.mutable_text()->append(chunk.text());
      sequence.mutable_token_ids()->MergeFrom(chunk.token_ids());
      sequence.mutable_logprobs()->MergeFrom(chunk.logprobs());
      sequence.set_finish_reason(chunk.finish_reason());
      sequence.set_stop_string(chunk.stop_string());
      if (chunk.has_stop_token_id()) {
        sequence.set_stop_token_id(chunk.stop_token_id());
      }
      sequence.set_cumulative_logprob(chunk.cumulative_logprob());
    }
  }
  answer.status = reader->Finish();
  return answer;
}

TEST_F(InferenceTest, StreamAndUnaryGiveTheSameAnswer) {
  v1::GenerateRequest request = Request("the dog");
  request.mutable_sampling()->set_n(3);
  request.mutable_output()->set_echo(true);
  request.mutable_output()->set_logprobs(2);
  request.mutable_output()->set_prompt_logprobs(1);
  request.mutable_output()->set_return_token_ids(true);
  request.mutable_stopping()->set_max_new_tokens(40);
  request.mutable_stopping()->add_stop_strings("e");
  request.set_request_id("mine");

  v1::GenerateResponse whole;
  {
    grpc::ClientContext context;
    const grpc::Status status = stub_->Generate(&context, request, &whole);
    ASSERT_TRUE(status.ok()) << Describe(status);
  }
  grpc::ClientContext context;
  v1::GenerateStreamRequest stream_request;
  *stream_request.mutable_request() = request;
  const auto reader = stub_->GenerateStream(&context, stream_request);
  const StreamedAnswer streamed = ReadAll(reader.get());
  ASSERT_TRUE(streamed.status.ok()) << Describe(streamed.status);

  ASSERT_EQ(whole.sequences_size(), 3);
  ASSERT_THAT(streamed.sequences, SizeIs(3));
  for (const v1::GeneratedSequence& sequence : whole.sequences()) {
    EXPECT_EQ(sequence.DebugString(),
              streamed.sequences.at(sequence.index()).DebugString());
    EXPECT_THAT(sequence.text(), StartsWith("the dog"));
    EXPECT_GE(sequence.token_ids_size(), 1);
    EXPECT_EQ(sequence.logprobs_size(), sequence.token_ids_size());
    EXPECT_EQ(sequence.logprobs(0).alternatives_size(), 2);
    EXPECT_NE(sequence.finish_reason(), v1::FINISH_REASON_UNSPECIFIED);
    double sum = 0;
    for (const auto& token : sequence.logprobs()) sum += token.logprob();
    // At most 40 float roundings of values below 2^5.
    EXPECT_NEAR(sequence.cumulative_logprob(), sum, 40 * 0x1p-19);
  }
  EXPECT_EQ(whole.prompt().DebugString(), streamed.prompt.DebugString());
  EXPECT_EQ(whole.prompt().logprobs_size(), whole.prompt().token_ids_size());
  EXPECT_FALSE(whole.prompt().logprobs(0).has_logprob());
  EXPECT_TRUE(whole.prompt().logprobs(1).has_logprob());
  for (const v1::GenerateSummary& summary :
       {whole.summary(), streamed.summary}) {
    EXPECT_EQ(summary.seed(), 7);
    EXPECT_EQ(summary.request_id(), "mine");
    EXPECT_EQ(summary.model().name(), "tiny-pot");
    EXPECT_EQ(summary.model().version(), 1);
    EXPECT_THAT(summary.model().sha256(), SizeIs(64));
    EXPECT_THAT(summary.model().engine(), StartsWith("pot/"));
    EXPECT_EQ(summary.usage().prompt_tokens(), whole.prompt().token_ids_size());
    EXPECT_GE(summary.usage().generated_tokens(), 3);
    EXPECT_GT(summary.timings().total_seconds(), 0);
  }
}

TEST_F(InferenceTest, ThePickedSeedRepeatsTheText) {
  v1::GenerateRequest request = Request("the");
  request.mutable_sampling()->clear_seed();
  v1::GenerateResponse first;
  v1::GenerateResponse second;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(stub_->Generate(&context, request, &first).ok());
  }
  request.mutable_sampling()->set_seed(first.summary().seed());
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->Generate(&context, request, &second).ok());
  EXPECT_EQ(first.sequences(0).text(), second.sequences(0).text());
}

TEST_F(InferenceTest, UsageTellsWhatOfThePromptWasCached) {
  ServerConfig config = TinyServerConfig();
  config.prefix_cache = int64_t{1} << 20;
  StartServer(config, /*load=*/true);
  v1::GenerateRequest request = Request("");
  for (int i = 0; i < 40; ++i) request.mutable_token_ids()->add_ids(60 + i % 9);
  request.mutable_stopping()->set_max_new_tokens(5);
  v1::GenerateResponse answers[2];
  for (v1::GenerateResponse& answer : answers) {
    grpc::ClientContext context;
    const grpc::Status status = stub_->Generate(&context, request, &answer);
    ASSERT_TRUE(status.ok()) << Describe(status);
    EXPECT_EQ(answer.summary().usage().prompt_tokens(), 40);
  }
  // Two whole blocks of 16 positions.
  EXPECT_EQ(answers[0].summary().usage().cached_prompt_tokens(), 0);
  EXPECT_EQ(answers[1].summary().usage().cached_prompt_tokens(), 32);
  EXPECT_EQ(answers[0].sequences(0).DebugString(),
            answers[1].sequences(0).DebugString());
}

TEST_F(InferenceTest, ScoreAgreesWithTheLogprobsOfThePrompt) {
  v1::GenerateRequest generate = Request("the dog sleeps");
  generate.mutable_output()->set_prompt_logprobs(1);
  generate.mutable_stopping()->set_max_new_tokens(1);
  v1::GenerateResponse generated;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(stub_->Generate(&context, generate, &generated).ok());
  }
  v1::ScoreRequest request;
  request.mutable_model()->set_name("tiny-pot");
  request.set_text("the dog sleeps");
  request.set_alternatives(1);
  v1::ScoreResponse response;
  {
    grpc::ClientContext context;
    const grpc::Status status = stub_->Score(&context, request, &response);
    ASSERT_TRUE(status.ok()) << Describe(status);
  }
  ASSERT_EQ(response.scores_size(), 1);
  const auto& tokens = response.scores(0).tokens();
  ASSERT_EQ(tokens.size(), generated.prompt().logprobs_size());
  for (int i = 0; i < tokens.size(); ++i) {
    EXPECT_EQ(tokens[i].DebugString(),
              generated.prompt().logprobs(i).DebugString());
  }

  // The same tokens as prompt and continuations.
  v1::ScoreRequest parts;
  parts.mutable_model()->set_name("tiny-pot");
  parts.mutable_token_ids()->add_ids(tokens[0].token_id());
  for (int copy = 0; copy < 9; ++copy) {
    auto* ids = parts.add_continuations()->mutable_token_ids();
    for (int i = 1; i < tokens.size(); ++i) ids->add_ids(tokens[i].token_id());
  }
  v1::ScoreResponse scores;
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->Score(&context, parts, &scores).ok());
  ASSERT_EQ(scores.scores_size(), 9);
  for (const v1::ScoredText& score : scores.scores()) {
    EXPECT_EQ(score.total_logprob(), response.scores(0).total_logprob());
    EXPECT_EQ(score.scored_tokens(), tokens.size() - 1);
    EXPECT_EQ(score.tokens_size(), tokens.size() - 1);
    EXPECT_EQ(score.tokens(0).alternatives_size(), 0);
  }
}

TEST_F(InferenceTest, TokensAndTextAreInverse) {
  v1::TokenizeRequest tokenize;
  tokenize.mutable_model()->set_name("tiny");
  tokenize.set_text("the miller's dog \u00e9\U0001F600");
  tokenize.set_return_pieces(true);
  v1::TokenizeResponse tokens;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(stub_->Tokenize(&context, tokenize, &tokens).ok());
  }
  std::string joined;
  for (const std::string& piece : tokens.pieces()) joined += piece;
  EXPECT_EQ(joined, tokenize.text());
  EXPECT_THAT(tokens.model().engine(), HasSubstr("fp32"));
  v1::DetokenizeRequest detokenize;
  detokenize.mutable_model()->set_name("tiny");
  *detokenize.mutable_token_ids() = tokens.token_ids();
  v1::DetokenizeResponse text;
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->Detokenize(&context, detokenize, &text).ok());
  EXPECT_EQ(text.text(), tokenize.text());
  EXPECT_EQ(text.data(), tokenize.text());
}

TEST_F(InferenceTest, ErrorsHaveCodesReasonsAndFields) {
  const auto outcome = [this](const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    return Describe(stub_->Generate(&context, request, &response));
  };
  EXPECT_THAT(
      outcome(Request(std::string("a\xff"))),
      HasSubstr("INVALID_ARGUMENT INVALID_UTF8 text: text is not UTF-8: "
                "byte 1"));
  v1::GenerateRequest unknown = Request("a");
  unknown.mutable_model()->set_name("nobody");
  EXPECT_THAT(outcome(unknown), StartsWith("NOT_FOUND MODEL_NOT_FOUND"));
  unknown = Request("a");
  unknown.mutable_model()->set_version(9);
  EXPECT_THAT(outcome(unknown), StartsWith("NOT_FOUND VERSION_NOT_FOUND"));
  EXPECT_THAT(outcome(Request(std::string(5 << 20, 'a'))),
              StartsWith("RESOURCE_EXHAUSTED"));
  v1::GenerateRequest bad = Request("a");
  bad.mutable_sampling()->set_top_p(0);
  EXPECT_THAT(outcome(bad),
              StartsWith("INVALID_ARGUMENT INVALID_FIELD sampling.top_p"));
  grpc::ClientContext context;
  const auto reader = stub_->GenerateStream(&context, {});
  EXPECT_THAT(Describe(ReadAll(reader.get()).status),
              StartsWith("INVALID_ARGUMENT MISSING_FIELD request"));
  // And the server still works.
  EXPECT_THAT(outcome(Request("a")), StartsWith("OK"));
}

TEST_F(InferenceTest, ASlowReaderStallsNobodyElseAndLosesNothing) {
  v1::GenerateStreamRequest request = LongStream();
  StreamedAnswer prompt_reader;
  {
    grpc::ClientContext context;
    const auto reader = stub_->GenerateStream(&context, request);
    prompt_reader = ReadAll(reader.get());
    ASSERT_TRUE(prompt_reader.status.ok()) << Describe(prompt_reader.status);
  }
  grpc::ClientContext slow_context;
  const auto slow = stub_->GenerateStream(&slow_context, request);
  slow->WaitForInitialMetadata();
  for (int i = 0; i < 5; ++i) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::seconds(20));
    v1::GenerateResponse response;
    const grpc::Status status =
        stub_->Generate(&context, Request("the"), &response);
    ASSERT_TRUE(status.ok()) << Describe(status);
  }
  const StreamedAnswer answer = ReadAll(slow.get());
  ASSERT_TRUE(answer.status.ok()) << Describe(answer.status);
  ASSERT_THAT(answer.sequences, SizeIs(16));
  for (const auto& [index, sequence] : answer.sequences) {
    EXPECT_EQ(sequence.text(), prompt_reader.sequences.at(index).text());
  }
}

// What `run` makes the server log.
std::string LogOf(const std::function<void()>& run) {
  testing::internal::CaptureStderr();
  EXPECT_TRUE(StartLogging(LogLevel::kInfo, LogFormat::kText).ok());
  run();
  StopLogging();
  return testing::internal::GetCapturedStderr();
}

TEST_F(InferenceTest, CancellationEndsAParkedCall) {
  const std::string log = LogOf([this] {
    grpc::ClientContext context;
    const auto reader = stub_->GenerateStream(&context, LongStream());
    v1::GenerateStreamResponse message;
    ASSERT_TRUE(reader->Read(&message));
    context.TryCancel();
    while (reader->Read(&message)) {
    }
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
    EXPECT_TRUE(AllCallsEnd());
  });
  // Parked before its end, or it would have been OK.
  EXPECT_THAT(log, HasSubstr("method=GenerateStream"));
  EXPECT_THAT(log, HasSubstr("code=CANCELLED model=tiny-pot version=1"));
}

TEST_F(InferenceTest, TheDeadlineEndsAParkedCall) {
  const std::string log = LogOf([this] {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::milliseconds(300));
    const auto reader = stub_->GenerateStream(&context, LongStream());
    v1::GenerateStreamResponse message;
    ASSERT_TRUE(reader->Read(&message));
    absl::SleepFor(absl::Milliseconds(400));
    while (reader->Read(&message)) {
    }
    EXPECT_EQ(reader->Finish().error_code(),
              grpc::StatusCode::DEADLINE_EXCEEDED);
    EXPECT_TRUE(AllCallsEnd());
  });
  // Ended by the server's clock, or by the client, which gives up at the same
  // moment and tells the server that it has cancelled.
  EXPECT_THAT(log,
              testing::AnyOf(HasSubstr("code=DEADLINE_EXCEEDED model=tiny-pot"),
                             HasSubstr("code=CANCELLED model=tiny-pot")));
}

TEST_F(InferenceTest, AStreamThatNobodyReadsGivesItsMemoryBack) {
  const std::string log = LogOf([this] {
    ServerConfig config = TinyServerConfig();
    // All of them are the stream's.
    config.max_running_sequences = 16;
    config.write_timeout = absl::Milliseconds(300);
    StartServer(config, /*load=*/true);
    grpc::ClientContext context;
    const auto reader = stub_->GenerateStream(&context, LongStream());
    v1::GenerateStreamResponse message;
    ASSERT_TRUE(reader->Read(&message));

    grpc::ClientContext waiting;
    waiting.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::seconds(20));
    v1::GenerateResponse response;
    const grpc::Status answered =
        stub_->Generate(&waiting, Request("the"), &response);
    EXPECT_TRUE(answered.ok()) << Describe(answered);

    while (reader->Read(&message)) {
    }
    const grpc::Status status = reader->Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
    EXPECT_THAT(status.error_message(), HasSubstr("the limit of 300ms"));
    EXPECT_TRUE(AllCallsEnd());
  });
  EXPECT_THAT(log, HasSubstr("code=DEADLINE_EXCEEDED model=tiny-pot"));
  EXPECT_THAT(log, HasSubstr("reason=WRITE_TIMEOUT"));
}

TEST_F(InferenceTest, AReaderThatIsSlowButReadsKeepsItsStream) {
  ServerConfig config = TinyServerConfig();
  config.write_timeout = absl::Seconds(3);
  StartServer(config, /*load=*/true);
  grpc::ClientContext context;
  const auto reader = stub_->GenerateStream(&context, LongStream());
  v1::GenerateStreamResponse message;
  // Each pause is far shorter than the limit, so that a busy machine does not
  // matter; all of them together are longer.
  for (int pause = 0; pause < 8; ++pause) {
    absl::SleepFor(absl::Milliseconds(400));
    // More than the transport buffers, so that the server writes again.
    for (int i = 0; i < 150; ++i) reader->Read(&message);
  }
  const StreamedAnswer rest = ReadAll(reader.get());
  EXPECT_TRUE(rest.status.ok()) << Describe(rest.status);
}

TEST_F(InferenceTest, TheLogHasALineForEveryCallButNoText) {
  const std::string log = LogOf([this] {
    v1::GenerateRequest request = Request("the secret miller");
    request.set_request_id("name=\"x\"");
    for (const float top_p : {1.0f, 0.0f}) {
      request.mutable_sampling()->set_top_p(top_p);
      grpc::ClientContext context;
      v1::GenerateResponse response;
      stub_->Generate(&context, request, &response);
    }
  });
  EXPECT_THAT(log, HasSubstr("method=Generate "
                             "request_id=\"name=\\\"x\\\"\" code=OK"));
  EXPECT_THAT(log, HasSubstr("code=INVALID_ARGUMENT"));
  EXPECT_THAT(log, HasSubstr("reason=INVALID_FIELD"));
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 2);
  EXPECT_THAT(log, Not(HasSubstr("secret")));
}

}  // namespace
}  // namespace pot
