#include "engine/gpt2/forward.h"

#include <algorithm>
#include <new>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/gpt2/attention.h"

namespace pot {
namespace {

// Elements of a row-wise or elementwise operation that are worth a thread.
constexpr int64_t kGrainElements = 4096;
// Elements that are converted at a time.
constexpr int64_t kConverted = 64;

// Shapes below: R rows (tokens of all spans, span by span), C = n_embd,
// V = vocab_size, H = n_inner.
class ForwardPass {
 public:
  ForwardPass(const ModelWeights& weights, absl::Span<const ForwardSpan> spans,
              ThreadPool* pool, ForwardScratch* scratch)
      : weights_(weights),
        kernels_(*weights.kernels),
        config_(weights.config),
        C_(config_.n_embd),
        H_(config_.n_inner),
        spans_(spans),
        pool_(pool),
        scratch_(*scratch) {}

  // The caches have been extended already.
  absl::Status Run(std::vector<float>* logits) {
    PlanRows();
    Embed();
    for (int64_t layer = 0; layer < config_.n_layer; ++layer) {
      POT_RETURN_IF_ERROR(AttentionBranch(layer));
      POT_RETURN_IF_ERROR(MlpBranch(layer));
    }
    return Head(logits);
  }

 private:
  struct Row {
    KvCache* cache;
    int64_t position;
    int32_t token;
  };

  void PlanRows() {
    for (const ForwardSpan& span : spans_) {
      const int64_t count = span.tokens.size();
      const int64_t first_row = rows_.size();
      const int64_t first_position = span.cache->length() - count;
      AppendTiles(span.cache, first_row, count, &tiles_);
      for (int64_t i = 0; i < count; ++i) {
        rows_.push_back({span.cache, first_position + i, span.tokens[i]});
        if (span.logits == ForwardSpan::Logits::kAll ||
            (span.logits == ForwardSpan::Logits::kLast && i + 1 == count)) {
          wanted_rows_.push_back(first_row + i);
        }
      }
    }
    R_ = rows_.size();
    scratch_.residual.resize(R_ * C_);
    scratch_.branch.resize(R_ * C_);
    scratch_.qkv.resize(R_ * 3 * C_);
    scratch_.attended.resize(R_ * C_);
    scratch_.hidden.resize(R_ * H_);
  }

  // residual (R, C) = wte[token] + wpe[position].
  void Embed() {
    const Linear& tokens = weights_.token_embedding != nullptr
                               ? *weights_.token_embedding
                               : *weights_.head;                  // (V, C)
    const float* positions = weights_.position_embedding.data();  // (T, C)
    ForRows(R_, C_, [&](int64_t r) {
      float* x = scratch_.residual.data() + r * C_;  // (C)
      tokens.WeightRow(rows_[r].token, absl::MakeSpan(x, C_));
      kernels_.axpy(1.0f, positions + rows_[r].position * C_, C_, x);
    });
  }

  // residual += c_proj(attention(c_attn(ln_1(residual)))).
  absl::Status AttentionBranch(int64_t l) {
    const LayerWeights& layer = weights_.layers[l];
    float* branch = scratch_.branch.data();      // (R, C)
    float* qkv = scratch_.qkv.data();            // (R, 3C)
    float* attended = scratch_.attended.data();  // (R, C)
    LayerNorm(layer.ln_1, branch);
    POT_RETURN_IF_ERROR(layer.attn_c_attn->Forward(branch, R_, qkv, pool_));
    StoreKeysAndValues(l);
    Attend(kernels_, config_, l, tiles_, qkv, pool_, &scratch_.attention,
           attended);
    POT_RETURN_IF_ERROR(
        layer.attn_c_proj->Forward(attended, R_, branch, pool_));
    AddToResidual(branch);
    return absl::OkStatus();
  }

