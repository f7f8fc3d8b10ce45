// From a finished upload to a checkpoint or snapshot of its job.
#ifndef POT_SERVER_TRAINING_UPLOAD_ACCEPTOR_H_
#define POT_SERVER_TRAINING_UPLOAD_ACCEPTOR_H_

#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/gpt2/model_weights.h"
#include "pot/v1/worker.pb.h"
#include "server/serving/model_repository.h"
#include "server/training/qat_job_store.h"
#include "server/training/upload_store.h"

namespace pot {

// Thread-safe. Every call begins with QatJobStore::CheckLease(), and what an
// upload becomes is stored under its lease.
class UploadAcceptor {
 public:
  // All outlive this. `root` as in job_files.h; `load`: how checkpoints are
  // tried.
  UploadAcceptor(QatJobStore* store, UploadStore* uploads,
                 ModelRepository* repository, std::string root,
                 LoadOptions load)
      : store_(store),
        uploads_(uploads),
        repository_(repository),
        root_(std::move(root)),
        load_(load) {}

  // What the upload became already, so that whoever lost the answer gets it
  // again. A checkpoint has the identifier of its upload. ALREADY_EXISTS when
  // that checkpoint is of other files.
  absl::StatusOr<std::optional<v1::JobCheckpoint>> FindCheckpoint(
      const v1::UploadHeader& header);
  absl::StatusOr<std::optional<v1::Snapshot>> FindSnapshot(
      const v1::UploadHeader& header);

  // What is there of an upload, accepted ones included.
  absl::StatusOr<UploadPosition> Find(const v1::LeaseKey& lease,
                                      const std::string& upload_id);

  // Verifies the digests, loads and warms the model as serving would, and
  // stores the checkpoint. A manifest is written unless it was uploaded.
  // DATA_LOSS, CHECKSUM_MISMATCH when the transfer went wrong (the upload can
  // go on with the file in question), CORRUPT_CHECKPOINT when it is no
  // quantized model of the base's shape that loads (it has to begin anew).
  absl::StatusOr<v1::JobCheckpoint> AcceptCheckpoint(
      Upload* upload, const v1::CheckpointEvaluation& evaluation);

  // The same of a snapshot, which only a worker can read: digests alone.
  absl::StatusOr<v1::Snapshot> AcceptSnapshot(Upload* upload);

 private:
  absl::Status CheckModel(const v1::QatJobSpec& spec,
                          const std::string& directory, std::string* digest,
                          int64_t* bytes) const;
  // Renames the files to a directory below the job's that nothing had before;
  // its name relative to the jobs directory.
  absl::StatusOr<std::string> Publish(Upload* upload, const std::string& kind);
  absl::Status Remove(const std::string& directory) const;

  QatJobStore* const store_;
  UploadStore* const uploads_;
  ModelRepository* const repository_;
  const std::string root_;
  const LoadOptions load_;
};

}  // namespace pot

#endif  // POT_SERVER_TRAINING_UPLOAD_ACCEPTOR_H_
