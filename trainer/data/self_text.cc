#include "trainer/data/self_text.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/philox.h"
#include "engine/base/status_macros.h"
#include "engine/sampling/sampler.h"
#include "trainer/data/token_cache.h"

namespace pot {
namespace {

// Tells the first tokens from what is sampled under the same seed.
constexpr uint64_t kFirstTokenStream = 0x6669727374746f6b;  // "firsttok"
constexpr int64_t kMaxTokens = int64_t{1} << 32;
constexpr int64_t kMaxBatch = 1024;
constexpr float kMaxTemperature = 10;

template <typename T>
absl::Status OutOfRange(absl::string_view what, absl::string_view limits,
                        T given) {
  return absl::InvalidArgumentError(absl::StrCat(
      "self-generated text: ", what, " must be in ", limits, ", not ", given));
}

absl::Status FillAndCheck(const Gpt2Config& config, SelfTextOptions* options) {
  const int64_t longest = config.n_positions + 1;
  if (options->sequence_tokens == 0) options->sequence_tokens = longest;
  if (options->tokens < 1 || options->tokens > kMaxTokens) {
    return OutOfRange("tokens", absl::StrCat("[1, ", kMaxTokens, "]"),
                      options->tokens);
  }
  if (options->sequence_tokens < 2 || options->sequence_tokens > longest) {
    return OutOfRange("tokens of a sequence",
                      absl::StrCat("[2, ", longest, "]"),
                      options->sequence_tokens);
  }
  if (options->greedy_tokens < 0 ||
      options->greedy_tokens >= options->sequence_tokens) {
    return OutOfRange("greedy tokens",
                      absl::StrCat("[0, ", options->sequence_tokens, ")"),
                      options->greedy_tokens);
  }
  if (!(options->temperature > 0) || options->temperature > kMaxTemperature) {
    return OutOfRange("temperature", absl::StrCat("(0, ", kMaxTemperature, "]"),
                      options->temperature);
  }
  if (options->batch < 1 || options->batch > kMaxBatch) {
    return OutOfRange("batch", absl::StrCat("[1, ", kMaxBatch, "]"),
                      options->batch);
  }
  return absl::OkStatus();
}

// Sequences in lockstep: every step has one token of each, so that the shape of
// a batch, which the logits of an fp32 model may depend on, never changes.
class Writer {
 public:
  Writer(const LoadedModel& model, const SelfTextOptions& options,
         InferenceEngine* engine)
      : model_(model),
        options_(options),
        engine_(engine),
        vocab_size_(model.config().vocab_size) {
    // A padded vocabulary has tokens without text.
    for (int64_t id = model.tokenizer->vocab_size(); id < vocab_size_; ++id) {
      padding_.push_back(static_cast<int32_t>(id));
    }
  }

  absl::Status CreateCaches() {
    for (int64_t i = 0; i < options_.batch; ++i) {
      POT_ASSIGN_OR_RETURN(
          std::unique_ptr<KvCache> cache,
          engine_->CreateCache(model_, options_.sequence_tokens - 1));
      caches_.push_back(std::move(cache));
    }
    return absl::OkStatus();
  }

  // Fills tokens (batch, sequence_tokens) with sequences `first` and up.
  // `step_done()` is called after each step; false cancels.
  absl::Status Write(int64_t first, const std::function<bool()>& step_done,
                     std::vector<int32_t>* tokens);

 private:
  int32_t FirstToken(int64_t sequence) const {
    const int32_t end_of_text = model_.tokenizer->end_of_text_id();
    const int64_t choices =
        model_.tokenizer->vocab_size() - (end_of_text >= 0 ? 1 : 0);
    const double uniform = PhiloxUniform(options_.seed ^ kFirstTokenStream,
                                         static_cast<uint32_t>(sequence), 0);
    const auto token =
        static_cast<int32_t>(uniform * static_cast<double>(choices));
    return token + (end_of_text >= 0 && token >= end_of_text ? 1 : 0);
  }
  Sampler SamplerOf(int64_t sequence, float temperature) const {
    SamplingParams params;
    params.temperature = temperature;
    params.seed = options_.seed;
    return Sampler(params, static_cast<int>(vocab_size_),
                   static_cast<uint32_t>(sequence));
  }

