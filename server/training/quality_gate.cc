#include "server/training/quality_gate.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/file.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "engine/base/thread_pool.h"
#include "engine/checkpoint/directory.h"

namespace pot {
namespace {

constexpr int kLowestPriority = 19;
constexpr size_t kMaxEvaluationBytes = 4096;

void LowerPriorityOfThisThread() {
  // In Linux priorities belong to threads. Without success it runs as others.
  static_cast<void>(setpriority(
      PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kLowestPriority));
}

bool AllFinite(const v1::CheckpointEvaluation& evaluation) {
  return std::isfinite(evaluation.nats_per_token()) &&
         std::isfinite(evaluation.perplexity()) &&
         std::isfinite(evaluation.mean_kl_nats());
}

v1::CheckpointEvaluation ToMessage(const EvaluationSums& sums, int64_t step,
                                   bool compared) {
  v1::CheckpointEvaluation message;
  message.set_step(step);
  message.set_tokens(sums.tokens);
  message.set_nats_per_token(sums.mean_nats());
  message.set_perplexity(sums.perplexity());
  message.set_bits_per_byte(sums.bits_per_byte());
  message.set_standard_error(sums.standard_error());
  if (compared) {
    const auto tokens = static_cast<double>(sums.tokens);
    message.set_mean_kl_nats(sums.kl / tokens);
    message.set_top1_agreement(static_cast<double>(sums.top1_agreements) /
                               tokens);
  }
  return message;
}

absl::StatusOr<EvaluationSums> Measure(const LoadedModel& model,
                                       const LoadedModel* reference,
                                       absl::Span<const int32_t> tokens,
                                       const GateInput& input,
                                       const std::function<bool()>& cancelled) {
  ThreadPool pool(1);
  return pot::Evaluate(
      *model.weights, reference == nullptr ? nullptr : reference->weights.get(),
      tokens, input.protocol,
      [&](int32_t id) {
        return static_cast<int64_t>(model.tokenizer->TokenBytes(id).size());
      },
      &pool, [&](int64_t, int64_t) { return !cancelled(); });
}

absl::StatusOr<std::vector<int32_t>> ReadTokens(const GateInput& input,
                                                const Tokenizer& tokenizer) {
  POT_ASSIGN_OR_RETURN(const std::string text, ReadGateText(input.text));
  std::vector<int32_t> tokens;
  POT_RETURN_IF_ERROR(tokenizer.Encode(text, &tokens));
  if (input.max_tokens > 0 &&
      static_cast<int64_t>(tokens.size()) > input.max_tokens) {
    tokens.resize(static_cast<size_t>(input.max_tokens));
  }
  if (tokens.size() < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("the validation text has ", tokens.size(),
                     " tokens; an evaluation needs at least 2"));
  }
  return tokens;
}

}  // namespace

std::vector<std::string> GateViolations(
    const v1::QualityGate& limits, const v1::CheckpointEvaluation* base,
    const v1::CheckpointEvaluation& checkpoint) {
  std::vector<std::string> violations;
  if (!AllFinite(checkpoint)) {
    violations.push_back("the figures of the checkpoint are not finite");
    return violations;
  }
  const double perplexity = checkpoint.perplexity();
  if (limits.has_max_perplexity_ratio()) {
    const double limit = limits.max_perplexity_ratio();
    if (base == nullptr) {
      violations.push_back(
          absl::StrCat("max_perplexity_ratio is ", limit,
                       ", but there is no text to measure the base on"));
    } else if (!(perplexity <= limit * base->perplexity())) {
      violations.push_back(absl::StrCat(
          "max_perplexity_ratio is ", limit, ", but the perplexity is ",
          perplexity / base->perplexity(), " times that of the base (",
          perplexity, " of ", base->perplexity(), ")"));
    }
  }
  if (limits.has_max_perplexity() && !(perplexity <= limits.max_perplexity())) {
    violations.push_back(absl::StrCat("max_perplexity is ",
                                      limits.max_perplexity(),
                                      ", but the perplexity is ", perplexity));
  }
  if (limits.has_max_mean_kl_nats()) {
    const double limit = limits.max_mean_kl_nats();
    if (!checkpoint.has_mean_kl_nats()) {
      violations.push_back(absl::StrCat("max_mean_kl_nats is ", limit,
                                        ", but it was not measured"));
    } else if (!(checkpoint.mean_kl_nats() <= limit)) {
      violations.push_back(absl::StrCat("max_mean_kl_nats is ", limit,
                                        ", but the mean KL to the base is ",
                                        checkpoint.mean_kl_nats()));
    }
  }
  if (limits.has_min_top1_agreement()) {
    const double limit = limits.min_top1_agreement();
    if (!checkpoint.has_top1_agreement()) {
      violations.push_back(absl::StrCat("min_top1_agreement is ", limit,
                                        ", but it was not measured"));
    } else if (!(checkpoint.top1_agreement() >= limit)) {
      violations.push_back(
          absl::StrCat("min_top1_agreement is ", limit,
                       ", but the share of equal likeliest tokens is ",
                       checkpoint.top1_agreement()));
    }
  }
  return violations;
}

v1::GateReport JudgeWorkersEvaluation(
    const v1::QualityGate& limits, const v1::CheckpointEvaluation& evaluation) {
  v1::GateReport report;
  *report.mutable_checkpoint() = evaluation;
  for (std::string& line : GateViolations(limits, nullptr, evaluation)) {
    report.add_violations(std::move(line));
  }
  report.set_passed(report.violations().empty());
  return report;
}