  // residual += c_proj(gelu(c_fc(ln_2(residual)))).
  absl::Status MlpBranch(int64_t l) {
    const LayerWeights& layer = weights_.layers[l];
    float* branch = scratch_.branch.data();  // (R, C)
    float* hidden = scratch_.hidden.data();  // (R, H)
    LayerNorm(layer.ln_2, branch);
    POT_RETURN_IF_ERROR(layer.mlp_c_fc->Forward(branch, R_, hidden, pool_));
    const auto gelu = config_.activation == Activation::kGeluTanh
                          ? kernels_.gelu_tanh
                          : kernels_.gelu_erf;
    pool_->ParallelFor(R_ * H_, kGrainElements, [&](size_t begin, size_t end) {
      gelu(hidden + begin, end - begin);
    });
    POT_RETURN_IF_ERROR(layer.mlp_c_proj->Forward(hidden, R_, branch, pool_));
    AddToResidual(branch);
    return absl::OkStatus();
  }

  // logits (W, V) = ln_f(residual) * head^T for the W rows wanted.
  absl::Status Head(std::vector<float>* logits) {
    const int64_t W = wanted_rows_.size();
    logits->resize(W * config_.vocab_size);
    if (W == 0) return absl::OkStatus();
    scratch_.head_input.resize(W * C_);
    float* input = scratch_.head_input.data();  // (W, C)
    ForRows(W, C_, [&](int64_t w) {
      Normalize(weights_.ln_f, scratch_.residual.data() + wanted_rows_[w] * C_,
                input + w * C_);
    });
    return weights_.head->Forward(input, W, logits->data(), pool_);
  }

  // Each row's key and value into its sequence's cache, head by head.
  void StoreKeysAndValues(int64_t layer) {
    ForRows(R_, 2 * C_, [&](int64_t r) {
      if (rows_[r].cache->type() == KvType::kF16) {
        StoreKeyAndValue<uint16_t>(layer, r);
      } else {
        StoreKeyAndValue<float>(layer, r);
      }
    });
  }

  template <typename T>
  void StoreKeyAndValue(int64_t layer, int64_t r) {
    constexpr int64_t kBlock = KvCache::kBlockPositions;
    const int64_t d = config_.head_size();
    const float* key = scratch_.qkv.data() + r * 3 * C_ + C_;  // (C)
    const float* value = key + C_;                             // (C)
    const int64_t block = rows_[r].position / kBlock;
    const int64_t t = rows_[r].position % kBlock;
    KvCache& cache = *rows_[r].cache;
    for (int64_t head = 0; head < config_.n_head; ++head) {
      // (d, kBlock) and (kBlock, d).
      T* keys = static_cast<T*>(cache.KeyBlock(layer, head, block));
      T* values = static_cast<T*>(cache.ValueBlock(layer, head, block));
      for (int64_t i = 0; i < d; i += kConverted) {
        T lanes[kConverted];
        const int64_t count = std::min(kConverted, d - i);
        Convert(key + head * d + i, count, lanes);
        for (int64_t j = 0; j < count; ++j) {
          keys[(i + j) * kBlock + t] = lanes[j];
        }
      }
      Convert(value + head * d, d, values + t * d);
    }
  }

  void Convert(const float* x, int64_t count, uint16_t* half) {
    kernels_.float_to_half(x, count, half);
  }
  void Convert(const float* x, int64_t count, float* copy) {
    std::copy_n(x, count, copy);
  }

  // out (R, C) = ln(residual).
  void LayerNorm(const LayerNormWeights& ln, float* out) {
    ForRows(R_, C_, [&](int64_t r) {
      Normalize(ln, scratch_.residual.data() + r * C_, out + r * C_);
    });
  }

  void Normalize(const LayerNormWeights& ln, const float* x, float* y) {
    kernels_.layer_norm(x, ln.gain.data(), ln.bias.data(),
                        config_.layer_norm_epsilon, C_, y);
  }

