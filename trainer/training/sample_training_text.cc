#include "trainer/training/sample_training_text.h"

#include "engine/base/status_macros.h"
#include "engine/inference_engine.h"
#include "engine/kernels/kernel_table.h"
#include "engine/loaded_model.h"

namespace pot {
namespace {

// More than a batch of sequences of the largest GPT-2 takes.
constexpr int64_t kKvBytes = int64_t{8} << 30;

}  // namespace

absl::StatusOr<TokenCorpus> SampleTrainingText(
    const std::string& directory, const SelfTextOptions& options, int threads,
    const std::string& cache_directory, const std::string& model_digest,
    const DataProgress& progress) {
  POT_ASSIGN_OR_RETURN(const KernelTable* const kernels,
                       KernelTableFromEnvironment());
  POT_ASSIGN_OR_RETURN(const auto model, LoadModel(directory, ModelIdentity(),
                                                   {.kernels = kernels}));
  InferenceEngine engine(threads, kKvBytes);
  if (cache_directory.empty()) {
    return GenerateSelfText(*model, options, &engine, progress);
  }
  return GenerateSelfTextCached(*model, model_digest, options, cache_directory,
                                &engine, progress);
}

}  // namespace pot