absl::StatusOr<std::string> ReadGateText(const GateText& text) {
  std::vector<int64_t> sizes;
  int64_t total = 0;
  for (const std::string& path : text.paths) {
    POT_ASSIGN_OR_RETURN(const ForeignFile file, ForeignFile::Open(path));
    sizes.push_back(static_cast<int64_t>(file.size()));
    total += sizes.back();
  }
  const auto begin =
      static_cast<int64_t>(text.begin * static_cast<double>(total));
  if (total - begin > static_cast<int64_t>(kMaxEncodeBytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the validation text has ", total - begin,
                     " bytes; the limit is ", kMaxEncodeBytes));
  }
  std::string result;
  int64_t file_begin = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const int64_t file_end = file_begin + sizes[i];
    if (file_end > begin) {
      POT_ASSIGN_OR_RETURN(
          const std::string content,
          ReadFile(text.paths[i], static_cast<size_t>(sizes[i])));
      auto at = static_cast<size_t>(std::max<int64_t>(0, begin - file_begin));
      at = std::min(at, content.size());
      while (at > 0 && at < content.size() && (content[at] & 0xC0) == 0x80) {
        --at;
      }
      result.append(content, at);
    }
    file_begin = file_end;
  }
  return result;
}

QualityGate::QualityGate(LoadOptions load, std::string cache_directory)
    : load_(load),
      cache_directory_(std::move(cache_directory)),
      thread_([this] { Run(); }) {}

QualityGate::~QualityGate() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
    wake_.NotifyAll();
  }
  thread_.join();
}

void QualityGate::Start(GateInput input, Done done) {
  MutexLock lock(&mutex_);
  cancelled_ = false;
  request_ =
      std::make_unique<Request>(Request{std::move(input), std::move(done)});
  wake_.NotifyAll();
}

void QualityGate::Cancel() {
  MutexLock lock(&mutex_);
  cancelled_ = true;
}

void QualityGate::Run() {
  LowerPriorityOfThisThread();
  while (true) {
    std::unique_ptr<Request> request;
    {
      MutexLock lock(&mutex_);
      while (request_ == nullptr && !stop_) wake_.Wait(&mutex_);
      if (stop_) return;
      request = std::move(request_);
    }
    absl::StatusOr<v1::GateReport> report = Evaluate(request->input, [this] {
      MutexLock lock(&mutex_);
      return stop_ || cancelled_;
    });
    // Pins go before anyone hears of the end.
    const Done done = std::move(request->done);
    request.reset();
    done(std::move(report));
  }
}

std::string QualityGate::CachePath(const GateInput& input) const {
  const std::string key = absl::StrCat(
      kEngineVersion, "|", load_.kernels->name, "|", input.base_digest, "|",
      absl::StrJoin(input.text.digests, ","), "|", input.text.begin, "|",
      input.protocol.window, "|", input.protocol.stride, "|", input.max_tokens);
  return absl::StrCat(
      cache_directory_, "/",
      Sha256Hex(absl::MakeConstSpan(
          reinterpret_cast<const uint8_t*>(key.data()), key.size())));
}

absl::StatusOr<v1::CheckpointEvaluation> QualityGate::EvaluateBase(
    const GateInput& input, const LoadedModel& base,
    absl::Span<const int32_t> tokens, const std::function<bool()>& cancelled) {
  const std::string path = CachePath(input);
  v1::CheckpointEvaluation evaluation;
  const absl::StatusOr<std::string> cached =
      ReadFile(path, kMaxEvaluationBytes);
  // What a crash cut has no tokens.
  if (cached.ok() && evaluation.ParseFromString(*cached) &&
      evaluation.tokens() == static_cast<int64_t>(tokens.size()) - 1) {
    return evaluation;
  }
  POT_ASSIGN_OR_RETURN(const EvaluationSums sums,
                       Measure(base, nullptr, tokens, input, cancelled));
  evaluation = ToMessage(sums, 0, /*compared=*/false);
  // Without a cache it is measured again.
  if (MakeDirectory(cache_directory_).ok()) {
    WriteFile(path, evaluation.SerializeAsString()).IgnoreError();
  }
  return evaluation;
}

absl::StatusOr<v1::GateReport> QualityGate::Evaluate(
    const GateInput& input, const std::function<bool()>& cancelled) {
  std::shared_ptr<const LoadedModel> base = input.base;
  if (base == nullptr) {
    POT_ASSIGN_OR_RETURN(
        base,
        LoadModel(input.base_directory, {"base", 0, input.base_digest}, load_));
  }
  POT_ASSIGN_OR_RETURN(
      const std::shared_ptr<const LoadedModel> checkpoint,
      LoadModel(input.checkpoint_directory, {"checkpoint", 0, ""}, load_));
  POT_RETURN_IF_ERROR(
      ValidateProtocol(input.protocol, checkpoint->config().n_positions));
  POT_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                       ReadTokens(input, *checkpoint->tokenizer));
  v1::GateReport report;
  POT_ASSIGN_OR_RETURN(*report.mutable_base(),
                       EvaluateBase(input, *base, tokens, cancelled));
  const absl::StatusOr<EvaluationSums> sums =
      Measure(*checkpoint, base.get(), tokens, input, cancelled);
  if (absl::IsDataLoss(sums.status())) {
    // The base was fine.
    report.mutable_checkpoint()->set_step(input.step);
    report.add_violations("the checkpoint computed a logit that is not finite");
    return report;
  }
  POT_RETURN_IF_ERROR(sums.status());
  *report.mutable_checkpoint() = ToMessage(*sums, input.step, true);
  for (std::string& line :
       GateViolations(input.limits, &report.base(), report.checkpoint())) {
    report.add_violations(std::move(line));
  }
  report.set_passed(report.violations().empty());
  return report;
}

}  // namespace pot
