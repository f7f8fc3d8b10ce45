// Workers against a server in memory: connections that break at every call,
// directives, losses, and the same bytes whatever happens on the way.
#include "trainer/worker/worker.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/file.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "test_paths.h"
#include "tests/trainer/worker/fake_worker_service.h"
#include "trainer/worker/job_options.h"

namespace pot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr char kBase[] = POT_SOURCE_DIR "/tests/testdata/tiny-bpe";

v1::QatJobSpec ParseSpec(const std::string& text) {
  v1::QatJobSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec))
      << text;
  return spec;
}

std::string Text(int phrases) {
  std::string text;
  for (int i = 0; i < phrases; ++i) {
    absl::StrAppend(&text, "the power of ", i * i, " and the other, ");
  }
  return text;
}

v1::HeartbeatResponse Tell(v1::WorkerDirective directive) {
  v1::HeartbeatResponse response;
  response.set_directive(directive);
  return response;
}

// `directive` once the job has done `step` steps.
std::function<v1::HeartbeatResponse(int64_t)> From(
    int64_t step, v1::WorkerDirective directive) {
  return [=](int64_t at) {
    return Tell(at >= step ? directive : v1::WORKER_DIRECTIVE_CONTINUE);
  };
}

class WorkerTest : public ::testing::Test {
 protected:
  WorkerTest()
      : directory_(
            std::filesystem::path(testing::TempDir()) /
            ("worker_" + std::to_string(getpid()) + "_" +
             testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::create_directories(directory_);
    Prepare(&service_);
  }
  ~WorkerTest() override { std::filesystem::remove_all(directory_); }

  static void Prepare(FakeWorkerService* service) {
    *service->lease.mutable_spec() = ParseSpec(R"(
        data { datasets {} }
        quantization { format: "pot4" granularity: "row" }
        optimizer { learning_rate: 3e-3 }
        schedule { steps: 40 warmup_steps: 2 }
        batch { sequences: 2 context: 16 }
        distillation { weight: 1 }
        dropout: 0.1
        precision: TRAINING_PRECISION_F32
        evaluation { every_steps: 10 max_tokens: 200 }
        snapshots { every_steps: 8 })");
    service->lease.set_heartbeat_seconds(0.01);
    service->lease.set_ttl_seconds(5);
    for (const auto& entry : std::filesystem::directory_iterator(kBase)) {
      *service->lease.add_base_files() =
          service->AddFile(entry.path().filename().string(),
                           ReadFile(entry.path().string(), 1 << 24).value());
    }
    // Two texts are one: the cut of the first 90 % lies in the second.
    *service->lease.add_datasets() = service->AddFile("", Text(60));
    *service->lease.add_datasets() = service->AddFile("", Text(90));
  }

  WorkerOptions Options() const {
    WorkerOptions options;
    options.name = "test";
    options.memory_bytes = 1 << 30;
    options.once = true;
    options.keeper.backoff = {.first = absl::Milliseconds(1),
                              .longest = absl::Milliseconds(10)};
    options.keeper.stop_patience = absl::Milliseconds(200);
    return options;
  }

  std::string Work(const std::string& name) const {
    return (directory_ / name).string();
  }

  absl::Status RunOne(FakeWorkerService* service, const std::string& work,
                      int threads = 1) const {
    const auto opened = WorkDirectory::Open(Work(work), 1 << 30);
    if (!opened.ok()) return opened.status();
    WorkerOptions options = Options();
    options.threads = threads;
    return Worker(service, opened->get(), options).Run();
  }

  // The checkpoint that a finished job names, by its file of exponents.
  static std::string Result(const FakeWorkerService& service) {
    if (!service.outcome.has_value() || !service.outcome->has_trained()) {
      ADD_FAILURE() << "the job was not trained";
      return "";
    }
    return service.checkpoints.at(service.outcome->trained().checkpoint_id())
        .at("model.pot.safetensors");
  }

  // Of a worker that nothing disturbed.
  const std::string& Undisturbed() {
    static const std::string* const result = [this] {
      FakeWorkerService service;
      Prepare(&service);
      EXPECT_TRUE(RunOne(&service, "undisturbed").ok());
      return new std::string(Result(service));
    }();
    return *result;
  }

  std::vector<std::string> Logs(v1::LogSeverity severity) const {
    std::vector<std::string> texts;
    for (const v1::WorkerEvent& event : service_.events) {
      if (event.has_log() && event.log().severity() == severity) {
        texts.push_back(event.log().text());
      }
    }
    return texts;
  }

  std::vector<std::string> JobDirectories(const std::string& work) const {
    std::vector<std::string> names;
    for (const auto& entry :
         std::filesystem::directory_iterator(directory_ / work / "jobs")) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }

  const std::filesystem::path directory_;
  FakeWorkerService service_;
};

TEST_F(WorkerTest, TrainsUploadsAndTells) {
  ASSERT_TRUE(RunOne(&service_, "work").ok());
  EXPECT_EQ(Undisturbed(), Result(service_));
  // Evaluations at every tenth step; each new best one is a checkpoint.
  std::vector<int64_t> evaluated;
  double best = 0;
  std::set<std::string> bests;
  int progress = 0;
  int64_t last_step = 0;
  int64_t sequence = 0;
  for (const v1::WorkerEvent& event : service_.events) {
    EXPECT_GT(event.worker_sequence(), sequence);
    sequence = event.worker_sequence();
    EXPECT_GE(event.age_seconds(), 0);
    if (event.has_progress()) {
      ++progress;
      last_step = event.progress().step();
      EXPECT_EQ(40, event.progress().total_steps());
      EXPECT_EQ(32 * last_step, event.progress().tokens());
      EXPECT_GT(event.progress().gradient_norm(), 0);
    }
    if (!event.has_evaluation()) continue;
    const v1::CheckpointEvaluation& evaluation = event.evaluation();
    evaluated.push_back(evaluation.step());
    EXPECT_EQ(199, evaluation.tokens());
    EXPECT_NEAR(std::exp(evaluation.nats_per_token()), evaluation.perplexity(),
                1e-9 * evaluation.perplexity());
    EXPECT_GT(evaluation.standard_error(), 0);
    EXPECT_GT(evaluation.bits_per_byte(), 0);
    if (bests.empty() || evaluation.nats_per_token() < best) {
      best = evaluation.nats_per_token();
      bests.insert(absl::StrCat("checkpoint-", evaluation.step()));
    }
  }
  EXPECT_THAT(evaluated, ElementsAre(0, 10, 20, 30, 40));
  EXPECT_EQ(40, last_step);
  // Not one for each step: they are a second apart but for the last.
  EXPECT_LT(progress, 20);
  std::set<std::string> uploaded;
  for (const auto& [id, files] : service_.checkpoints) uploaded.insert(id);
  EXPECT_EQ(bests, uploaded);
  EXPECT_GT(bests.size(), 1u);
  EXPECT_EQ(best,
            service_.evaluations.at(service_.outcome->trained().checkpoint_id())
                .nats_per_token());
  EXPECT_EQ(40, service_.snapshot->step());
  EXPECT_THAT(JobDirectories("work"), IsEmpty());
}

TEST_F(WorkerTest, BrokenConnectionsChangeNothing) {
  for (const char* method :
       {"AcquireLease", "Heartbeat", "ReportEvents", "GetUpload", "Complete",
        "FetchBase", "FetchDataset", "UploadSnapshot", "UploadCheckpoint"}) {
    service_.refused[method] = 3;
    service_.unanswered[method] = 2;
  }
  service_.chunks_before_break = 1;
  service_.breaks = 40;
  service_.wrong_crcs = 2;
  ASSERT_TRUE(RunOne(&service_, "work").ok());
  EXPECT_EQ(Undisturbed(), Result(service_));
  EXPECT_EQ(0, service_.breaks);
  EXPECT_EQ(0, service_.wrong_crcs);
  for (const auto& [method, left] : service_.refused) EXPECT_EQ(0, left);
  std::set<int64_t> evaluated;
  for (const v1::WorkerEvent& event : service_.events) {
    if (!event.has_evaluation()) continue;
    EXPECT_TRUE(evaluated.insert(event.evaluation().step()).second);
  }
  EXPECT_EQ(5u, evaluated.size());
}

TEST_F(WorkerTest, PausedJobsGoOnElsewhereAndHere) {
  service_.directive = From(12, v1::WORKER_DIRECTIVE_PAUSE);
  ASSERT_TRUE(RunOne(&service_, "a").ok());
  ASSERT_TRUE(service_.outcome->has_released());
  const int64_t first = service_.snapshot->step();
  EXPECT_GE(first, 12);
  ASSERT_LT(first, 40);
  // Another host, with other threads: it says so.
  service_.directive = From(first + 10, v1::WORKER_DIRECTIVE_PAUSE);
  ASSERT_TRUE(RunOne(&service_, "b", 2).ok());
  ASSERT_TRUE(service_.outcome->has_released());
  EXPECT_THAT(Logs(v1::LOG_SEVERITY_WARNING),
              ElementsAre(HasSubstr("worker.threads 1")));
  EXPECT_THAT(Logs(v1::LOG_SEVERITY_INFO),
              testing::Contains(HasSubstr("the server's snapshot")));
  // The same host again: its input is there, and its snapshot.
  service_.directive = nullptr;
  const int64_t fetched = service_.fetched_bytes;
  ASSERT_TRUE(RunOne(&service_, "b", 2).ok());
  EXPECT_EQ(fetched, service_.fetched_bytes);
  EXPECT_EQ(3, service_.epoch);
  EXPECT_EQ(Undisturbed(), Result(service_));
}

TEST_F(WorkerTest, StoppedWorkersGiveTheirJobBack) {
  const auto work = WorkDirectory::Open(Work("work"), 1 << 30).value();
  WorkerOptions options = Options();
  options.once = false;
  Worker worker(&service_, work.get(), options);
  service_.directive = [&worker](int64_t step) {
    if (step >= 5) worker.Stop();
    return Tell(v1::WORKER_DIRECTIVE_CONTINUE);
  };
  EXPECT_TRUE(worker.Run().ok());
  ASSERT_TRUE(service_.outcome->has_released());
  EXPECT_GE(service_.snapshot->step(), 5);
  EXPECT_LT(service_.snapshot->step(), 40);
}

TEST_F(WorkerTest, StoppedWorkersDoNotWaitForADeadServer) {
  const auto work = WorkDirectory::Open(Work("work"), 1 << 30).value();
  Worker worker(&service_, work.get(), Options());
  service_.directive = [&](int64_t step) {
    if (step >= 5) {
      worker.Stop();
      service_.FailFromNowOn();
    }
    return Tell(v1::WORKER_DIRECTIVE_CONTINUE);
  };
  EXPECT_TRUE(worker.Run().ok());
  EXPECT_FALSE(service_.outcome.has_value());
  // What it has computed is here still.
  EXPECT_THAT(JobDirectories("work"), testing::SizeIs(1));
}

TEST_F(WorkerTest, CancelledAndLostJobsEndAtOnce) {
  service_.lease.mutable_spec()->mutable_schedule()->set_steps(1000000);
  service_.directive = From(5, v1::WORKER_DIRECTIVE_CANCEL);
  EXPECT_TRUE(RunOne(&service_, "work").ok());
  EXPECT_TRUE(service_.outcome->has_cancelled());
  EXPECT_THAT(JobDirectories("work"), IsEmpty());

  service_.directive = From(5, v1::WORKER_DIRECTIVE_LEASE_LOST);
  EXPECT_FALSE(RunOne(&service_, "work").ok());
  EXPECT_FALSE(service_.outcome.has_value());
  EXPECT_EQ(1, service_.calls["Complete"]);
}

TEST_F(WorkerTest, StopsEarlyWithAnEvaluation) {
  service_.lease.mutable_spec()->mutable_schedule()->set_steps(1000000);
  service_.lease.mutable_spec()->mutable_schedule()->set_warmup_steps(1);
  service_.lease.mutable_spec()->mutable_schedule()->set_shape(
      v1::SCHEDULE_SHAPE_CONSTANT);
  service_.lease.mutable_spec()->mutable_evaluation()->set_every_steps(1000000);
  service_.directive = From(30, v1::WORKER_DIRECTIVE_STOP_EARLY);
  ASSERT_TRUE(RunOne(&service_, "work").ok());
  ASSERT_TRUE(service_.outcome->has_trained());
  EXPECT_EQ(absl::StrCat("checkpoint-", service_.snapshot->step()),
            service_.outcome->trained().checkpoint_id());
}

TEST_F(WorkerTest, ThrottledJobsRest) {
  const auto run = [&](double ratio) {
    FakeWorkerService service;
    Prepare(&service);
    service.lease.mutable_spec()->mutable_schedule()->set_steps(16);
    service.directive = [=](int64_t) {
      v1::HeartbeatResponse response = Tell(v1::WORKER_DIRECTIVE_THROTTLE);
      response.set_duty_ratio(ratio);
      return response;
    };
    const auto begun = std::chrono::steady_clock::now();
    EXPECT_TRUE(RunOne(&service, absl::StrCat("work", ratio)).ok());
    return std::chrono::steady_clock::now() - begun;
  };
  const auto unthrottled = run(1);
  // Five times the computing; what else a job does takes as long as before.
  EXPECT_GT(run(0.2), 1.5 * unthrottled);
}

TEST_F(WorkerTest, SaysWhatIsWrongAndWhetherToTryAgain) {
  // Data: nobody could.
  service_.lease.clear_datasets();
  *service_.lease.add_datasets() = service_.AddFile("", "too short");
  EXPECT_FALSE(RunOne(&service_, "work").ok());
  ASSERT_TRUE(service_.outcome->has_failed());
  EXPECT_FALSE(service_.outcome->failed().retryable());
  EXPECT_THAT(service_.outcome->failed().message(),
              testing::AllOf(HasSubstr("tokens"), HasSubstr("submit again")));

  // The specification: neither.
  service_.lease.clear_datasets();
  *service_.lease.add_datasets() = service_.AddFile("", Text(90));
  service_.lease.mutable_spec()->mutable_quantization()->set_format("pot9");
  EXPECT_FALSE(RunOne(&service_, "work").ok());
  ASSERT_TRUE(service_.outcome->has_failed());
  EXPECT_FALSE(service_.outcome->failed().retryable());
  EXPECT_THAT(service_.outcome->failed().message(),
              HasSubstr("spec.quantization.format"));

  // A server that sends other bytes than it says.
  service_.lease.mutable_spec()->mutable_quantization()->set_format("pot4");
  service_.lease.clear_datasets();
  *service_.lease.add_datasets() = service_.AddFile("", Text(91));
  service_.SpoilFile(service_.lease.datasets(0).sha256());
  EXPECT_FALSE(RunOne(&service_, "work").ok());
  ASSERT_TRUE(service_.outcome->has_failed());
  EXPECT_TRUE(service_.outcome->failed().retryable());
  EXPECT_THAT(service_.outcome->failed().message(),
              Not(HasSubstr(directory_.string())));
}

TEST_F(WorkerTest, SamplesItsTrainingText) {
  service_.lease.clear_datasets();
  service_.lease.mutable_spec()
      ->mutable_data()
      ->mutable_self_generated()
      ->set_tokens(600);
  ASSERT_TRUE(RunOne(&service_, "work").ok());
  EXPECT_NE(Undisturbed(), Result(service_));
}

TEST_F(WorkerTest, ASecondWorkerIsToldWhoHasTheDirectory) {
  const auto first = WorkDirectory::Open(Work("work"), 1 << 30).value();
  const auto second = WorkDirectory::Open(Work("work"), 1 << 30);
  EXPECT_EQ(absl::StatusCode::kFailedPrecondition, second.status().code());
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr(absl::StrCat("process ", getpid())));
  EXPECT_EQ(first->DefaultName().value(), first->DefaultName().value());
}

