// Sends snapshots and checkpoints while the training goes on.
#ifndef POT_TRAINER_WORKER_UPLOADER_H_
#define POT_TRAINER_WORKER_UPLOADER_H_

#include <cstdint>
#include <deque>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "engine/base/mutex.h"
#include "pot/v1/worker.pb.h"
#include "trainer/worker/file_transfer.h"
#include "trainer/worker/lease_keeper.h"
#include "trainer/worker/worker_service.h"

namespace pot {

// Uploads wait in directories of their own, so that neither the training's
// tidying up nor a kill takes them away:
//
//   <directory>/checkpoint-<step>/files/..        to be sent
//   <directory>/checkpoint-<step>/evaluation      what goes with it
//   <directory>/snapshot-<step>/files/..
class Uploader {
 public:
  // The others outlive this.
  Uploader(WorkerService* service, LeaseKeeper* keeper, std::string directory);
  // Drops what was not sent.
  ~Uploader();
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;

  // Before anything else. Makes the directory when it is not there; of what a
  // killed worker left in it, checkpoints of steps up to `step` are sent and
  // everything else goes.
  absl::Status Recover(int64_t step);

  // A directory for a checkpoint's files, to be filled before AddCheckpoint().
  absl::StatusOr<std::string> StageCheckpoint();
  absl::Status AddCheckpoint(const v1::CheckpointEvaluation& evaluation);

  // `path` may go afterwards. A snapshot that waits is replaced by a newer one;
  // what came before it is sent before it, so that the server never has a
  // snapshot whose best checkpoint it lacks.
  absl::Status AddSnapshot(int64_t step, const std::string& path);

  // OK unless a checkpoint could not be sent. A snapshot that could not is only
  // told: the server keeps the one before.
  absl::Status status() const;
  // Waits until everything is through; status().
  absl::Status Finish();

 private:
  struct Item {
    OutgoingKind kind = OutgoingKind::kSnapshot;
    int64_t step = 0;
    v1::CheckpointEvaluation evaluation;
  };

  void Run();
  absl::Status Send(const Item& item);
  std::string ItemDirectory(const Item& item) const;
  void Push(Item item);

  WorkerService* const service_;
  LeaseKeeper* const keeper_;
  const std::string directory_;

  mutable Mutex mutex_;
  CondVar changed_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool sending_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Item> items_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace pot

#endif  // POT_TRAINER_WORKER_UPLOADER_H_
