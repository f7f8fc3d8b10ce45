#include "server/training/job_driver.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/directory.h"
#include "server/observability/log.h"
#include "server/serving/relative_paths.h"
#include "server/training/job_files.h"
#include "server/training/job_inputs.h"

namespace pot {
namespace {

constexpr int kJobsPerPage = 1000;
constexpr absl::Duration kSweepInterval = absl::Minutes(1);
constexpr char kDefaultAlias[] = "default";

// Defaults of qat_job.proto, which stored specifications have filled in.
constexpr double kDefaultHoldoutRatio = 0.1;
constexpr double kDefaultWindowSeconds = 300;
constexpr double kDefaultMaxErrorRatio = 0.05;
constexpr int kDefaultMinCalls = 20;

std::string ModelOf(const v1::QatJobSpec& spec) {
  return spec.publish().name().empty() ? spec.base().name()
                                       : spec.publish().name();
}

// Empty: none moves.
std::string AliasOf(const v1::QatJobSpec& spec) {
  if (spec.publish().keep_alias()) return "";
  return spec.publish().alias().empty() ? kDefaultAlias
                                        : spec.publish().alias();
}

// No paths: the text is the worker's own.
GateText TextOf(const v1::TrainingData& data, const std::string& root) {
  GateText text;
  if (!data.validation_sha256().empty()) {
    text.digests = {data.validation_sha256()};
  } else if (data.has_datasets()) {
    text.digests.assign(data.datasets().sha256().begin(),
                        data.datasets().sha256().end());
    text.begin = 1.0 - (data.has_holdout_ratio() ? data.holdout_ratio()
                                                 : kDefaultHoldoutRatio);
  }
  for (const std::string& digest : text.digests) {
    text.paths.push_back(absl::StrCat(DatasetsDirectory(root), "/", digest));
  }
  return text;
}

EvaluationProtocol ProtocolOf(const v1::QatJobSpec& spec, int64_t context) {
  EvaluationProtocol protocol;
  protocol.window = context;
  if (spec.batch().has_context()) protocol.window = spec.batch().context();
  if (spec.evaluation().has_window()) {
    protocol.window = spec.evaluation().window();
  }
  protocol.stride = spec.evaluation().has_stride() ? spec.evaluation().stride()
                                                   : protocol.window;
  return protocol;
}

}  // namespace

JobDriver::JobDriver(JobDriverOptions options)
    : options_(std::move(options)),
      rollback_(
          options_.repository, [this] { Wake(); }, options_.now),
      gate_(std::make_unique<QualityGate>(
          options_.load, absl::StrCat(options_.root, "/evaluations"))) {
  subscription_ = options_.store->Watch("", [this](const std::string& job_id) {
    MutexLock lock(&mutex_);
    changed_.insert(job_id);
    work_ = true;
    wake_.NotifyAll();
  });
}

JobDriver::~JobDriver() {
  subscription_.reset();
  {
    MutexLock lock(&mutex_);
    stop_ = true;
    wake_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
  gate_.reset();
}

void JobDriver::Start() {
  BeginProbations();
  thread_ = std::thread([this] { ThreadMain(); });
}

void JobDriver::Wake() {
  MutexLock lock(&mutex_);
  work_ = true;
  wake_.NotifyAll();
}

void JobDriver::ThreadMain() {
  while (true) {
    {
      MutexLock lock(&mutex_);
      const auto until = std::chrono::steady_clock::now() +
                         absl::ToChronoNanoseconds(options_.tick);
      while (!work_ && !stop_ && wake_.WaitUntil(&mutex_, until)) {
      }
      if (stop_) return;
    }
    RunOnce();
  }
}

void JobDriver::LogError(const std::string& job_id, const std::string& what,
                         const absl::Status& status) {
  if (status.ok() || absl::IsFailedPrecondition(status) ||
      absl::IsNotFound(status)) {
    return;
  }
  Log(LogLevel::kError, what,
      {{"job", job_id}, {"error", std::string(status.message())}});
}

void JobDriver::Fail(const std::string& job_id, const absl::Status& status) {
  const RelativePaths relative(options_.repository->root(), options_.root);
  const std::string message(relative.In(status).message());
  Log(LogLevel::kWarning, "job failed",
      {{"job", job_id}, {"error", std::string(status.message())}});
  LogError(job_id, "cannot end the job",
           options_.store->Advance(job_id, v1::QAT_JOB_STATE_FAILED, message)
               .status());
}

void JobDriver::RunOnce() {
  std::set<std::string> changed;
  {
    MutexLock lock(&mutex_);
    changed.swap(changed_);
    work_ = false;
  }
  const absl::Time now = options_.now();
  if (now - last_tick_ >= options_.tick || now < last_tick_) {
    last_tick_ = now;
    LogError("", "cannot end leases", options_.store->ExpireLeases().status());
  }
  EndProbations();
  CancelEvaluationOf(changed);
  TakeEvaluated();
  const auto to_evaluate = JobsIn(v1::QAT_JOB_STATE_EVALUATING);
  if (to_evaluate.ok()) {
    for (const v1::QatJob& job : *to_evaluate) {
      if (evaluating_.empty()) Evaluate(job);
    }
  }
  const auto to_publish = JobsIn(v1::QAT_JOB_STATE_PUBLISHING);
  if (to_publish.ok()) {
    for (const v1::QatJob& job : *to_publish) Publish(job);
  }
  for (const std::string& job_id : changed) {
    const absl::StatusOr<v1::QatJob> job = options_.store->Get(job_id);
    if (job.ok()) BeginProbation(*job);
  }
  if (now - last_sweep_ >= kSweepInterval || now < last_sweep_) {
    last_sweep_ = now;
    LogError("", "cannot remove old files",
             SweepJobGarbage(options_.store, options_.root));
    if (options_.datasets != nullptr) {
      LogError("", "cannot remove unused datasets",
               options_.datasets->RemoveUnused());
    }
  }
}

absl::StatusOr<std::vector<v1::QatJob>> JobDriver::JobsIn(
    v1::QatJobState state) {
  const v1::QatJobState states[] = {state};
  const absl::StatusOr<QatJobPage> page =
      options_.store->List(states, kJobsPerPage, "");
  LogError("", "cannot list the jobs", page.status());
  POT_RETURN_IF_ERROR(page.status());
  // Oldest first.
  return std::vector<v1::QatJob>(page->jobs.rbegin(), page->jobs.rend());
}

absl::StatusOr<GateInput> JobDriver::GateInputOf(
    const v1::QatJob& job, const StoredCheckpoint& candidate) {
  const v1::QatJobSpec& spec = job.spec();
  const ModelSelector selector = SelectorOf(spec.base());
  POT_ASSIGN_OR_RETURN(const ModelVersionInfo base,
                       options_.repository->Get(selector));
  GateInput input;
  auto pinned = options_.repository->Acquire(selector);
  if (pinned.ok()) input.base = *std::move(pinned);
  input.base_directory = absl::StrCat(options_.repository->root(), "/",
                                      base.name, "/", base.version);
  input.base_digest = base.digest;
  input.checkpoint_directory = JobDirectory(options_.root, candidate.directory);
  input.step = candidate.checkpoint.step();
  input.text = TextOf(spec.data(), options_.root);
  input.protocol = ProtocolOf(spec, base.config.n_positions);
  input.max_tokens = spec.evaluation().max_tokens();
  input.limits = spec.gate();
  return input;
}

void JobDriver::Evaluate(const v1::QatJob& job) {
  const absl::StatusOr<StoredCheckpoint> candidate =
      options_.store->Candidate(job.job_id());
  if (!candidate.ok()) return Fail(job.job_id(), candidate.status());
  const v1::JobCheckpoint& checkpoint = candidate->checkpoint;
  // A crash came after it.
  if (checkpoint.has_gate()) return AfterGate(job, checkpoint.gate());
  absl::StatusOr<GateInput> input = GateInputOf(job, *candidate);
  if (!input.ok()) return Fail(job.job_id(), input.status());
  evaluating_ = job.job_id();
  const auto done = [this, job_id = job.job_id(),
                     checkpoint_id = checkpoint.checkpoint_id()](
                        absl::StatusOr<v1::GateReport> report) {
    MutexLock lock(&mutex_);
    evaluated_ = Evaluated{job_id, checkpoint_id, std::move(report)};
    work_ = true;
    wake_.NotifyAll();
  };
  if (input->text.paths.empty()) {
    done(JudgeWorkersEvaluation(input->limits, checkpoint.evaluation()));
  } else {
    gate_->Start(*std::move(input), done);
  }
}

void JobDriver::CancelEvaluationOf(const std::set<std::string>& changed) {
  if (evaluating_.empty() || changed.count(evaluating_) == 0) return;
  const absl::StatusOr<v1::QatJob> job = options_.store->Get(evaluating_);
  if (absl::IsNotFound(job.status()) ||
      (job.ok() && job->state() != v1::QAT_JOB_STATE_EVALUATING)) {
    gate_->Cancel();
  }
}

void JobDriver::TakeEvaluated() {
  std::optional<Evaluated> evaluated;
  {
    MutexLock lock(&mutex_);
    evaluated.swap(evaluated_);
  }
  if (!evaluated.has_value()) return;
  evaluating_.clear();
  const std::string& job_id = evaluated->job_id;
  // The job was; or else it begins again.
  if (absl::IsCancelled(evaluated->report.status())) return;
  if (!evaluated->report.ok()) {
    return Fail(job_id, evaluated->report.status());
  }
  const absl::Status kept = options_.store->SetGateReport(
      job_id, evaluated->checkpoint_id, *evaluated->report);
  if (!kept.ok()) return LogError(job_id, "cannot keep the gate report", kept);
  const absl::StatusOr<v1::QatJob> job = options_.store->Get(job_id);
  if (job.ok() && job->state() == v1::QAT_JOB_STATE_EVALUATING) {
    AfterGate(*job, *evaluated->report);
  }
}

void JobDriver::AfterGate(const v1::QatJob& job, const v1::GateReport& report) {
  v1::QatJobState to = v1::QAT_JOB_STATE_PUBLISHING;
  std::string message;
  if (!report.passed()) {
    to = v1::QAT_JOB_STATE_GATE_REJECTED;
    ++options_.publisher->counters().gate_rejected;
    message = absl::StrJoin(report.violations(), "; ");
  } else if (job.spec().publish().manual()) {
    to = v1::QAT_JOB_STATE_SUCCEEDED;
    message = "passed the gate; to be published by hand";
  }
  LogError(job.job_id(), "cannot move the job on",
           options_.store->Advance(job.job_id(), to, message).status());
}

void JobDriver::Publish(const v1::QatJob& job) {
  const std::string& job_id = job.job_id();
  const absl::StatusOr<StoredCheckpoint> candidate =
      options_.store->Candidate(job_id);
  if (!candidate.ok()) return Fail(job_id, candidate.status());
  PublishOrder order;
  order.job_id = job_id;
  order.checkpoint_directory =
      JobDirectory(options_.root, candidate->directory);
  order.model = ModelOf(job.spec());
  order.alias = AliasOf(job.spec());
  order.actor = job.submitter();
  const absl::StatusOr<Publication> publication =
      options_.publisher->Publish(order);
  if (!publication.ok()) return Fail(job_id, publication.status());
  v1::ModelIdentity identity;
  identity.set_name(publication->identity.name);
  identity.set_version(publication->identity.version);
  identity.set_sha256(publication->identity.sha256);
  identity.set_engine(options_.engine);
  const absl::Status marked = options_.store->MarkPublished(
      job_id, candidate->checkpoint.checkpoint_id(), identity);
  if (!marked.ok()) return LogError(job_id, "cannot mark as published", marked);
  const std::string message = absl::StrCat(
      "published as version ", identity.version(), " of ", identity.name(),
      order.alias.empty() ? "" : ", which is now ", order.alias);
  LogError(job_id, "cannot end the job",
           options_.store->Advance(job_id, v1::QAT_JOB_STATE_SUCCEEDED, message)
               .status());
  Log(LogLevel::kInfo, "published",
      {{"job", job_id},
       {"model", identity.name()},
       {"version", absl::StrCat(identity.version())},
       {"alias", order.alias}});
}

void JobDriver::BeginProbation(const v1::QatJob& job) {
  const v1::PublishPolicy& policy = job.spec().publish();
  if (!job.has_published() || !policy.has_auto_rollback()) return;
  Probation probation;
  probation.job_id = job.job_id();
  probation.model = job.published().name();
  probation.alias = AliasOf(job.spec());
  probation.version = job.published().version();
  if (probation.alias.empty()) return;
  const absl::StatusOr<std::optional<AliasChange>> moved =
      FindPublication(options_.repository, probation.model, probation.alias,
                      probation.version, probation.job_id);
  if (!moved.ok() || !moved->has_value()) return;
  const v1::AutoRollback& limits = policy.auto_rollback();
  probation.end = (*moved)->time + absl::Seconds(limits.has_window_seconds()
                                                     ? limits.window_seconds()
                                                     : kDefaultWindowSeconds);
  if (options_.now() >= probation.end) return;
  probation.max_error_ratio = limits.has_max_error_ratio()
                                  ? limits.max_error_ratio()
                                  : kDefaultMaxErrorRatio;
  probation.min_calls =
      limits.has_min_calls() ? limits.min_calls() : kDefaultMinCalls;
  // Whoever moved the alias since has taken the matter over.
  const auto newest =
      options_.repository->AliasHistory(probation.model, probation.alias, 1);
  if (newest.ok() && !newest->empty() &&
      newest->front().sequence == (*moved)->sequence) {
    rollback_.Watch(probation);
  }
}

void JobDriver::BeginProbations() {
  std::string token;
  do {
    const absl::StatusOr<QatJobPage> page =
        options_.store->List({}, kJobsPerPage, token);
    if (!page.ok()) return LogError("", "cannot list the jobs", page.status());
    for (const v1::QatJob& job : page->jobs) BeginProbation(job);
    token = page->next_page_token;
  } while (!token.empty());
}

void JobDriver::EndProbations() {
  for (const ProbationEnd& end : rollback_.Decide()) {
    if (end.message.empty()) continue;
    const std::string& job_id = end.probation.job_id;
    Log(LogLevel::kWarning, "auto-rollback",
        {{"job", job_id}, {"text", end.message}});
    v1::JobLogLine line;
    line.set_severity(v1::LOG_SEVERITY_WARNING);
    line.set_text(end.message);
    LogError(job_id, "cannot tell of the rollback",
             options_.store->AppendLog(job_id, line));
  }
}

void JobDriver::RemoveOrphans() {
  options_.uploads->Sweep([this](const std::string& job_id) {
    const absl::StatusOr<v1::QatJob> job = options_.store->Get(job_id);
    return job.ok() ? job->state() == v1::QAT_JOB_STATE_QUEUED ||
                          job->state() == v1::QAT_JOB_STATE_RUNNING ||
                          job->state() == v1::QAT_JOB_STATE_PAUSED
                    : !absl::IsNotFound(job.status());
  });
  // Checkpoints that were renamed to their place but not stored.
  const std::string jobs_directory = JobsDirectory(options_.root);
  const auto jobs = ListDirectory(jobs_directory);
  if (!jobs.ok()) return;
  for (const DirectoryEntry& entry : *jobs) {
    const auto stored = options_.store->ListCheckpoints(entry.name);
    const std::string job_directory =
        absl::StrCat(jobs_directory, "/", entry.name);
    if (absl::IsNotFound(stored.status())) {
      RemoveTree(job_directory).IgnoreError();
    }
    const auto checkpoints =
        ListDirectory(absl::StrCat(job_directory, "/checkpoints"));
    if (!stored.ok() || !checkpoints.ok()) continue;
    for (const DirectoryEntry& checkpoint : *checkpoints) {
      const std::string directory =
          absl::StrCat(entry.name, "/checkpoints/", checkpoint.name);
      if (std::none_of(stored->begin(), stored->end(), [&](const auto& known) {
            return known.directory == directory;
          })) {
        RemoveTree(JobDirectory(options_.root, directory)).IgnoreError();
      }
    }
  }
}

}  // namespace pot
