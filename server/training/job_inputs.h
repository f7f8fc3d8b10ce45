// What a worker may fetch for a job: files that are only ever looked up by
// their digest, so that no path comes from outside.
#ifndef POT_SERVER_TRAINING_JOB_INPUTS_H_
#define POT_SERVER_TRAINING_JOB_INPUTS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "pot/v1/worker.pb.h"
#include "server/serving/model_repository.h"
#include "server/training/qat_job_store.h"

namespace pot {

struct InputFile {
  v1::StoredFile file;  // as the worker sees it
  std::string path;     // where it is
};

// ModelRef as the repository takes it.
ModelSelector SelectorOf(const v1::ModelRef& ref);

// Files of the base and, when it is another version, of the teacher, but for
// their manifests. NOT_FOUND when a version was deleted.
struct ModelFiles {
  std::vector<InputFile> base;
  std::vector<InputFile> teacher;
};
absl::StatusOr<ModelFiles> FindModelFiles(const v1::QatJobSpec& spec,
                                          ModelRepository* repository);

// The text with the digest `sha256`, if the job uses it; NOT_FOUND
// (DATASET_NOT_FOUND) otherwise.
absl::StatusOr<InputFile> FindDataset(const v1::QatJobSpec& spec,
                                      absl::string_view sha256,
                                      QatJobStore* store,
                                      const std::string& root);

// `root` as in job_files.h.
std::vector<InputFile> SnapshotFiles(const StoredSnapshot& snapshot,
                                     const std::string& root);

// Null when no file has it.
const InputFile* FindByDigest(const std::vector<InputFile>& files,
                              absl::string_view sha256);

// All of a lease but its times.
absl::StatusOr<v1::Lease> DescribeLease(const QatJobLease& lease,
                                        ModelRepository* repository,
                                        QatJobStore* store);

}  // namespace pot

#endif  // POT_SERVER_TRAINING_JOB_INPUTS_H_
