#include "server/rpc/perplexity.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/mutex.h"
#include "engine/base/status_macros.h"
#include "engine/gpt2/evaluation.h"
#include "pot/v1/inference.pb.h"
#include "server/rpc/answer.h"
#include "server/rpc/incremental_tokenizer.h"
#include "server/rpc/message_writer.h"
#include "server/rpc/request_parser.h"
#include "server/rpc/score_pipeline.h"
#include "server/rpc/wire.h"
#include "server/serving/field_errors.h"

namespace pot {
namespace {

constexpr absl::Duration kProgressInterval = absl::Milliseconds(300);

void Add(const EvaluationSums& part, EvaluationSums* sums) {
  sums->tokens += part.tokens;
  sums->bytes += part.bytes;
  sums->nats += part.nats;
  sums->nats_squared += part.nats_squared;
  sums->kl += part.kl;
  sums->top1_agreements += part.top1_agreements;
  sums->reference_nats += part.reference_nats;
  sums->difference_squared += part.difference_squared;
}

// Tokens on their way to windows. Thread-safe.
class WindowQueue {
 public:
  explicit WindowQueue(EvaluationProtocol protocol)
      : stride_(protocol.stride), cutter_(protocol) {}

  void Push(std::vector<int32_t> tokens) {
    MutexLock lock(&mutex_);
    total_ += static_cast<int64_t>(tokens.size());
    tokens_.erase(tokens_.begin(), tokens_.begin() + used_);
    used_ = 0;
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  }
  // No token will follow; returns how many there were.
  int64_t Finish() {
    MutexLock lock(&mutex_);
    finished_ = true;
    return total_;
  }
  size_t waiting() const {
    MutexLock lock(&mutex_);
    return tokens_.size() - used_;
  }

  ScorePipeline::Source Next(WindowCutter::Window* window) {
    MutexLock lock(&mutex_);
    // A stride of tokens at a time makes one window at a time.
    while (windows_.empty() && used_ < static_cast<int64_t>(tokens_.size())) {
      const int64_t size = std::min<int64_t>(
          stride_, static_cast<int64_t>(tokens_.size()) - used_);
      Keep(cutter_.Push(absl::MakeSpan(tokens_).subspan(used_, size)));
      used_ += size;
    }
    if (windows_.empty() && finished_ && !cut_) {
      cut_ = true;
      Keep(cutter_.Finish());
    }
    if (windows_.empty()) {
      return finished_ ? ScorePipeline::Source::kEnd
                       : ScorePipeline::Source::kNotYet;
    }
    *window = std::move(windows_.front());
    windows_.pop_front();
    return ScorePipeline::Source::kWindow;
  }

 private:
  void Keep(std::vector<WindowCutter::Window> windows)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (WindowCutter::Window& window : windows) {
      windows_.push_back(std::move(window));
    }
  }

  const int64_t stride_;
  mutable Mutex mutex_;
  WindowCutter cutter_ ABSL_GUARDED_BY(mutex_);
  std::vector<int32_t> tokens_ ABSL_GUARDED_BY(mutex_);
  int64_t used_ ABSL_GUARDED_BY(mutex_) = 0;  // of tokens_
  std::deque<WindowCutter::Window> windows_ ABSL_GUARDED_BY(mutex_);
  int64_t total_ ABSL_GUARDED_BY(mutex_) = 0;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool cut_ ABSL_GUARDED_BY(mutex_) = false;
};

// Reads pieces and tokenizes them on gRPC's threads; results come on the
// scheduler's.
class PerplexityReactor final
    : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  PerplexityReactor(const ServiceContext& context,
                    grpc::CallbackServerContext* rpc)
      : context_(context),
        patience_(context.scheduler, *rpc),
        call_(std::make_shared<Call>(context.calls, "Perplexity", *rpc)),
        writer_(std::make_shared<MessageWriter>(
            this, 1, [] {},
            std::make_shared<StreamWatch>(StreamWatch::Direction::kWrites, rpc,
                                          context.write_timeout))),
        read_watch_(
            std::make_shared<StreamWatch>(StreamWatch::Direction::kReads, rpc,
                                          context.calls->read_timeout())) {}

  void Begin() {
    call_->SetPatience(patience_);
    const absl::Status status = call_->Enter();
    if (!status.ok()) return FailCall(status);
    MutexLock lock(&mutex_);
    Read();
  }

