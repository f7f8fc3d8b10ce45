#ifndef POT_TRAINER_TRAINING_SAMPLE_TRAINING_TEXT_H_
#define POT_TRAINER_TRAINING_SAMPLE_TRAINING_TEXT_H_

#include <string>

#include "absl/status/statusor.h"
#include "trainer/data/self_text.h"
#include "trainer/data/token_corpus.h"

namespace pot {

// GenerateSelfText() by the model in `directory`, on `threads` threads. With a
// `cache_directory`, which is made, the text is kept there; `model_digest`, as
// GenerateSelfTextCached() takes it, is needed only then.
absl::StatusOr<TokenCorpus> SampleTrainingText(
    const std::string& directory, const SelfTextOptions& options, int threads,
    const std::string& cache_directory, const std::string& model_digest,
    const DataProgress& progress);

}  // namespace pot

#endif  // POT_TRAINER_TRAINING_SAMPLE_TRAINING_TEXT_H_