TEST_F(WorkerTest, TheCacheKeepsItsLimit) {
  ASSERT_TRUE(RunOne(&service_, "work").ok());
  const auto work = WorkDirectory::Open(Work("work"), 1000).value();
  const std::string kept = service_.lease.base_files(0).sha256();
  v1::StoredFile gone = service_.lease.datasets(0);
  ASSERT_TRUE(work->HasCached(gone));
  ASSERT_TRUE(work->MakeRoom(1, {kept}).ok());
  EXPECT_FALSE(work->HasCached(gone));
  EXPECT_TRUE(work->HasCached(service_.lease.base_files(0)));
  EXPECT_EQ(absl::StatusCode::kResourceExhausted,
            work->MakeRoom(int64_t{1} << 60, {kept}).code());
  // A flipped byte is noticed.
  const std::string path = work->CachePath(kept);
  std::string content = ReadFile(path, 1 << 24).value();
  content[0] ^= 1;
  ASSERT_TRUE(WriteFile(path, content).ok());
  EXPECT_FALSE(work->HasCached(service_.lease.base_files(0)));
}

TEST(JobOptionsTest, EveryFieldArrives) {
  Gpt2Config base;
  base.n_positions = 64;
  const JobOptions options = JobOptionsOf(ParseSpec(R"(
          data { self_generated { tokens: 5000 temperature: 0.7
                                  greedy_prefix_tokens: 2 }
                 holdout_ratio: 0.2 }
          quantization { format: "pot3" granularity: "g32" method: "nearest"
                         embedding_format: "twohot4"
                         embedding_granularity: "g64" }
          activations: ACTIVATION_QUANTIZATION_OBSERVED
          optimizer { learning_rate: 1e-3 beta1: 0.8 beta2: 0.9 epsilon: 1e-7
                      weight_decay: 0.1 clip_norm: 2 }
          schedule { steps: 500 warmup_steps: 7 shape: SCHEDULE_SHAPE_LINEAR
                     final_ratio: 0.1 patience_evaluations: 5 }
          batch { sequences: 3 accumulation: 4 context: 32 }
          loss { positions: LOSS_POSITIONS_LAST cross_entropy_weight: 0.5 }
          distillation { weight: 2 temperature: 3 }
          straight_through: STRAIGHT_THROUGH_IDENTITY
          learned_scales { learning_rate_ratio: 20 }
          code_freeze { final_ratio: 0.3 }
          dropout: 0.2
          precision: TRAINING_PRECISION_BF16
          seed: 9
          evaluation { every_steps: 11 window: 16 stride: 8 max_tokens: 99 }
          snapshots { every_steps: 13 })"),
                                          base)
                                 .value();
  const TrainingOptions& training = options.training;
  EXPECT_EQ(1e-3, training.schedule.peak);
  EXPECT_EQ(500, training.schedule.steps);
  EXPECT_EQ(7, training.schedule.warmup_steps);
  EXPECT_EQ(ScheduleShape::kLinear, training.schedule.shape);
  EXPECT_EQ(0.1, training.schedule.final_ratio);
  EXPECT_EQ(0.8, training.optimizer.beta1);
  EXPECT_EQ(0.9, training.optimizer.beta2);
  EXPECT_EQ(1e-7, training.optimizer.epsilon);
  EXPECT_EQ(0.1, training.optimizer.weight_decay);
  EXPECT_EQ(2, training.clip_norm);
  EXPECT_EQ(BatchOrder::kRandom, training.batch.order);
  EXPECT_EQ(3, training.batch.sequences);
  EXPECT_EQ(4, training.batch.micro_batches);
  EXPECT_EQ(32, training.batch.context);
  EXPECT_EQ(33, training.batch.stride);
  EXPECT_EQ(9u, training.batch.seed);
  EXPECT_TRUE(training.loss.last_position);
  EXPECT_EQ(0.5, training.loss.cross_entropy_weight);
  EXPECT_EQ(2, training.loss.distillation_weight);
  EXPECT_EQ(3, training.loss.temperature);
  EXPECT_EQ(0.2, training.dropout);
  EXPECT_EQ(Precision::kBf16, training.precision);
  EXPECT_EQ(9u, training.seed);
  const QatOptions& qat = *training.qat;
  EXPECT_EQ("pot3", qat.weights.layers.quantize.format->name);
  EXPECT_EQ("g32", qat.weights.layers.quantize.granularity.ToString());
  EXPECT_EQ("twohot4", qat.weights.embedding.quantize.format->name);
  EXPECT_EQ("g64", qat.weights.embedding.quantize.granularity.ToString());
  EXPECT_EQ(StraightThrough::kIdentity, qat.weights.layers.straight_through);
  EXPECT_TRUE(qat.weights.layers.learned_scales);
  EXPECT_TRUE(qat.weights.embedding.learned_scales);
  EXPECT_EQ(ActivationFakeQuantization::kObserved, qat.activations.mode);
  EXPECT_EQ(20, qat.scale_rate_ratio);
  EXPECT_EQ(0.3, qat.freeze_ratio);
  EXPECT_EQ(11, options.loop.evaluate_every);
  EXPECT_EQ(16, options.loop.protocol.window);
  EXPECT_EQ(8, options.loop.protocol.stride);
  EXPECT_EQ(99, options.loop.evaluation_tokens);
  EXPECT_EQ(5, options.loop.patience);
  EXPECT_EQ(13, options.loop.snapshot_every);
  EXPECT_EQ(0.2, options.holdout_ratio);
  EXPECT_EQ(5000, options.self_text->tokens);
  EXPECT_EQ(0.7f, options.self_text->temperature);
  EXPECT_EQ(2, options.self_text->greedy_tokens);
  EXPECT_EQ(33, options.self_text->sequence_tokens);
}