  const LoadedModel& model_;
  const SelfTextOptions options_;
  InferenceEngine* const engine_;
  const int64_t vocab_size_;
  std::vector<int32_t> padding_;
  std::vector<std::unique_ptr<KvCache>> caches_;
};

absl::Status Writer::Write(int64_t first,
                           const std::function<bool()>& step_done,
                           std::vector<int32_t>* tokens) {
  const int64_t batch = options_.batch;
  const int64_t length = options_.sequence_tokens;
  tokens->resize(batch * length);
  std::vector<Sampler> greedy, sampled;
  std::vector<ForwardSpan> spans(batch);
  for (int64_t i = 0; i < batch; ++i) {
    greedy.push_back(SamplerOf(first + i, 0));
    sampled.push_back(SamplerOf(first + i, options_.temperature));
    caches_[i]->Truncate(0);
    spans[i].cache = caches_[i].get();
    (*tokens)[i * length] = FirstToken(first + i);
  }
  std::vector<absl::Status> statuses(batch);
  for (int64_t position = 1; position < length; ++position) {
    for (int64_t i = 0; i < batch; ++i) {
      spans[i].tokens = {&(*tokens)[i * length + position - 1], 1};
    }
    POT_ASSIGN_OR_RETURN(const absl::Span<const float> logits,
                         engine_->Step(model_, spans));
    auto& samplers = position <= options_.greedy_tokens ? greedy : sampled;
    engine_->pool()->ParallelFor(batch, 1, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        const absl::StatusOr<SampledToken> token =
            samplers[i].Sample(logits.subspan(i * vocab_size_, vocab_size_),
                               position, 0, padding_);
        statuses[i] = token.status();
        if (token.ok()) (*tokens)[i * length + position] = token->id;
      }
    });
    for (const absl::Status& status : statuses) POT_RETURN_IF_ERROR(status);
    if (!step_done()) {
      return absl::CancelledError("generating text was cancelled");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenCorpus> GenerateSelfText(const LoadedModel& model,
                                             const SelfTextOptions& options,
                                             InferenceEngine* engine,
                                             const DataProgress& progress) {
  SelfTextOptions filled = options;
  POT_RETURN_IF_ERROR(FillAndCheck(model.config(), &filled));
  const int64_t length = filled.sequence_tokens;
  const int64_t sequences = (filled.tokens + length - 1) / length;
  const int64_t rounds = (sequences + filled.batch - 1) / filled.batch;
  Writer writer(model, filled, engine);
  POT_RETURN_IF_ERROR(writer.CreateCaches());
  TokenCorpus corpus(model.config().vocab_size);
  int64_t steps = 0;
  std::vector<int32_t> tokens;
  for (int64_t first = 0; first < sequences; first += filled.batch) {
    POT_RETURN_IF_ERROR(writer.Write(
        first,
        [&] {
          ++steps;
          return progress == nullptr ||
                 progress(steps * filled.batch,
                          rounds * (length - 1) * filled.batch);
        },
        &tokens));
    const int64_t wanted = std::min(filled.batch, sequences - first);
    POT_RETURN_IF_ERROR(
        corpus.Append(absl::MakeConstSpan(tokens).first(wanted * length)));
  }
  return corpus;
}

absl::StatusOr<TokenCorpus> GenerateSelfTextCached(
    const LoadedModel& model, absl::string_view model_digest,
    const SelfTextOptions& options, const std::string& cache_directory,
    InferenceEngine* engine, const DataProgress& progress) {
  SelfTextOptions filled = options;
  POT_RETURN_IF_ERROR(FillAndCheck(model.config(), &filled));
  const std::string key = absl::StrCat(
      "self text of ", model_digest, " format ", model.weights->format,
      " tokens ", filled.tokens, " sequence ", filled.sequence_tokens,
      " greedy ", filled.greedy_tokens, " temperature ",
      absl::StrFormat("%.9g", filled.temperature), " batch ", filled.batch,
      " seed ", filled.seed);
  return CachedTokens(cache_directory, key, model.config().vocab_size, [&] {
    return GenerateSelfText(model, filled, engine, progress);
  });
}

}  // namespace pot
