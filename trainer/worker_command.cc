#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/channel_security.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "server/observability/metrics_exporter.h"
#include "trainer/commands.h"
#include "trainer/worker/file_transfer.h"
#include "trainer/worker/worker.h"
#include "trainer/worker/worker_log.h"
#include "trainer/worker/worker_metrics.h"

namespace pot {
namespace {

constexpr int kLowestPriority = 19;

struct Flags {
  std::string server;
  std::string name;
  std::string work_directory;
  std::string metrics_listen;
  ChannelSecurityFlags security;
  int64_t memory = 0;
  int64_t cache = int64_t{16} << 30;
  int threads = 0;
  bool once = false;
};

// Made before any other thread, which then all leave the signals to it. The
// first SIGINT or SIGTERM stops the worker, the second ends the process.
class StopSignals {
 public:
  StopSignals() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  }

  // To the end of the process.
  void StopOnSignal(std::shared_ptr<WorkerService> service,
                    std::shared_ptr<Worker> worker) {
    std::thread([signals = signals_, service = std::move(service),
                 worker = std::move(worker)] {
      int signal = 0;
      sigwait(&signals, &signal);
      LogWorker(absl::StrCat("signal ", signal, ": saving, then stopping"));
      worker->Stop();
      sigwait(&signals, &signal);
      LogWorker(absl::StrCat("signal ", signal, ": ending at once"));
      _exit(128 + signal);
    }).detach();
  }

 private:
  sigset_t signals_;
};

// Three quarters of the machine's.
int64_t DefaultMemory() {
  const int64_t pages = sysconf(_SC_PHYS_PAGES);
  const int64_t page = sysconf(_SC_PAGE_SIZE);
  return pages > 0 && page > 0 ? pages / 4 * 3 * page : int64_t{1} << 30;
}

std::string DefaultWorkDirectory() {
  const char* const cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache != '\0') {
    return absl::StrCat(cache, "/pot-worker");
  }
  const char* const home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') return "pot-worker";
  return absl::StrCat(home, "/.cache/pot-worker");
}

// Serving comes first; without success this runs as others do.
void LowerPriority() {
  static_cast<void>(setpriority(PRIO_PROCESS, 0, kLowestPriority));
  // Where Linux groups tasks by session (sched(7), autogroup), that counts
  // among the tasks of the session alone. A session of our own gets the same
  // rank among sessions; one that others share is theirs to rank.
  if (getsid(0) != getpid()) return;
  const int file = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
  if (file < 0) return;
  const std::string rank = absl::StrCat(kLowestPriority);
  static_cast<void>(!write(file, rank.data(), rank.size()));
  close(file);
}

void AddSecurityFlags(const Command& command, ChannelSecurityFlags* flags) {
  command.AddSwitch("--tls", &flags->tls, "Encrypt, and check the server")
      .Environment("POT_TLS");
  command
      .AddFlag("--tls-ca", &flags->tls_ca,
               "PEM file of the authorities to trust [the system's]")
      .Environment("POT_TLS_CA");
  command
      .AddFlag("--tls-cert", &flags->tls_cert,
               "PEM file of the worker's certificate, if the server asks "
               "for one")
      .Environment("POT_TLS_CERT");
  command.AddFlag("--tls-key", &flags->tls_key, "PEM file of its private key")
      .Environment("POT_TLS_KEY");
  command
      .AddFlag("--token-file", &flags->token_file,
               "File with a token of the scope \"worker\" [$POT_TOKEN]")
      .Environment("POT_TOKEN_FILE");
}

absl::Status Run(const Flags& flags) {
  StopSignals signals;
  LowerPriority();
  WorkerOptions options;
  options.threads =
      flags.threads > 0
          ? flags.threads
          : std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1,
                       256);
  options.memory_bytes = flags.memory > 0 ? flags.memory : DefaultMemory();
  options.once = flags.once;
  ChannelSecurityFlags reached = flags.security;
  const char* const token = std::getenv("POT_TOKEN");
  if (token != nullptr) reached.token = token;
  POT_ASSIGN_OR_RETURN(const ChannelSecurity security,
                       LoadChannelSecurity(reached, flags.server));
  POT_ASSIGN_OR_RETURN(
      const std::unique_ptr<WorkDirectory> work,
      WorkDirectory::Open(flags.work_directory.empty() ? DefaultWorkDirectory()
                                                       : flags.work_directory,
                          flags.cache));
  options.name = flags.name;
  if (options.name.empty()) {
    POT_ASSIGN_OR_RETURN(options.name, work->DefaultName());
  }
  if (!IsPlainName(options.name)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--name must be 1 to 128 of [A-Za-z0-9._-], not ",
                     Quote(options.name)));
  }
  WorkerMetrics metrics(options.name);
  options.metrics = &metrics;
  std::unique_ptr<MetricsExporter> exporter;
  if (!flags.metrics_listen.empty()) {
    POT_ASSIGN_OR_RETURN(
        exporter, MetricsExporter::Start(flags.metrics_listen, [&metrics] {
          return metrics.Collect();
        }));
  }
  const std::shared_ptr<WorkerService> service =
      ConnectWorkerService(flags.server, security);
  const auto worker =
      std::make_shared<Worker>(service.get(), work.get(), options);
  signals.StopOnSignal(service, worker);
  const absl::Status status = worker->Run();
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(flags.server, ": ", status.message()));
}

}  // namespace

void AddWorkerCommand(const Command& app, absl::Status* result) {
  auto flags = std::make_shared<Flags>();
  const Command command = app.AddCommand(
      "worker",
      "Does the training jobs of a server, one after the other; SIGTERM saves "
      "the running one and gives it back");
  command.AddFlag("--server", &flags->server, "HOST:PORT of pot-server")
      .Environment("POT_SERVER")
      .Required();
  command.AddFlag("--name", &flags->name,
                  "Unique among the server's workers and the same over "
                  "restarts [made up, kept in --work-dir]");
  command
      .AddFlag("--metrics-listen", &flags->metrics_listen,
               "HOST:PORT for Prometheus, plain HTTP [no metrics]")
      .Environment("POT_TRAINER_METRICS_LISTEN");
  command.AddFlag("--work-dir", &flags->work_directory,
                  "For input, snapshots and what waits to be sent; of one "
                  "worker alone [~/.cache/pot-worker]");
  command
      .AddFlag("--memory", &flags->memory,
               "The most that a job may need, 4GiB [3/4 of the machine's]")
      .InBytes()
      .AtLeastZero();
  command
      .AddFlag("--cache", &flags->cache,
               "Of input files that are kept between jobs, 16GiB")
      .InBytes()
      .AtLeastZero();
  command.AddFlag("--threads", &flags->threads, "Threads [all cores]")
      .InRange(1, 256);
  AddSecurityFlags(command, &flags->security);
  command.AddSwitch("--once", &flags->once, "End after one job");
  command.OnSelected([flags, result] { *result = Run(*flags); });
}

}  // namespace pot