TEST(JobOptionsTest, DefaultsAreThoseOfTheApi) {
  Gpt2Config base;
  base.n_positions = 64;
  const JobOptions options =
      JobOptionsOf(
          ParseSpec(R"(data { datasets {} } quantization { format: "pot4" })"),
          base)
          .value();
  EXPECT_EQ(2e-4, options.training.schedule.peak);
  EXPECT_EQ(2000, options.training.schedule.steps);
  EXPECT_EQ(40, options.training.schedule.warmup_steps);
  EXPECT_EQ(ScheduleShape::kCosine, options.training.schedule.shape);
  EXPECT_EQ(12, options.training.batch.sequences);
  EXPECT_EQ(64, options.training.batch.context);
  EXPECT_EQ(0, options.training.loss.distillation_weight);
  EXPECT_EQ(0, options.training.qat->freeze_ratio);
  EXPECT_FALSE(options.training.qat->weights.layers.learned_scales);
  EXPECT_EQ(
      "row",
      options.training.qat->weights.layers.quantize.granularity.ToString());
  EXPECT_EQ(100, options.loop.evaluate_every);
  EXPECT_EQ(100, options.loop.snapshot_every);
  EXPECT_EQ(64, options.loop.protocol.window);
  EXPECT_EQ(64, options.loop.protocol.stride);
  EXPECT_EQ(-1, options.loop.evaluation_tokens);
  EXPECT_TRUE(options.loop.evaluate_start);
  EXPECT_FALSE(options.self_text.has_value());
}

