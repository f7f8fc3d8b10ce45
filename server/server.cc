#include "server/server.h"

#include <atomic>
#include <chrono>
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
#include "grpc/health/v1/health.pb.h"
#include "grpc/support/log.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include "server/observability/log.h"
#include "server/rpc/call.h"
#include "server/rpc/inference_service.h"
#include "server/rpc/model_health.h"
#include "server/rpc/model_service.h"
#include "server/rpc/wire.h"
#include "server/serving/generation_scheduler.h"
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

// Dead connections are noticed within a minute and a half; clients may ping
// that often, too.
constexpr int kKeepaliveMs = 60000;
constexpr int kKeepaliveTimeoutMs = 20000;
constexpr int kMinClientPingMs = 10000;

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
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    // Links the file, so that reflection can describe the service.
    return ::grpc::health::v1::HealthCheckRequest::descriptor() != nullptr;
  }();
  static_cast<void>(done);
}

// A gRPC server of `services` on the address of the setting `flag`. `port`
// becomes 0 for a unix socket.
absl::StatusOr<std::unique_ptr<grpc::Server>> Listen(
    const std::string& flag, const std::string& address,
    const std::vector<grpc::Service*>& services, const ServerConfig& config,
    int* port) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), port);
  for (grpc::Service* const service : services) {
    builder.RegisterService(service);
  }
  builder.SetMaxReceiveMessageSize(static_cast<int>(config.max_message_size));
  // Otherwise two servers could share a port and each get half of the calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                             static_cast<int>(config.max_concurrent_streams));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinClientPingMs);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || (*port == 0 && address[0] != 'u')) {
    return absl::UnavailableError(absl::StrCat(
        "--", flag, ": cannot listen on ", address,
        "; is the address one of this host's, and the port not in use?"));
  }
  if (address.compare(0, 5, "unix:") == 0) *port = 0;
  return server;
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
  void LoadModels();
  bool Drain(absl::Time deadline);

 private:
  absl::Status OpenTraining(const ServerConfig& config, const LoadOptions& load,
                            const std::string& engine);
  absl::Status OpenPorts(const ServerConfig& config);
  grpc::HealthCheckServiceInterface* health() {
    return grpc_server_->GetHealthCheckService();
  }
  // The health status of all services.
  void SetServing(bool serving);

  // In the order of construction; the gRPC server goes first, while what its
  // calls use is still there.
  CallTracker calls_;
  std::unique_ptr<ModelRepository> repository_;
  std::unique_ptr<InferenceEngine> engine_;
  LatencyHistogram inter_token_latencies_;
  std::unique_ptr<GenerationScheduler> scheduler_;
  std::unique_ptr<TrainingBackend> training_;  // null: no training
  std::unique_ptr<InferenceService> inference_;
  std::unique_ptr<ModelService> models_;
  std::unique_ptr<grpc::Server> worker_server_;  // null: grpc_server_
  std::unique_ptr<grpc::Server> grpc_server_;
  std::unique_ptr<ModelHealth> model_health_;
  std::shared_ptr<ModelRepository::Subscription> health_events_;
  std::atomic<bool> draining_ = false;
  int port_ = 0;
};

absl::Status Server::Impl::Start(const ServerConfig& config) {
  InitProcess();
  POT_ASSIGN_OR_RETURN(const KernelTable* kernels,
                       ChooseKernels(config.kernel));
  ModelRepositoryOptions options;
  options.root = config.repository;
  options.import_root = config.import_root;
  options.load.kernels = kernels;
  options.load.activations = config.activations;
  options.max_resident_bytes = config.max_model_memory;
  const LoadOptions load = options.load;
  POT_ASSIGN_OR_RETURN(repository_, ModelRepository::Open(std::move(options)));
  engine_ = std::make_unique<InferenceEngine>(config.threads, config.kv_memory);

  SchedulerOptions scheduling;
  scheduling.max_waiting_tasks = config.max_waiting_tasks;
  scheduling.max_waiting_tokens = config.max_waiting_tokens;
  scheduling.max_running_sequences = config.max_running_sequences;
  scheduling.prefill_chunk_tokens = config.prefill_chunk_tokens;
  scheduling.prefix_cache_bytes = config.prefix_cache;
  scheduling.inter_token_latencies = &inter_token_latencies_;
  scheduler_ = std::make_unique<GenerationScheduler>(engine_.get(), scheduling);
  scheduler_->Start();

  ServiceContext context;
  context.repository = repository_.get();
  context.scheduler = scheduler_.get();
  context.calls = &calls_;
  context.write_timeout = config.write_timeout;
  context.engine =
      absl::StrCat(absl::StrReplaceAll(kEngineVersion, {{" ", "/"}}), " ",
                   kernels->name, " ", ActivationModeName(config.activations));
  inference_ = std::make_unique<InferenceService>(context);
  models_ = std::make_unique<ModelService>(repository_.get(), &calls_);
  if (config.training) {
    POT_RETURN_IF_ERROR(OpenTraining(config, load, context.engine));
  }
  POT_RETURN_IF_ERROR(OpenPorts(config));
  Log(LogLevel::kInfo, "listening",
      {{"address", config.listen},
       {"port", absl::StrCat(port_)},
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
  POT_ASSIGN_OR_RETURN(training_, TrainingBackend::Open(options));
  return absl::OkStatus();
}

absl::Status Server::Impl::OpenPorts(const ServerConfig& config) {
  std::vector<grpc::Service*> services = {inference_.get(), models_.get()};
  if (training_ != nullptr) {
    services.push_back(training_->training_service());
    if (config.worker_listen.empty()) {
      services.push_back(training_->worker_service());
    } else {
      int worker_port = 0;
      POT_ASSIGN_OR_RETURN(
          worker_server_,
          Listen("worker-listen", config.worker_listen,
                 {training_->worker_service()}, config, &worker_port));
      Log(LogLevel::kInfo, "listening for trainers",
          {{"address", config.worker_listen},
           {"port", absl::StrCat(worker_port)}});
    }
  }
  POT_ASSIGN_OR_RETURN(
      grpc_server_, Listen("listen", config.listen, services, config, &port_));
  SetServing(false);
  model_health_ = std::make_unique<ModelHealth>(health());
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
    health()->SetServingStatus(service, serving);
  }
}

bool Server::Impl::Drain(absl::Time deadline) {
  draining_ = true;
  health()->Shutdown();
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
  health_events_.reset();
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
void Server::LoadModels() { impl_->LoadModels(); }
bool Server::Drain(absl::Time deadline) { return impl_->Drain(deadline); }

}  // namespace pot
