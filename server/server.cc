#include "server/server.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/types/span.h"
#include "engine/base/status_macros.h"
#include "engine/inference_engine.h"
#include "engine/kernels/kernel_table.h"
#include "engine/loaded_model.h"
#include "grpc/support/log.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/grpcpp.h"
#include "server/listener.h"
#include "server/observability/log.h"
#include "server/observability/metrics_exporter.h"
#include "server/rpc/call.h"
#include "server/rpc/caller.h"
#include "server/rpc/health_service.h"
#include "server/rpc/inference_service.h"
#include "server/rpc/model_health.h"
#include "server/rpc/model_service.h"
#include "server/rpc/unknown_methods.h"
#include "server/rpc/wire.h"
#include "server/server_metrics.h"
#include "server/server_security.h"
#include "server/serving/generation_scheduler.h"
#include "server/serving/hub_importer.h"
#include "server/serving/latency_histogram.h"
#include "server/serving/model_repository.h"
#include "server/training_backend.h"

namespace pot {
namespace {

// The services that "" stands for; the last two unless there is no training.
constexpr const char* kServices[] = {
    "", "pot.v1.InferenceService", "pot.v1.ModelService",
    "pot.v1.TrainingService", "pot.v1.TrainerWorkerService"};
constexpr size_t kTrainingServices = 2;

// How long watchers get to see NOT_SERVING before their streams are cut.
constexpr auto kShutdownGrace = std::chrono::milliseconds(200);

void LogFromGrpc(gpr_log_func_args* args) {
  const LogLevel level = args->severity == GPR_LOG_SEVERITY_ERROR
                             ? LogLevel::kWarning
                             : LogLevel::kDebug;
  Log(level, "grpc", {{"text", args->message}});
}

// What gRPC and protobuf keep per process.
void InitProcess() {
  static const bool done = [] {
    gpr_set_log_function(&LogFromGrpc);
    SilenceProtobufUtf8Errors();
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    return true;
  }();
  static_cast<void>(done);
}

absl::StatusOr<const KernelTable*> ChooseKernels(const std::string& name) {
  return name.empty() ? KernelTableFromEnvironment() : FindKernelTable(name);
}

}  // namespace

class Server::Impl {
 public:
  absl::Status Start(const ServerConfig& config);
  ~Impl();

  int port() const { return port_; }
  int metrics_port() const {
    return exporter_ == nullptr ? 0 : exporter_->port();
  }
  void LoadModels();
  bool Drain(absl::Time deadline);

 private:
  absl::Status OpenTraining(const ServerConfig& config, const LoadOptions& load,
                            const std::string& engine);
  absl::Status OpenPorts(const ServerConfig& config);
  absl::Status OpenMetrics(const ServerConfig& config,
                           const KernelTable& kernels);
  absl::StatusOr<std::unique_ptr<grpc::Server>> OpenPort(
      const ServerConfig& config, bool worker,
      std::vector<grpc::Service*> services, int* port);
  // The health status of all services.
  void SetServing(bool serving);