  void OnReadDone(bool ok) override {
    read_watch_->End();
    if (!ok) {
      const absl::Status late = read_watch_->status();
      if (!late.ok()) return FailCall(late);
    }
    const absl::Status status = ok ? TakeMessage() : TakeEnd();
    if (!status.ok()) return FailCall(status);
    std::shared_ptr<ScorePipeline> pipeline;
    {
      MutexLock lock(&mutex_);
      pipeline = pipeline_;
      read_wanted_ = ok;
    }
    if (pipeline != nullptr) pipeline->Pump();
    MaybeRead();
  }
  void OnWriteDone(bool ok) override {
    if (!ok) OnCancel();
    const std::shared_ptr<MessageWriter> writer = writer_;
    writer->OnWriteDone(ok);
  }
  void OnCancel() override {
    patience_.OnCancel();
    const absl::Status late = read_watch_->status();
    if (!late.ok()) return FailCall(late);
    FailCall(absl::Now() < patience_.deadline()
                 ? absl::CancelledError("the client is gone")
                 : absl::DeadlineExceededError("the deadline has passed"));
  }
  void OnDone() override {
    read_watch_->Stop();
    delete this;
  }

 private:
  absl::Status TakeMessage() {
    v1::PerplexityRequest message;
    POT_RETURN_IF_ERROR(ParseMessage(request_, &message));
    request_.Clear();
    if (windows_ == nullptr) {
      if (!message.has_options()) {
        return FieldError("MISSING_FIELD", "options",
                          "is missing: the first message must have it", "", "");
      }
      return TakeOptions(message.options());
    }
    if (message.has_options()) {
      return FieldError("MISSING_FIELD", "options",
                        "may be given in the first message only", "", "");
    }
    if (!message.has_text()) {
      return FieldError("MISSING_FIELD", "text", "is missing", "", "");
    }
    std::vector<int32_t> tokens;
    POT_RETURN_IF_ERROR(tokenizer_->Push(message.text(), &tokens));
    windows_->Push(std::move(tokens));
    received_bytes_.store(tokenizer_->received_bytes());
    return absl::OkStatus();
  }

  absl::Status TakeEnd() {
    if (windows_ == nullptr) {
      return FieldError("MISSING_FIELD", "options",
                        "is missing: the stream has no message", "", "");
    }
    std::vector<int32_t> tokens;
    POT_RETURN_IF_ERROR(tokenizer_->Finish(&tokens));
    windows_->Push(std::move(tokens));
    const int64_t total = windows_->Finish();
    if (total >= 2) return absl::OkStatus();
    return FieldError(
        "EMPTY_PROMPT", "text",
        absl::StrCat("must have at least two tokens; it has ", total), "2",
        absl::StrCat(total));
  }

  absl::Status TakeOptions(const v1::PerplexityOptions& options) {
    POT_ASSIGN_OR_RETURN(const ModelSelector selector,
                         ParseModelRef(options.model(), "options.model"));
    POT_ASSIGN_OR_RETURN(model_, context_.repository->Acquire(selector));
    call_->SetModel(*model_);
    if (options.has_reference()) {
      POT_ASSIGN_OR_RETURN(
          const ModelSelector reference,
          ParseModelRef(options.reference(), "options.reference"));
      POT_ASSIGN_OR_RETURN(reference_, context_.repository->Acquire(reference));
    }
    POT_ASSIGN_OR_RETURN(
        parsed_,
        ParsePerplexity(options, *model_, reference_.get(), &RandomFromSystem));
    call_->SetRequestId(parsed_.request_id);
    POT_ASSIGN_OR_RETURN(
        IncrementalTokenizer tokenizer,
        IncrementalTokenizer::Create(model_->tokenizer.get(), "text"));
    tokenizer_.emplace(std::move(tokenizer));
    windows_ = std::make_unique<WindowQueue>(parsed_.protocol);

    ScoreTask task;
    task.request_id = parsed_.request_id;
    task.model = model_;
    task.reference = reference_;
    task.deadline = patience_.deadline();
    task.cancelled = patience_.cancelled();
    auto pipeline = std::make_shared<ScorePipeline>(
        context_.scheduler, std::move(task),
        ScorePipeline::Hooks{
            .next = [this](auto* window) { return windows_->Next(window); },
            .result = [this](auto result) { AddResult(result); },
            .end = [this](const auto& status) { End(status); }});
    MutexLock lock(&mutex_);
    if (!finished_) pipeline_ = std::move(pipeline);
    return absl::OkStatus();
  }