TEST(JobOptionsTest, ErrorsNameTheField) {
  Gpt2Config base;
  base.n_positions = 64;
  const std::map<std::string, std::string> cases = {
      {"optimizer { learning_rate: 0 }", "spec.optimizer.learning_rate"},
      {"optimizer { beta1: 1 }", "spec.optimizer.beta1"},
      {"optimizer { beta2: -1 }", "spec.optimizer.beta2"},
      {"optimizer { epsilon: 0 }", "spec.optimizer.epsilon"},
      {"optimizer { weight_decay: 2 }", "spec.optimizer.weight_decay"},
      {"optimizer { clip_norm: nan }", "spec.optimizer.clip_norm"},
      {"schedule { steps: 0 }", "spec.schedule.steps"},
      {"schedule { steps: 5 warmup_steps: 6 }", "spec.schedule.warmup_steps"},
      {"schedule { final_ratio: 2 }", "spec.schedule.final_ratio"},
      {"schedule { patience_evaluations: -1 }",
       "spec.schedule.patience_evaluations"},
      {"batch { sequences: 5000 }", "spec.batch.sequences"},
      {"batch { accumulation: 0 }", "spec.batch.accumulation"},
      {"batch { context: 65 }", "spec.batch.context"},
      {"loss { cross_entropy_weight: -1 }", "spec.loss.cross_entropy_weight"},
      {"loss { cross_entropy_weight: 0 }", "spec.loss.cross_entropy_weight"},
      {"distillation { temperature: 0 }", "spec.distillation.temperature"},
      {"distillation { weight: inf }", "spec.distillation.weight"},
      {"dropout: 1", "spec.dropout"},
      {"learned_scales { learning_rate_ratio: 0 }",
       "spec.learned_scales.learning_rate_ratio"},
      {"code_freeze { final_ratio: 0 }", "spec.code_freeze.final_ratio"},
      {"evaluation { every_steps: 0 }", "spec.evaluation.every_steps"},
      {"evaluation { window: 65 }", "spec.evaluation.window"},
      {"evaluation { window: 8 stride: 9 }", "spec.evaluation.stride"},
      {"evaluation { max_tokens: 1 }", "spec.evaluation.max_tokens"},
      {"snapshots { every_steps: 0 }", "spec.snapshots.every_steps"},
      {"data { holdout_ratio: 0.6 datasets {} }", "spec.data.holdout_ratio"},
      {"data { self_generated { tokens: 1 } }",
       "spec.data.self_generated.tokens"},
      {"quantization { granularity: \"x\" }", "spec.quantization.granularity"},
      {"quantization { method: \"x\" }", "spec.quantization.method"},
      {"quantization { embedding_format: \"x\" }",
       "spec.quantization.embedding_format"},
  };
  for (const auto& [text, field] : cases) {
    v1::QatJobSpec spec =
        ParseSpec(R"(data { datasets {} } quantization { format: "pot4" })");
    spec.MergeFrom(ParseSpec(text));
    const absl::Status status = JobOptionsOf(spec, base).status();
    EXPECT_EQ(absl::StatusCode::kInvalidArgument, status.code()) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(field)) << text;
  }
}

}  // namespace
}  // namespace pot