  void AddToResidual(const float* branch) {
    pool_->ParallelFor(R_ * C_, kGrainElements, [&](size_t begin, size_t end) {
      kernels_.axpy(1.0f, branch + begin, end - begin,
                    scratch_.residual.data() + begin);
    });
  }

  // fn(row) for each of `rows` rows of `width` elements, in parallel.
  template <typename Fn>
  void ForRows(int64_t rows, int64_t width, Fn fn) {
    pool_->ParallelFor(rows, std::max<int64_t>(1, kGrainElements / width),
                       [&](size_t begin, size_t end) {
                         for (size_t r = begin; r < end; ++r) fn(r);
                       });
  }

  const ModelWeights& weights_;
  const KernelTable& kernels_;
  const Gpt2Config& config_;
  const int64_t C_;
  const int64_t H_;
  const absl::Span<const ForwardSpan> spans_;
  ThreadPool* const pool_;
  ForwardScratch& scratch_;

  int64_t R_ = 0;
  std::vector<Row> rows_;
  std::vector<AttentionTile> tiles_;
  std::vector<int64_t> wanted_rows_;
};

absl::Status CheckSpans(const ModelWeights& weights,
                        absl::Span<const ForwardSpan> spans) {
  const Gpt2Config& config = weights.config;
  absl::flat_hash_set<const KvCache*> seen;
  for (size_t s = 0; s < spans.size(); ++s) {
    const ForwardSpan& span = spans[s];
    const std::string where = absl::StrCat("span ", s, ": ");
    if (span.tokens.empty()) {
      return absl::InvalidArgumentError(where + "no tokens");
    }
    if (span.cache == nullptr || !span.cache->Fits(config)) {
      return absl::InvalidArgumentError(where +
                                        "no KV cache of this model's shape");
    }
    if (!seen.insert(span.cache).second) {
      return absl::InvalidArgumentError(
          where + "its sequence occurs twice in the batch");
    }
    for (size_t i = 0; i < span.tokens.size(); ++i) {
      if (span.tokens[i] >= 0 && span.tokens[i] < config.vocab_size) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(where, "token ", i, " is ", span.tokens[i],
                       ", the vocabulary is 0 to ", config.vocab_size - 1));
    }
    const int64_t count = span.tokens.size();
    if (count > span.cache->capacity() - span.cache->length()) {
      return absl::OutOfRangeError(absl::StrCat(
          where, count, " tokens after ", span.cache->length(),
          " exceed the sequence's capacity of ", span.cache->capacity()));
    }
  }
  return absl::OkStatus();
}

absl::Status ExtendAndRun(const ModelWeights& weights,
                          absl::Span<const ForwardSpan> spans, ThreadPool* pool,
                          ForwardScratch* scratch, std::vector<float>* logits) {
  for (const ForwardSpan& span : spans) {
    POT_RETURN_IF_ERROR(span.cache->Extend(span.tokens.size()));
  }
  return ForwardPass(weights, spans, pool, scratch).Run(logits);
}

}  // namespace

absl::Status Forward(const ModelWeights& weights,
                     absl::Span<const ForwardSpan> spans, ThreadPool* pool,
                     ForwardScratch* scratch, std::vector<float>* logits) {
  POT_RETURN_IF_ERROR(CheckSpans(weights, spans));
  logits->clear();
  if (spans.empty()) return absl::OkStatus();

  std::vector<int64_t> lengths;
  for (const ForwardSpan& span : spans) {
    lengths.push_back(span.cache->length());
  }
  absl::Status status;
  try {
    status = ExtendAndRun(weights, spans, pool, scratch, logits);
  } catch (const std::bad_alloc&) {
    status = absl::ResourceExhaustedError("no memory for the forward pass");
  }
  if (status.ok()) return status;
  for (size_t s = 0; s < spans.size(); ++s) {
    spans[s].cache->Truncate(lengths[s]);
  }
  return status;
}

}  // namespace pot
