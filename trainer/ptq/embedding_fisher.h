// What an error of a token embedding does to the loss.
#ifndef POT_TRAINER_PTQ_EMBEDDING_FISHER_H_
#define POT_TRAINER_PTQ_EMBEDDING_FISHER_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "trainer/gpt2/parameter_layout.h"

namespace pot {

// The empirical Fisher information of a row of the embedding, summed over rows,
// (C, C): the loss of predicting a text changes by half of d F d when every row
// changes by d. Over positions t of the text with
//   g_t        gradient of the sequence's loss by the embedding at t
//   h_t, p_t   the head's input and its prediction, y_t the token that came
//   F = sum_t g_t g_t^T + sum_t (sum_v (p_tv - [v = y_t])^2) h_t h_t^T
// where the second sum is left out for a head that is another matrix. What the
// two uses of one row have to do with each other is left out, too.
//
// `tokens`: sequences of `context`, whose number is theirs in `tokens`.
// Activations are floats. Layers run one after the other, forward and then
// back, and `release_layer`, which may be null, hears when one is done with
// each time. Memory: the residual streams between all layers of at most 1 GiB
// of sequences, gradients of one layer and the embeddings, 80 MB of logits.
absl::StatusOr<std::vector<float>> EmbeddingFisher(
    const ParameterLayout& layout, absl::Span<const float> parameters,
    absl::Span<const int32_t> tokens, int64_t context,
    const std::function<void(int64_t layer)>& release_layer);

}  // namespace pot

#endif  // POT_TRAINER_PTQ_EMBEDDING_FISHER_H_
