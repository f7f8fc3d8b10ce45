// A server of one job in memory, whose connections break as a test says.
#ifndef POT_TESTS_TRAINER_WORKER_FAKE_WORKER_SERVICE_H_
#define POT_TESTS_TRAINER_WORKER_FAKE_WORKER_SERVICE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/mutex.h"
#include "trainer/worker/worker_service.h"

namespace pot {

struct FakeUpload {
  v1::UploadHeader header;
  std::vector<std::string> files;  // what has come
};

class FakeWorkerService final : public WorkerService {
 public:
  // Adds a file that can be fetched; its description.
  v1::StoredFile AddFile(const std::string& path, const std::string& content);

  absl::StatusOr<v1::AcquireLeaseResponse> AcquireLease(
      const v1::AcquireLeaseRequest& request) override;
  absl::StatusOr<v1::HeartbeatResponse> Heartbeat(
      const v1::HeartbeatRequest& request) override;
  absl::StatusOr<v1::ReportEventsResponse> ReportEvents(
      const v1::ReportEventsRequest& request) override;
  absl::StatusOr<v1::GetUploadResponse> GetUpload(
      const v1::GetUploadRequest& request) override;
  absl::StatusOr<v1::CompleteResponse> Complete(
      const v1::CompleteRequest& request) override;
  absl::Status Fetch(FetchKind kind, const v1::LeaseKey& lease,
                     const std::string& sha256, int64_t offset,
                     TakeChunk take) override;
  absl::StatusOr<v1::UploadSnapshotResponse> UploadSnapshot(
      const v1::UploadHeader& header, NextChunk next) override;
  absl::StatusOr<v1::UploadCheckpointResponse> UploadCheckpoint(
      const v1::CheckpointUploadHeader& header, NextChunk next) override;
  void CancelTransfers() override {}
  void StopAcquiring() override;

  // The file will come with another last byte.
  void SpoilFile(const std::string& sha256) { files_[sha256].back() ^= 1; }
  // Every call is refused. While a worker runs.
  void FailFromNowOn();

  // --- Set before the worker runs ---

  // Without key and snapshot.
  v1::Lease lease;
  // Calls of each method, by name, that fail before they do anything, and
  // whose answers are lost after they have done it.
  std::map<std::string, int> refused, unanswered;
  // Streams break after so many chunks, so many times.
  int chunks_before_break = 1;
  int breaks = 0;
  // Chunks that are fetched with a wrong CRC.
  int wrong_crcs = 0;
  int64_t fetch_chunk_bytes = 4096;
  // What a heartbeat at this step is told; CONTINUE unless set.
  std::function<v1::HeartbeatResponse(int64_t step)> directive;

  // --- What came of it; read when no worker runs ---

  int64_t epoch = 0;
  std::optional<v1::Snapshot> snapshot;
  std::map<std::string, std::string> snapshot_files;
  // By upload_id.
  std::map<std::string, std::map<std::string, std::string>> checkpoints;
  std::map<std::string, v1::CheckpointEvaluation> evaluations;
  std::vector<v1::WorkerEvent> events;         // of the newest lease
  std::optional<v1::CompleteRequest> outcome;  // of the newest lease
  std::map<std::string, int> calls;
  int64_t fetched_bytes = 0;

 private:
  // UNAVAILABLE, or ABORTED for a lease that is over.
  absl::Status Enter(const std::string& method, const v1::LeaseKey* lease);
  // UNAVAILABLE when the answer is to be lost.
  absl::Status Leave(const std::string& method);
  bool Break();
  absl::StatusOr<FakeUpload> Take(const v1::UploadHeader& header,
                                  NextChunk next);
  static bool IsWhole(const FakeUpload& upload);

  mutable Mutex mutex_;
  bool stopped_ = false;
  bool dead_ = false;
  std::map<std::string, std::string> files_;  // by digest
  std::map<std::string, FakeUpload> uploads_;
  int64_t stored_through_ = 0;
};

}  // namespace pot

#endif  // POT_TESTS_TRAINER_WORKER_FAKE_WORKER_SERVICE_H_