  // In the order of construction; the gRPC server goes first, while what its
  // calls use is still there.
  std::unique_ptr<ServerMetrics> metrics_;
  CallTracker calls_;
  HealthStatuses health_;
  std::unique_ptr<ServerSecurity> security_;
  // gRPC wants its own for each port.
  std::unique_ptr<UnknownMethods> unknown_methods_;
  std::unique_ptr<UnknownMethods> worker_unknown_methods_;
  std::unique_ptr<HealthService> health_service_;
  std::unique_ptr<HealthService> worker_health_service_;
  std::unique_ptr<ModelRepository> repository_;
  std::unique_ptr<InferenceEngine> engine_;
  LatencyHistogram inter_token_latencies_;
  std::unique_ptr<GenerationScheduler> scheduler_;
  std::unique_ptr<TrainingBackend> training_;  // null: no training
  std::unique_ptr<InferenceService> inference_;
  std::unique_ptr<HubImporter> hub_;  // null: no downloads
  std::unique_ptr<ModelService> models_;
  std::unique_ptr<grpc::Server> worker_server_;  // null: grpc_server_
  std::unique_ptr<grpc::Server> grpc_server_;
  std::unique_ptr<ModelHealth> model_health_;
  std::shared_ptr<ModelRepository::Subscription> health_events_;
  std::unique_ptr<MetricsExporter> exporter_;  // null: no metrics
  std::atomic<bool> draining_ = false;
  int port_ = 0;
};

absl::Status Server::Impl::Start(const ServerConfig& config) {
  InitProcess();
  metrics_ = std::make_unique<ServerMetrics>();
  calls_.SetMetrics(&metrics_->rpc(), &metrics_->serving());
  POT_ASSIGN_OR_RETURN(security_, ServerSecurity::Open(config.security));
  AccessControl* const access = security_->access();
  calls_.SetAccess(access);
  calls_.SetReadTimeout(config.read_timeout);
  unknown_methods_ = std::make_unique<UnknownMethods>(access, &metrics_->rpc());
  worker_unknown_methods_ =
      std::make_unique<UnknownMethods>(access, &metrics_->rpc());
  health_service_ = std::make_unique<HealthService>(&health_, access);
  worker_health_service_ = std::make_unique<HealthService>(&health_, access);
  POT_ASSIGN_OR_RETURN(const KernelTable* kernels,
                       ChooseKernels(config.kernel));
  ModelRepositoryOptions options;
  options.root = config.repository;
  options.import_root = config.import_root;
  options.load.kernels = kernels;
  options.load.activations = config.activations;
  options.max_resident_bytes = config.max_model_memory;
  options.min_free_disk_bytes = config.min_free_disk;
  const LoadOptions load = options.load;
  POT_ASSIGN_OR_RETURN(repository_, ModelRepository::Open(std::move(options)));
  engine_ = std::make_unique<InferenceEngine>(config.threads, config.kv_memory);

  SchedulerOptions scheduling;
  scheduling.max_waiting_tasks = config.max_waiting_tasks;
  scheduling.max_waiting_tokens = config.max_waiting_tokens;
  if (config.max_queue_time > absl::ZeroDuration()) {
    scheduling.max_queue_time = config.max_queue_time;
  }
  scheduling.max_running_sequences = config.max_running_sequences;
  scheduling.prefill_chunk_tokens = config.prefill_chunk_tokens;
  scheduling.prefix_cache_bytes = config.prefix_cache;
  scheduling.inter_token_latencies = &inter_token_latencies_;
  scheduling.metrics = &metrics_->serving();
  scheduler_ = std::make_unique<GenerationScheduler>(engine_.get(), scheduling);
  scheduler_->Start();

  ServiceContext context;
  context.repository = repository_.get();
  context.scheduler = scheduler_.get();
  context.calls = &calls_;
  context.write_timeout = config.write_timeout;
  context.log_prompts = config.log_prompts;
  context.engine =
      absl::StrCat(absl::StrReplaceAll(kEngineVersion, {{" ", "/"}}), " ",
                   kernels->name, " ", ActivationModeName(config.activations));
  inference_ = std::make_unique<InferenceService>(context);
  if (!config.import_hosts.empty()) {
    POT_ASSIGN_OR_RETURN(
        hub_, HubImporter::Open(
                  config.import_hosts, repository_->root(),
                  [](const char* name) { return std::getenv(name); },
                  [this](int64_t bytes) {
                    return repository_->CheckDiskSpace(bytes);
                  }));
  }
  ModelServiceOptions models;
  models.hub = hub_.get();
  models.actor = [this](const grpc::CallbackServerContext& rpc) {
    return CallerName(calls_.access(), rpc);
  };
  models_ = std::make_unique<ModelService>(repository_.get(), &calls_,
                                           std::move(models));
  if (config.training) {
    POT_RETURN_IF_ERROR(OpenTraining(config, load, context.engine));
  }
  POT_RETURN_IF_ERROR(OpenMetrics(config, *kernels));
  POT_RETURN_IF_ERROR(OpenPorts(config));
  Log(LogLevel::kInfo, "listening",
      {{"address", config.listen},
       {"port", absl::StrCat(port_)},
       {"tls", config.security.tls() ? "true" : "false"},
       {"keys", security_->access() != nullptr ? "true" : "false"},
       {"engine", context.engine},
       {"threads", absl::StrCat(config.threads)}});
  return absl::OkStatus();
}

absl::Status Server::Impl::OpenTraining(const ServerConfig& config,
                                        const LoadOptions& load,
                                        const std::string& engine) {
  TrainingBackendOptions options;
  options.root = config.training_root.empty()
                     ? absl::StrCat(repository_->root(), "/.training")
                     : config.training_root;
  options.repository = repository_.get();
  options.calls = &calls_;
  options.inter_token_latencies = &inter_token_latencies_;
  options.load = load;
  options.engine = engine;
  options.inter_token_target = config.inter_token_target;
  options.max_dataset_bytes = config.max_dataset_size;
  options.dataset_age = config.dataset_age;
  options.max_queued_jobs = config.max_queued_jobs;
  options.min_free_disk_bytes = config.min_free_disk;
  POT_ASSIGN_OR_RETURN(training_, TrainingBackend::Open(options));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<grpc::Server>> Server::Impl::OpenPort(
    const ServerConfig& config, bool worker,
    std::vector<grpc::Service*> services, int* port) {
  ListenOptions options;
  options.setting = worker ? "worker-listen" : "listen";
  options.address = worker ? config.worker_listen : config.listen;
  options.credentials =
      worker ? security_->worker_credentials() : security_->credentials();
  services.push_back(worker ? worker_health_service_.get()
                            : health_service_.get());
  options.services = std::move(services);
  options.unknown_methods =
      worker ? worker_unknown_methods_.get() : unknown_methods_.get();
  // It would tell strangers what there is.
  options.reflection = security_->access() == nullptr;
  options.limits = config.connection;
  return Listen(options, port);
}

absl::Status Server::Impl::OpenMetrics(const ServerConfig& config,
                                       const KernelTable& kernels) {
#ifdef __aarch64__
  constexpr char kIsa[] = "aarch64";
#else
  constexpr char kIsa[] = "x86-64";
#endif
  metrics_->Watch(
      repository_.get(), scheduler_.get(), engine_.get(), training_.get(),
      {{"version", std::string(kEngineVersion)},
       {"isa", kIsa},
       {"kernel", std::string(kernels.name)},
       {"activations", std::string(ActivationModeName(config.activations))},
       {"threads", absl::StrCat(config.threads)}});
  if (config.metrics_listen.empty()) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<MetricsExporter>> exporter =
      MetricsExporter::Start(config.metrics_listen,
                             [this] { return metrics_->Collect(); });
  if (!exporter.ok()) {
    return absl::UnavailableError(
        absl::StrCat("--metrics-listen: ", exporter.status().message()));
  }
  exporter_ = *std::move(exporter);
  Log(LogLevel::kInfo, "listening for Prometheus",
      {{"address", config.metrics_listen},
       {"port", absl::StrCat(exporter_->port())}});
  return absl::OkStatus();
}

absl::Status Server::Impl::OpenPorts(const ServerConfig& config) {
  SetServing(false);
  std::vector<grpc::Service*> services = {inference_.get(), models_.get()};
  if (training_ != nullptr) {
    services.push_back(training_->training_service());
    if (config.worker_listen.empty()) {
      services.push_back(training_->worker_service());
    } else {
      int worker_port = 0;
      POT_ASSIGN_OR_RETURN(
          worker_server_,
          OpenPort(config, /*worker=*/true, {training_->worker_service()},
                   &worker_port));
      Log(LogLevel::kInfo, "listening for trainers",
          {{"address", config.worker_listen},
           {"port", absl::StrCat(worker_port)}});
    }
  }
  POT_ASSIGN_OR_RETURN(grpc_server_, OpenPort(config, /*worker=*/false,
                                              std::move(services), &port_));
  model_health_ = std::make_unique<ModelHealth>(&health_);
  health_events_ = repository_->Watch("", [this](const ModelEvent& event) {
    model_health_->OnEvent(event);
    // What is cached for a model that was unloaded is to be freed.
    scheduler_->Wake();
  });
  return absl::OkStatus();
}

void Server::Impl::LoadModels() {
  repository_->LoadServed([this] { return draining_.load(); });
  const absl::StatusOr<std::vector<ModelVersionInfo>> versions =
      repository_->List("");
  if (draining_) {
    Log(LogLevel::kInfo, "stopped loading models", {});
  } else if (!versions.ok()) {
    Log(LogLevel::kError, "cannot list the repository",
        {{"error", std::string(versions.status().message())}});
  } else {
    for (const ModelVersionInfo& version : *versions) {
      const bool failed = version.state == ModelVersionState::kFailed;
      Log(failed ? LogLevel::kError : LogLevel::kInfo, "model",
          {{"model", version.name},
           {"version", absl::StrCat(version.version)},
           {"state", std::string(ModelVersionStateName(version.state))},
           {"format", version.format},
           {"resident_bytes", absl::StrCat(version.resident_bytes)},
           {"error", version.state_message},
           {"directory", absl::StrCat(repository_->root(), "/", version.name,
                                      "/", version.version)}});
    }
  }
  if (training_ != nullptr) training_->Start();
  // No effect once Drain() began.
  SetServing(true);
}

void Server::Impl::SetServing(bool serving) {
  const absl::Span<const char* const> all(kServices);
  for (const char* service :
       training_ == nullptr ? all.first(all.size() - kTrainingServices) : all) {
    health_.SetServingStatus(service, serving);
  }
}

bool Server::Impl::Drain(absl::Time deadline) {
  draining_ = true;
  health_.Shutdown();
  calls_.BeginDrain();
  const bool idle = calls_.WaitUntilIdle(deadline);
  scheduler_->BeginDrain();
  scheduler_->FinishDrain(deadline);
  const auto end = std::chrono::system_clock::now() + kShutdownGrace;
  if (worker_server_ != nullptr) worker_server_->Shutdown(end);
  grpc_server_->Shutdown(end);
  return idle;
}

Server::Impl::~Impl() {
  exporter_.reset();
  health_events_.reset();
  if (metrics_ != nullptr) metrics_->Unwatch();
  for (auto* const server : {&worker_server_, &grpc_server_}) {
    if (*server == nullptr) continue;
    (*server)->Shutdown(std::chrono::system_clock::now());
    (*server)->Wait();
    server->reset();
  }
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

absl::StatusOr<std::unique_ptr<Server>> Server::Start(
    const ServerConfig& config) {
  auto impl = std::make_unique<Impl>();
  POT_RETURN_IF_ERROR(impl->Start(config));
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

int Server::port() const { return impl_->port(); }
int Server::metrics_port() const { return impl_->metrics_port(); }
void Server::LoadModels() { impl_->LoadModels(); }
bool Server::Drain(absl::Time deadline) { return impl_->Drain(deadline); }

}  // namespace pot
