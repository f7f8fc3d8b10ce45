// A TrainingService with one job, whose events are written beforehand.
#ifndef POT_TESTS_CLIENT_FAKE_TRAINING_H_
#define POT_TESTS_CLIENT_FAKE_TRAINING_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "grpcpp/grpcpp.h"
#include "pot/v1/training.grpc.pb.h"

namespace pot {

// The job "qat-7" of 2,000 steps on "tiny@1", with every default filled in but
// a learning rate of 1e-3, as it is when it ended in `state`.
v1::QatJob FinishedJob(v1::QatJobState state);

// Its events: from VALIDATING to that state, progress every `every` steps and
// an evaluation and a checkpoint every 400, of which that of step 1600 is best.
std::vector<v1::JobEvent> EventsOf(const v1::QatJob& job, int64_t every);

class FakeTraining final : public v1::TrainingService::Service {
 public:
  grpc::Status UploadDataset(
      grpc::ServerContext* context,
      grpc::ServerReader<v1::UploadDatasetRequest>* reader,
      v1::UploadDatasetResponse* response) override;
  grpc::Status SubmitQat(grpc::ServerContext* context,
                         const v1::SubmitQatRequest* request,
                         v1::SubmitQatResponse* response) override;
  grpc::Status GetJob(grpc::ServerContext* context,
                      const v1::GetJobRequest* request,
                      v1::GetJobResponse* response) override;
  // `listed_jobs` jobs, "qat-1" and so on, in pages.
  grpc::Status ListJobs(grpc::ServerContext* context,
                        const v1::ListJobsRequest* request,
                        v1::ListJobsResponse* response) override;
  grpc::Status WatchJob(
      grpc::ServerContext* context, const v1::WatchJobRequest* request,
      grpc::ServerWriter<v1::WatchJobResponse>* writer) override;
  grpc::Status CancelJob(grpc::ServerContext* context,
                         const v1::CancelJobRequest* request,
                         v1::CancelJobResponse* response) override;
  grpc::Status PauseJob(grpc::ServerContext* context,
                        const v1::PauseJobRequest* request,
                        v1::PauseJobResponse* response) override;
  grpc::Status ResumeJob(grpc::ServerContext* context,
                         const v1::ResumeJobRequest* request,
                         v1::ResumeJobResponse* response) override;
  grpc::Status StopEarlyAndPublish(
      grpc::ServerContext* context,
      const v1::StopEarlyAndPublishRequest* request,
      v1::StopEarlyAndPublishResponse* response) override;
  grpc::Status ListCheckpoints(grpc::ServerContext* context,
                               const v1::ListCheckpointsRequest* request,
                               v1::ListCheckpointsResponse* response) override;
  grpc::Status PublishCheckpoint(
      grpc::ServerContext* context, const v1::PublishCheckpointRequest* request,
      v1::PublishCheckpointResponse* response) override;
  grpc::Status DeleteJob(grpc::ServerContext* context,
                         const v1::DeleteJobRequest* request,
                         v1::DeleteJobResponse* response) override;

  // Texts by digest.
  std::map<std::string, std::string> datasets;
  std::vector<v1::DatasetHeader> headers;
  v1::SubmitQatRequest submitted;
  // Submissions that are accepted but whose answers are lost.
  int lost_answers = 0;
  v1::QatJob job = FinishedJob(v1::QAT_JOB_STATE_SUCCEEDED);
  std::vector<v1::JobEvent> events = EventsOf(job, 100);
  // The stream breaks, once each, before these events.
  std::set<int64_t> breaks;
  // The stream stays open and silent before this event. 0: none does.
  int64_t silent_before = 0;
  absl::Duration pace = absl::ZeroDuration();
  int listed_jobs = 2;

  // after_sequence of each WatchJob so far.
  std::vector<int64_t> watched_after() const;
  // Names and jobs of the other calls, "cancel qat-7 why".
  std::vector<std::string> changes;

 private:
  std::set<std::string> keys_;
  mutable Mutex mutex_;
  std::vector<int64_t> watched_after_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pot

#endif  // POT_TESTS_CLIENT_FAKE_TRAINING_H_
