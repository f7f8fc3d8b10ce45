#include "tests/client/fake_training.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "engine/base/sha256.h"

namespace pot {
namespace {

constexpr int64_t kSteps = 2000;
constexpr int64_t kEvaluationEvery = 400;
constexpr int64_t kBestStep = 1600;
constexpr int64_t kTokensPerStep = 768;
constexpr int64_t kStart = 1'800'000'000;

double SmoothedLoss(int64_t step) {
  return 1.5 + std::exp(-static_cast<double>(step) / 400);
}

v1::CheckpointEvaluation EvaluationAt(int64_t step) {
  v1::CheckpointEvaluation evaluation;
  evaluation.set_step(step);
  evaluation.set_tokens(111'488);
  const double nats =
      1.5 + 1e-4 * static_cast<double>(std::abs(kBestStep - step));
  evaluation.set_nats_per_token(nats);
  evaluation.set_perplexity(std::exp(nats));
  evaluation.set_bits_per_byte(nats / std::log(2.0));
  evaluation.set_standard_error(0.003);
  evaluation.set_mean_kl_nats(0.0125);
  evaluation.set_top1_agreement(0.9375);
  return evaluation;
}

v1::JobProgress ProgressAt(int64_t step) {
  v1::JobProgress progress;
  progress.set_step(step);
  progress.set_total_steps(kSteps);
  progress.set_tokens(step * kTokensPerStep);
  progress.set_smoothed_train_loss(SmoothedLoss(step));
  // Spreads as the losses of batches do.
  progress.set_train_loss(SmoothedLoss(step) +
                          0.1 * std::sin(static_cast<double>(step) * 12.9898));
  progress.set_learning_rate(
      step < 40
          ? 1e-3 * static_cast<double>(step) / 40
          : 5e-4 * (1 + std::cos(3.14159265 * static_cast<double>(step - 40) /
                                 static_cast<double>(kSteps - 40))));
  progress.set_gradient_norm(0.75);
  progress.set_tokens_per_second(12'345);
  progress.set_eta_seconds(static_cast<double>(kSteps - step) * 0.08);
  return progress;
}

v1::JobCheckpoint CheckpointAt(int64_t step) {
  v1::JobCheckpoint checkpoint;
  checkpoint.set_checkpoint_id(absl::StrCat("c-", step));
  checkpoint.set_step(step);
  checkpoint.set_digest(std::string(64, 'c'));
  checkpoint.set_size_bytes(221'000);
  *checkpoint.mutable_evaluation() = EvaluationAt(step);
  checkpoint.set_best(step == kBestStep);
  return checkpoint;
}

void FillSpec(v1::QatJobSpec* spec) {
  spec->mutable_base()->set_name("tiny");
  spec->mutable_base()->set_version(1);
  spec->mutable_data()->mutable_datasets()->add_sha256(std::string(64, 'd'));
  spec->mutable_data()->set_holdout_ratio(0.1);
  v1::Quantization* const quantization = spec->mutable_quantization();
  quantization->set_format("pot4");
  quantization->set_granularity("row");
  quantization->set_method("nearest");
  quantization->set_embedding_format("pot4");
  quantization->set_embedding_granularity("row");
  spec->set_activations(v1::ACTIVATION_QUANTIZATION_AFFINE);
  v1::Optimizer* const optimizer = spec->mutable_optimizer();
  optimizer->set_learning_rate(1e-3);
  optimizer->set_beta1(0.9);
  optimizer->set_beta2(0.95);
  optimizer->set_epsilon(1e-8);
  optimizer->set_weight_decay(0);
  optimizer->set_clip_norm(1);
  spec->mutable_schedule()->set_steps(kSteps);
  spec->mutable_schedule()->set_warmup_steps(40);
  spec->mutable_schedule()->set_shape(v1::SCHEDULE_SHAPE_COSINE);
  spec->mutable_schedule()->set_final_ratio(0);
  spec->mutable_batch()->set_sequences(12);
  spec->mutable_batch()->set_accumulation(1);
  spec->mutable_batch()->set_context(64);
  spec->mutable_loss()->set_positions(v1::LOSS_POSITIONS_ALL);
  spec->mutable_loss()->set_cross_entropy_weight(1);
  spec->mutable_distillation()->set_weight(1);
  spec->mutable_distillation()->set_temperature(1);
  spec->set_straight_through(v1::STRAIGHT_THROUGH_CLIPPED);
  spec->set_seed(0);
  spec->mutable_gate()->set_max_perplexity_ratio(1.02);
  spec->mutable_publish()->set_name("tiny");
  spec->mutable_publish()->set_alias("default");
}

class Script {
 public:
  v1::JobEvent* Add(double seconds) {
    v1::JobEvent& event = events_.emplace_back();
    event.set_sequence(static_cast<int64_t>(events_.size()));
    event.mutable_time()->set_seconds(kStart + static_cast<int64_t>(seconds));
    return &event;
  }
  void Move(double seconds, v1::QatJobState to, const std::string& actor,
            const std::string& message) {
    v1::JobStateChange* const change = Add(seconds)->mutable_state_change();
    change->set_from(state_);
    change->set_to(to);
    change->set_actor(actor);
    change->set_message(message);
    state_ = to;
  }
  std::vector<v1::JobEvent> Take() { return std::move(events_); }

 private:
  std::vector<v1::JobEvent> events_;
  v1::QatJobState state_ = v1::QAT_JOB_STATE_UNSPECIFIED;
};

}  // namespace

v1::QatJob FinishedJob(v1::QatJobState state) {
  v1::QatJob job;
  job.set_job_id("qat-7");
  FillSpec(job.mutable_spec());
  job.set_state(state);
  job.set_submitter("alice");
  job.mutable_create_time()->set_seconds(kStart);
  job.mutable_start_time()->set_seconds(kStart + 1);
  job.mutable_end_time()->set_seconds(kStart + 165);
  *job.mutable_progress() = ProgressAt(kSteps);
  job.set_attempts(1);
  job.set_worker("worker-a");
  if (state == v1::QAT_JOB_STATE_FAILED) {
    job.set_state_message("the loss is not finite at step 2000");
    return job;
  }
  if (state == v1::QAT_JOB_STATE_CANCELLED) return job;
  v1::GateReport* const gate = job.mutable_gate();
  *gate->mutable_checkpoint() = EvaluationAt(kBestStep);
  *gate->mutable_base() = EvaluationAt(kBestStep);
  gate->mutable_base()->set_nats_per_token(1.49);
  gate->mutable_base()->set_perplexity(std::exp(1.49));
  gate->mutable_base()->set_bits_per_byte(1.49 / std::log(2.0));
  gate->set_passed(state == v1::QAT_JOB_STATE_SUCCEEDED);
  if (gate->passed()) {
    job.mutable_published()->set_name("tiny");
    job.mutable_published()->set_version(3);
    job.mutable_published()->set_sha256(std::string(64, 'e'));
  } else {
    gate->add_violations("perplexity 1.0101x the base's is over 1.005x");
    job.set_state_message(gate->violations(0));
  }
  return job;
}

std::vector<v1::JobEvent> EventsOf(const v1::QatJob& job, int64_t every) {
  Script script;
  script.Move(0, v1::QAT_JOB_STATE_VALIDATING, "alice", "");
  script.Move(0, v1::QAT_JOB_STATE_QUEUED, "", "");
  script.Move(1, v1::QAT_JOB_STATE_RUNNING, "worker-a", "");
  for (int64_t step = 1; step <= kSteps; ++step) {
    const double seconds = 1 + 0.08 * static_cast<double>(step);
    if (step % every == 0) {
      *script.Add(seconds)->mutable_progress() = ProgressAt(step);
    }
    if (step % kEvaluationEvery != 0) continue;
    *script.Add(seconds)->mutable_evaluation() = EvaluationAt(step);
    *script.Add(seconds)->mutable_checkpoint() = CheckpointAt(step);
  }
  if (job.has_gate()) {
    script.Move(161, v1::QAT_JOB_STATE_EVALUATING, "worker-a", "");
    *script.Add(163)->mutable_gate() = job.gate();
  }
  if (job.has_published()) {
    script.Move(163, v1::QAT_JOB_STATE_PUBLISHING, "", "");
    *script.Add(165)->mutable_published() = job.published();
  }
  script.Move(165, job.state(), "", job.state_message());
  return script.Take();
}

grpc::Status FakeTraining::UploadDataset(
    grpc::ServerContext*, grpc::ServerReader<v1::UploadDatasetRequest>* reader,
    v1::UploadDatasetResponse* response) {
  v1::UploadDatasetRequest request;
  if (!reader->Read(&request) || !request.has_header()) {
    return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no header");
  }
  const v1::DatasetHeader header = request.header();
  headers.push_back(header);
  response->mutable_dataset()->set_sha256(header.sha256());
  response->set_deduplicated(datasets.count(header.sha256()) > 0);
  if (response->deduplicated()) return grpc::Status::OK;
  std::string text;
  while (reader->Read(&request)) text += request.data();
  const std::string digest = Sha256Hex(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(text.data()), text.size()));
  if (digest != header.sha256() ||
      static_cast<int64_t>(text.size()) != header.size_bytes()) {
    return grpc::Status(grpc::StatusCode::DATA_LOSS, "not what it was said");
  }
  datasets[digest] = text;
  return grpc::Status::OK;
}

grpc::Status FakeTraining::SubmitQat(grpc::ServerContext*,
                                     const v1::SubmitQatRequest* request,
                                     v1::SubmitQatResponse* response) {
  submitted = *request;
  *response->mutable_job()->mutable_spec() = request->spec();
  v1::JobEstimate* const estimate = response->mutable_estimate();
  estimate->set_steps(kSteps);
  estimate->set_tokens_per_step(kTokensPerStep);
  estimate->set_epochs(1.53);
  estimate->set_memory_bytes(512'000'000);
  estimate->set_duration_seconds(160);
  if (request->dry_run()) return grpc::Status::OK;
  response->set_existing(!keys_.insert(request->idempotency_key()).second);
  response->mutable_job()->set_job_id(job.job_id());
  response->mutable_job()->set_state(v1::QAT_JOB_STATE_QUEUED);
  if (lost_answers-- > 0) {
    return grpc::Status(grpc::StatusCode::UNKNOWN, "the answer is lost");
  }
  return grpc::Status::OK;
}

grpc::Status FakeTraining::GetJob(grpc::ServerContext*,
                                  const v1::GetJobRequest* request,
                                  v1::GetJobResponse* response) {
  if (request->job_id() != job.job_id()) {
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such job");
  }
  *response->mutable_job() = job;
  response->mutable_job()->set_last_sequence(
      static_cast<int64_t>(events.size()));
  return grpc::Status::OK;
}

grpc::Status FakeTraining::ListJobs(grpc::ServerContext*,
                                    const v1::ListJobsRequest* request,
                                    v1::ListJobsResponse* response) {
  changes.push_back(absl::StrCat("list ", request->page_size(), " ",
                                 request->page_token(), " ",
                                 request->states_size()));
  const int first = std::atoi(request->page_token().c_str());
  const int end = std::min(listed_jobs, first + request->page_size());
  for (int i = first; i < end; ++i) {
    v1::QatJob* const one = response->add_jobs();
    *one = job;
    one->set_job_id(absl::StrCat("qat-", i + 1));
  }
  if (end < listed_jobs) response->set_next_page_token(absl::StrCat(end));
  return grpc::Status::OK;
}

grpc::Status FakeTraining::WatchJob(
    grpc::ServerContext* context, const v1::WatchJobRequest* request,
    grpc::ServerWriter<v1::WatchJobResponse>* writer) {
  if (request->job_id() != job.job_id()) {
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such job");
  }
  {
    MutexLock lock(&mutex_);
    watched_after_.push_back(request->after_sequence());
  }
  bool first = true;
  for (const v1::JobEvent& event : events) {
    if (event.sequence() <= request->after_sequence()) continue;
    if (breaks.erase(event.sequence()) > 0) {
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "it broke");
    }
    while (event.sequence() == silent_before && !context->IsCancelled()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    if (context->IsCancelled()) return grpc::Status::CANCELLED;
    std::this_thread::sleep_for(absl::ToChronoMilliseconds(pace));
    v1::WatchJobResponse response;
    *response.mutable_event() = event;
    if (first || event.has_state_change()) {
      *response.mutable_job() = job;
      response.mutable_job()->set_state(event.has_state_change()
                                            ? event.state_change().to()
                                            : v1::QAT_JOB_STATE_RUNNING);
    }
    first = false;
    writer->Write(response);
  }
  return grpc::Status::OK;
}

grpc::Status FakeTraining::CancelJob(grpc::ServerContext*,
                                     const v1::CancelJobRequest* request,
                                     v1::CancelJobResponse* response) {
  changes.push_back(
      absl::StrCat("cancel ", request->job_id(), " ", request->comment()));
  *response->mutable_job() = job;
  return grpc::Status::OK;
}

grpc::Status FakeTraining::PauseJob(grpc::ServerContext*,
                                    const v1::PauseJobRequest* request,
                                    v1::PauseJobResponse* response) {
  changes.push_back(absl::StrCat("pause ", request->job_id()));
  *response->mutable_job() = job;
  return grpc::Status::OK;
}

grpc::Status FakeTraining::ResumeJob(grpc::ServerContext*,
                                     const v1::ResumeJobRequest* request,
                                     v1::ResumeJobResponse* response) {
  changes.push_back(absl::StrCat("resume ", request->job_id()));
  *response->mutable_job() = job;
  return grpc::Status::OK;
}

grpc::Status FakeTraining::StopEarlyAndPublish(
    grpc::ServerContext*, const v1::StopEarlyAndPublishRequest* request,
    v1::StopEarlyAndPublishResponse* response) {
  changes.push_back(absl::StrCat("stop ", request->job_id()));
  *response->mutable_job() = job;
  return grpc::Status::OK;
}

grpc::Status FakeTraining::ListCheckpoints(
    grpc::ServerContext*, const v1::ListCheckpointsRequest*,
    v1::ListCheckpointsResponse* response) {
  for (const v1::JobEvent& event : events) {
    if (event.has_checkpoint()) {
      *response->add_checkpoints() = event.checkpoint();
    }
  }
  return grpc::Status::OK;
}

grpc::Status FakeTraining::PublishCheckpoint(
    grpc::ServerContext*, const v1::PublishCheckpointRequest* request,
    v1::PublishCheckpointResponse* response) {
  changes.push_back(
      absl::StrCat("publish ", request->job_id(), " ", request->checkpoint_id(),
                   " ", request->force() ? "force " : "", request->comment()));
  response->mutable_published()->set_name("tiny");
  response->mutable_published()->set_version(4);
  return grpc::Status::OK;
}

grpc::Status FakeTraining::DeleteJob(grpc::ServerContext*,
                                     const v1::DeleteJobRequest* request,
                                     v1::DeleteJobResponse*) {
  changes.push_back(absl::StrCat("delete ", request->job_id()));
  return grpc::Status::OK;
}

std::vector<int64_t> FakeTraining::watched_after() const {
  MutexLock lock(&mutex_);
  return watched_after_;
}

}  // namespace pot
