// All that a job computes from, fetched, checked and in memory.
#ifndef POT_TRAINER_WORKER_JOB_INPUTS_H_
#define POT_TRAINER_WORKER_JOB_INPUTS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/exponent_checkpoint.h"
#include "trainer/data/token_corpus.h"
#include "trainer/gpt2/parameter_layout.h"
#include "trainer/worker/job_options.h"

namespace pot {

class LeaseKeeper;
class WorkDirectory;
class WorkerMetrics;
class WorkerService;
namespace v1 {
class Lease;
}

// What every part of a job works with; all outlive the job.
struct JobContext {
  WorkDirectory* work = nullptr;
  WorkerService* service = nullptr;
  LeaseKeeper* keeper = nullptr;
  int threads = 1;
  WorkerMetrics* metrics = nullptr;  // null: none
};

struct JobInputs {
  JobOptions options;
  std::string base_directory;  // the model's
  std::unique_ptr<const ParameterLayout> layout;
  // With distillation. The base may be its own teacher.
  std::unique_ptr<const ParameterLayout> teacher_layout;
  std::vector<float> teacher_parameters;  // (teacher_layout->size())
  TokenCorpus train = TokenCorpus(1);
  TokenCorpus validation = TokenCorpus(1);
  // Of the tokens that an evaluation predicts.
  int64_t validation_bytes = 0;
  // For exports.
  std::map<std::string, std::string> model_files;
  CheckpointProvenance provenance;
};

// `directory` is the job's. CANCELLED when the job is to pause or end. Other
// errors say what is wrong with the lease, the files or the texts.
absl::StatusOr<std::unique_ptr<JobInputs>> PrepareJob(
    const JobContext& context, const v1::Lease& lease,
    const std::string& directory);

}  // namespace pot

#endif  // POT_TRAINER_WORKER_JOB_INPUTS_H_
