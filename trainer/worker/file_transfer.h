// Files of a job, from the server and to it, over connections that break.
#ifndef POT_TRAINER_WORKER_FILE_TRANSFER_H_
#define POT_TRAINER_WORKER_FILE_TRANSFER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pot/v1/worker.pb.h"
#include "trainer/worker/lease_keeper.h"
#include "trainer/worker/worker_service.h"

namespace pot {

// Whether it can be the name of a file in a directory of ours: 1 to 128 of
// [A-Za-z0-9._-], the first one no dot.
bool IsPlainName(const std::string& text);

// Fetches `file` to the path `to`, synced and with the right digest, going on
// with the bytes in `to`.partial. Ends with CANCELLED when the job is to pause.
// INVALID_ARGUMENT for a description that cannot be right, DATA_LOSS when the
// content never had the digest, RESOURCE_EXHAUSTED without room on the disk.
absl::Status FetchFile(WorkerService* service, LeaseKeeper* keeper,
                       FetchKind kind, const v1::StoredFile& file,
                       const std::string& to);

enum class OutgoingKind { kSnapshot, kCheckpoint };

// Identifies an upload of the job by kind and step, so that a worker that was
// started anew repeats none: "snapshot-40", "checkpoint-40".
std::string UploadId(OutgoingKind kind, int64_t step);

// Announces all files of `directory`, in the order of their names.
absl::StatusOr<v1::UploadHeader> DescribeUpload(const v1::LeaseKey& lease,
                                                OutgoingKind kind, int64_t step,
                                                const std::string& directory);

// Sends what the server lacks of them. `evaluation` goes with checkpoints. Ends
// with CANCELLED when the job is cancelled. ALREADY_EXISTS when the server has
// a checkpoint of that step of other bytes.
absl::Status UploadFiles(WorkerService* service, LeaseKeeper* keeper,
                         OutgoingKind kind, const v1::UploadHeader& header,
                         const v1::CheckpointEvaluation& evaluation,
                         const std::string& directory);

}  // namespace pot

#endif  // POT_TRAINER_WORKER_FILE_TRANSFER_H_
