#ifndef POT_SERVER_SERVER_CONFIG_H_
#define POT_SERVER_SERVER_CONFIG_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/hub/url.h"
#include "engine/quant/activation.h"
#include "server/listener.h"
#include "server/observability/log.h"
#include "server/server_security.h"

namespace pot {

// All settings of a server, checked.
struct ServerConfig {
  std::string listen;     // host:port, [v6]:port or unix:path
  std::string port_file;  // empty: none
  std::string repository;
  std::string import_root;        // empty: no imports
  HostList import_hosts;          // empty: no downloads
  bool training = true;           // QAT jobs
  std::string training_root;      // empty: "<repository>/.training"
  std::string worker_listen;      // of trainers; empty: as listen
  std::string metrics_listen;     // HOST:PORT; empty: no metrics
  std::string metrics_port_file;  // empty: none
  int64_t max_dataset_size = int64_t{4} << 30;  // bytes of one text
  int64_t max_queued_jobs = 256;
  // For which texts without a job are kept.
  absl::Duration dataset_age = absl::Hours(168);
  bool allow_insecure = false;
  SecurityConfig security;
  int threads = 1;
  std::string kernel;  // empty: $POT_KERNEL, or else the fastest
  ActivationMode activations = ActivationMode::kAffine;
  int64_t kv_memory = 0;         // bytes
  int64_t prefix_cache = 0;      // bytes of kv_memory; 0: off
  int64_t max_model_memory = 0;  // bytes; 0: no limit
  int64_t max_waiting_tasks = 0;
  int64_t max_waiting_tokens = 0;
  absl::Duration max_queue_time;  // 0: no limit
  int64_t max_running_sequences = 0;
  int64_t prefill_chunk_tokens = 0;
  ConnectionLimits connection;
  int64_t min_free_disk = 0;          // bytes that uploads leave free
  absl::Duration inter_token_target;  // 0: training yields to every stream
  absl::Duration drain_timeout;
  absl::Duration write_timeout;  // 0: never
  absl::Duration read_timeout;   // 0: never
  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kText;
  bool log_prompts = false;
};

// What the command line asks for.
struct ServerCommand {
  // Set: run a server.
  std::optional<ServerConfig> config;
  // Otherwise: print this and exit with 0 (--help, --version, --print-config).
  std::string text;
};

// Each setting comes from its flag, or else from the environment
// (--kv-memory: POT_SERVER_KV_MEMORY), or else from the file that --config or
// POT_SERVER_CONFIG names (lines "kv-memory = 1GiB", as --print-config writes),
// or else from its default. `arguments` are without the program's name.
// INVALID_ARGUMENT lists everything that is wrong, a line each.
absl::StatusOr<ServerCommand> ParseServerCommand(
    const std::vector<std::string>& arguments,
    const std::function<const char*(const char*)>& environment);

// "512", "64KiB", "1MiB", "2GiB"; INVALID_ARGUMENT otherwise or beyond int64.
absl::StatusOr<int64_t> ParseBytes(absl::string_view text);

}  // namespace pot

#endif  // POT_SERVER_SERVER_CONFIG_H_