  // Under the lock, so that no read starts after the finish.
  void MaybeRead() {
    MutexLock lock(&mutex_);
    if (finished_ || !read_wanted_ ||
        windows_->waiting() >= kMaxBufferedTokens) {
      return;
    }
    read_wanted_ = false;
    Read();
  }
  void Read() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    read_watch_->Begin();
    StartRead(&request_);
  }

  void AddResult(const ScoreTask::Result& result) {
    if (sums_.tokens == 0) timings_.queue = result.timings.queue;
    timings_.prefill += result.timings.prefill;
    Add(result.sums, &sums_);
    if (absl::Now() - last_progress_ >= kProgressInterval &&
        writer_->ReadyForMore()) {
      last_progress_ = absl::Now();
      v1::PerplexityResponse message;
      message.mutable_progress()->set_tokens(sums_.tokens);
      message.mutable_progress()->set_total_nats(sums_.nats);
      message.mutable_progress()->set_received_bytes(received_bytes_.load());
      Write(message);
    }
    MaybeRead();
  }

  // As a hook of the pipeline.
  void End(const absl::Status& status) {
    {
      MutexLock lock(&mutex_);
      finished_ = true;
    }
    call_->SetUsage({.prompt_tokens = sums_.tokens}, timings_);
    if (status.ok()) {
      v1::PerplexityResponse message;
      FillResult(message.mutable_result());
      Write(message);
    }
    Finish(status);
  }

  void FailCall(const absl::Status& status) {
    std::shared_ptr<ScorePipeline> pipeline;
    {
      MutexLock lock(&mutex_);
      if (finished_) return;
      pipeline = pipeline_;
      if (pipeline == nullptr) finished_ = true;
    }
    if (pipeline != nullptr) {
      pipeline->Fail(status);
    } else {
      Finish(status);
    }
  }

  void Finish(const absl::Status& status) {
    const std::shared_ptr<MessageWriter> writer = writer_;
    writer->Finish([call = call_, status](const absl::Status& written) {
      return call->End(MessageWriter::Outcome(status, written));
    });
  }

  void Write(const v1::PerplexityResponse& message) {
    grpc::ByteBuffer bytes;
    if (SerializeMessage(message, &bytes).ok()) {
      writer_->Write(std::move(bytes));
    }
  }

  void FillResult(v1::PerplexityResult* result) const {
    result->set_window(static_cast<int32_t>(parsed_.protocol.window));
    result->set_stride(static_cast<int32_t>(parsed_.protocol.stride));
    result->set_tokens(sums_.tokens);
    result->set_bytes(sums_.bytes);
    result->set_total_nats(sums_.nats);
    result->set_nats_per_token(sums_.mean_nats());
    result->set_perplexity(sums_.perplexity());
    result->set_bits_per_byte(sums_.bits_per_byte());
    result->set_standard_error(sums_.standard_error());
    if (reference_ != nullptr) {
      const double tokens = static_cast<double>(sums_.tokens);
      v1::PerplexityComparison* comparison = result->mutable_comparison();
      FillIdentity(*reference_, context_.engine,
                   comparison->mutable_reference());
      EvaluationSums reference;
      reference.tokens = sums_.tokens;
      reference.nats = sums_.reference_nats;
      comparison->set_reference_nats_per_token(reference.mean_nats());
      comparison->set_reference_perplexity(reference.perplexity());
      comparison->set_mean_kl_nats(sums_.kl / tokens);
      comparison->set_top1_agreement(
          static_cast<double>(sums_.top1_agreements) / tokens);
      comparison->set_difference_standard_error(
          sums_.difference_standard_error());
    }
    FillIdentity(*model_, context_.engine, result->mutable_model());
    result->set_request_id(parsed_.request_id);
    FillTimings(timings_, call_->elapsed(), result->mutable_timings());
  }

  const ServiceContext& context_;
  Patience patience_;
  const std::shared_ptr<Call> call_;
  const std::shared_ptr<MessageWriter> writer_;
  const std::shared_ptr<StreamWatch> read_watch_;

  // Of OnReadDone, of which there is one at a time; set once with the options.
  grpc::ByteBuffer request_;
  std::optional<IncrementalTokenizer> tokenizer_;
  std::shared_ptr<const LoadedModel> model_;
  std::shared_ptr<const LoadedModel> reference_;
  ParsedPerplexity parsed_;
  std::unique_ptr<WindowQueue> windows_;
  std::atomic<int64_t> received_bytes_ = 0;

  // Of the pipeline's hooks.
  EvaluationSums sums_;
  TaskTimings timings_;
  absl::Time last_progress_ = absl::Now();

  Mutex mutex_;
  std::shared_ptr<ScorePipeline> pipeline_ ABSL_GUARDED_BY(mutex_);
  bool read_wanted_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StartPerplexity(
    const ServiceContext& context, grpc::CallbackServerContext* rpc) {
  auto* reactor = new PerplexityReactor(context, rpc);
  reactor->Begin();
  return reactor;
}

}  // namespace pot
