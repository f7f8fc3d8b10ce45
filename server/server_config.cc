#include "server/server_config.h"

#include <algorithm>
#include <limits>
#include <thread>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "engine/base/status_macros.h"
#include "engine/kernels/kernel_table.h"
#include "engine/loaded_model.h"
#include "server/command_line.h"
#include "server/listen_address.h"

namespace pot {
namespace {

constexpr int64_t kMaxBytes = int64_t{1} << 46;
constexpr int64_t kMaxCount = int64_t{1} << 31;

std::vector<Setting> Settings() {
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  return {
      {"listen", "127.0.0.1:8500",
       "Address: HOST:PORT, [V6]:PORT or unix:PATH; port 0 takes a free one"},
      {"port-file", "", "File to write the port to once it is open"},
      {"repository", "", "Directory of the models (required)"},
      {"import-root", "", "Directory below which ImportModel may read"},
      {"import-hosts", "",
       "Hosts that ImportModel may download from, the hub's (HF_ENDPOINT) and "
       "where it redirects to: huggingface.co,*.huggingface.co,*.hf.co; unset: "
       "none"},
      {"training-root", "",
       "Directory of QAT jobs and their data; unset: .training in the "
       "repository"},
      {"no-training", "false", "Take no QAT jobs and serve no trainers"},
      {"worker-listen", "",
       "Address for trainers alone; unset: they are served with all others"},
      {"metrics-listen", "127.0.0.1:8501",
       "Address for Prometheus, HOST:PORT, plain HTTP; none: no metrics"},
      {"metrics-port-file", "", "File to write the port of metrics to"},
      {"max-dataset-size", "4GiB", "Largest text of a QAT job"},
      {"max-queued-jobs", "256", "QAT jobs that may wait for a trainer"},
      {"dataset-age", "168h", "How long a text is kept that no job uses"},
      {"allow-insecure", "false",
       "Listen without TLS on an address that other hosts can reach"},
      {"tls-cert", "", "PEM file of the server's certificate chain"},
      {"tls-key", "", "PEM file of its private key"},
      {"tls-client-ca", "",
       "PEM file of authorities; clients must have a certificate of theirs"},
      {"worker-client-ca", "",
       "The same for trainers, on the port of worker-listen"},
      {"token-file", "",
       "File of keys (pot-client tokens new); calls need a token of theirs"},
      {"reload-interval", "1s",
       "How often certificates and keys are looked at for changes"},
      {"threads", absl::StrCat(std::min(cores, 256u)),
       "Threads that compute, 1 to 256"},
      {"kernel", "",
       "scalar, shift, avx2, avx512vnni, avx512vbmi or auto; unset: "
       "$POT_KERNEL, or else auto"},
      {"activations", "affine", "8-bit activations: affine or symmetric"},
      {"kv-memory", "1GiB", "Memory of all KV caches: bytes, KiB, MiB, GiB"},
      {"prefix-cache", "256MiB",
       "KV memory that computed prompts may keep for prompts that begin alike, "
       "as long as nothing else needs it; 0: off"},
      {"max-model-memory", "0", "Memory of all weights; 0: no limit"},
      {"max-waiting-tasks", "256", "Calls that may wait"},
      {"max-waiting-tokens", "262144", "Prompt tokens of calls that may wait"},
      {"max-queue-time", "30s",
       "How long a call may wait, by the pace of those before it; 0: no limit"},
      {"max-running-sequences", "32", "Sequences computed together"},
      {"prefill-chunk-tokens", "128",
       "Most prompt tokens of a step; beside running streams there are fewer"},
      {"max-message-size", "4MiB", "Largest request"},
      {"max-metadata-size", "8KiB", "Metadata of a call, all together"},
      {"max-concurrent-streams", "256", "Calls of one connection at a time"},
      {"keepalive-time", "1m", "After so much silence a client is pinged"},
      {"keepalive-timeout", "20s", "And dropped, if it does not answer"},
      {"min-ping-interval", "10s", "Clients that ping more often are dropped"},
      {"handshake-timeout", "20s", "Of a new connection"},
      {"max-connection-idle", "0",
       "A connection without calls is closed; 0: never"},
      {"max-connection-age", "0",
       "A connection is asked to make way for a new one; 0: never"},
      {"max-connection-age-grace", "0",
       "How long its calls may still last; 0: for ever"},
      {"min-free-disk", "256MiB",
       "Free space below which uploads and imports are refused"},
      {"itl-target-ms", "0",
       "Milliseconds between two tokens of a stream; while one in a hundred "
       "takes longer, trainers are told to yield. 0: while there are streams"},
      {"write-timeout", "5m",
       "How long a stream's client may take no message; 0: for ever"},
      {"read-timeout", "5m",
       "How long a stream's client may send no message; 0: for ever"},
      {"drain-timeout", "30s", "How long running calls may finish on SIGTERM"},
      {"log-level", "info", "debug, info, warning, error or off"},
      {"log-format", "text", "text or json"},
      {"log-prompts", "false", "Log the beginning of prompts with each call"},
  };
}

// Reads settings and keeps what is wrong with them.
class Reader {
 public:
  explicit Reader(const SettingValues& values) : values_(values) {}

  const std::string& Text(const std::string& name) const {
    return values_.at(name);
  }

  int64_t Count(const std::string& name, int64_t low, int64_t high) {
    int64_t value = 0;
    if (absl::SimpleAtoi(Text(name), &value) && value >= low && value <= high) {
      return value;
    }
    Wrong(name, absl::StrCat("must be a number in [", low, ", ", high, "]"));
    return low;
  }

  int64_t Bytes(const std::string& name, int64_t low, int64_t high) {
    const absl::StatusOr<int64_t> value = ParseBytes(Text(name));
    if (value.ok() && *value >= low && *value <= high) return *value;
    Wrong(name, absl::StrCat("must be bytes in [", low, ", ", high,
                             "], such as 64MiB"));
    return low;
  }

  bool Flag(const std::string& name) {
    bool value = false;
    if (!absl::SimpleAtob(Text(name), &value)) {
      Wrong(name, "must be true or false");
    }
    return value;
  }

  absl::Duration Seconds(const std::string& name, absl::Duration high) {
    absl::Duration value;
    if (absl::ParseDuration(Text(name), &value) &&
        value >= absl::ZeroDuration() && value <= high) {
      return value;
    }
    Wrong(name, absl::StrCat("must be a time in [0s, ",
                             absl::FormatDuration(high), "], such as 30s"));
    return absl::ZeroDuration();
  }

  template <typename T>
  T Take(const std::string& name, absl::StatusOr<T> value) {
    if (value.ok()) return *std::move(value);
    Wrong(name, value.status().message());
    return T();
  }

  void Wrong(const std::string& name, absl::string_view complaint) {
    errors_.push_back(
        absl::StrCat("--", name, ": ", complaint, "; the given value is \"",
                     absl::CEscape(Text(name).substr(0, 100)), "\""));
  }

  // Of several settings, whose names they begin with.
  void AddLines(const absl::Status& status) {
    if (!status.ok()) errors_.emplace_back(status.message());
  }

  const std::vector<std::string>& errors() const { return errors_; }

 private:
  const SettingValues& values_;
  std::vector<std::string> errors_;
};

ConnectionLimits ReadConnectionLimits(Reader* reader) {
  constexpr absl::Duration kDay = absl::Hours(24);
  ConnectionLimits limits;
  limits.max_message_size =
      reader->Bytes("max-message-size", 1 << 10, 64 << 20);
  limits.max_metadata_size =
      reader->Bytes("max-metadata-size", 1 << 10, 1 << 20);
  limits.max_concurrent_streams =
      reader->Count("max-concurrent-streams", 1, 1 << 20);
  limits.keepalive_time = reader->Seconds("keepalive-time", kDay);
  limits.keepalive_timeout = reader->Seconds("keepalive-timeout", kDay);
  limits.min_ping_interval = reader->Seconds("min-ping-interval", kDay);
  limits.handshake_timeout = reader->Seconds("handshake-timeout", kDay);
  limits.max_connection_idle = reader->Seconds("max-connection-idle", 7 * kDay);
  limits.max_connection_age = reader->Seconds("max-connection-age", 7 * kDay);
  limits.max_connection_age_grace =
      reader->Seconds("max-connection-age-grace", 7 * kDay);
  for (const char* const name : {"keepalive-time", "handshake-timeout"}) {
    if (reader->Text(name) == "0" || reader->Text(name) == "0s") {
      reader->Wrong(name, "must be more than 0");
    }
  }
  return limits;
}

SecurityConfig ReadSecurity(const std::string& worker_listen, Reader* reader) {
  SecurityConfig security;
  security.tls_cert = reader->Text("tls-cert");
  security.tls_key = reader->Text("tls-key");
  security.tls_client_ca = reader->Text("tls-client-ca");
  security.worker_client_ca = reader->Text("worker-client-ca");
  security.token_file = reader->Text("token-file");
  security.reload_interval =
      std::max(absl::Milliseconds(10),
               reader->Seconds("reload-interval", absl::Hours(1)));
  for (const char* const name : {"tls-cert", "tls-key"}) {
    const bool other =
        !security.tls_cert.empty() || !security.tls_key.empty() ||
        !security.tls_client_ca.empty() || !security.worker_client_ca.empty();
    if (other && reader->Text(name).empty()) {
      reader->Wrong(name, "is needed for TLS");
    }
  }
  if (!security.worker_client_ca.empty() && worker_listen.empty()) {
    reader->Wrong("worker-client-ca", "is for the port of --worker-listen");
  }
  if (security.tls_cert.empty() == security.tls_key.empty()) {
    reader->AddLines(CheckSecurityFiles(security));
  }
  return security;
}

absl::StatusOr<ServerConfig> ReadConfig(const SettingValues& values) {
  Reader reader(values);
  ServerConfig config;
  config.listen = reader.Text("listen");
  config.port_file = reader.Text("port-file");
  config.repository = reader.Text("repository");
  if (config.repository.empty()) {
    reader.Wrong("repository", "is required: the directory of the models");
  }
  config.import_root = reader.Text("import-root");
  config.import_hosts = reader.Take(
      "import-hosts", HostList::Parse(reader.Text("import-hosts")));
  config.training_root = reader.Text("training-root");
  config.training = !reader.Flag("no-training");
  config.worker_listen = reader.Text("worker-listen");
  config.max_dataset_size = reader.Bytes("max-dataset-size", 1, kMaxBytes);
  config.max_queued_jobs = reader.Count("max-queued-jobs", 1, kMaxCount);
  config.dataset_age = reader.Seconds("dataset-age", absl::Hours(24 * 3650));
  config.allow_insecure = reader.Flag("allow-insecure");
  config.security = ReadSecurity(config.worker_listen, &reader);
  const bool open_to_all = config.allow_insecure || config.security.tls();
  const absl::Status address = CheckListenAddress(config.listen, open_to_all);
  if (!address.ok()) reader.Wrong("listen", address.message());
  if (!config.worker_listen.empty()) {
    const absl::Status workers =
        CheckListenAddress(config.worker_listen, open_to_all);
    if (!workers.ok()) reader.Wrong("worker-listen", workers.message());
  }
  config.metrics_listen = reader.Text("metrics-listen");
  config.metrics_port_file = reader.Text("metrics-port-file");
  if (config.metrics_listen == "none") config.metrics_listen.clear();
  if (!config.metrics_listen.empty()) {
    const absl::Status metrics =
        CheckListenAddress(config.metrics_listen, open_to_all);
    if (!metrics.ok()) reader.Wrong("metrics-listen", metrics.message());
    if (absl::StartsWith(config.metrics_listen, "unix:")) {
      reader.Wrong("metrics-listen", "must be HOST:PORT, [V6]:PORT or none");
    }
  }
  config.threads = static_cast<int>(reader.Count("threads", 1, 256));
  config.kernel = reader.Text("kernel");
  if (!config.kernel.empty()) {
    reader.Take("kernel", FindKernelTable(config.kernel));
  }
  config.activations = reader.Take(
      "activations", ParseActivationMode(reader.Text("activations")));
  if (config.activations == ActivationMode::kFloat) {
    reader.Wrong("activations",
                 "must be affine or symmetric; float is for measuring");
  }
  config.kv_memory = reader.Bytes("kv-memory", 1 << 16, kMaxBytes);
  config.prefix_cache = reader.Bytes("prefix-cache", 0, kMaxBytes);
  config.max_model_memory = reader.Bytes("max-model-memory", 0, kMaxBytes);
  config.max_waiting_tasks = reader.Count("max-waiting-tasks", 1, kMaxCount);
  config.max_waiting_tokens = reader.Count("max-waiting-tokens", 1, kMaxCount);
  config.max_queue_time = reader.Seconds("max-queue-time", absl::Hours(24));
  config.max_running_sequences = reader.Count("max-running-sequences", 1, 4096);
  config.prefill_chunk_tokens =
      reader.Count("prefill-chunk-tokens", 1, 1 << 20);
  config.connection = ReadConnectionLimits(&reader);
  config.min_free_disk = reader.Bytes("min-free-disk", 0, kMaxBytes);
  config.inter_token_target =
      absl::Milliseconds(reader.Count("itl-target-ms", 0, 60000));
  config.write_timeout = reader.Seconds("write-timeout", absl::Hours(24));
  config.read_timeout = reader.Seconds("read-timeout", absl::Hours(24));
  config.drain_timeout = reader.Seconds("drain-timeout", absl::Hours(24));
  config.log_level =
      reader.Take("log-level", ParseLogLevel(reader.Text("log-level")));
  config.log_format =
      reader.Take("log-format", ParseLogFormat(reader.Text("log-format")));
  config.log_prompts = reader.Flag("log-prompts");
  if (!reader.errors().empty()) {
    return absl::InvalidArgumentError(absl::StrJoin(reader.errors(), "\n"));
  }
  return config;
}

}  // namespace

absl::StatusOr<int64_t> ParseBytes(absl::string_view text) {
  constexpr std::pair<absl::string_view, int64_t> kUnits[] = {
      {"KiB", int64_t{1} << 10},
      {"MiB", int64_t{1} << 20},
      {"GiB", int64_t{1} << 30},
  };
  absl::string_view digits = text;
  int64_t unit = 1;
  for (const auto& [suffix, bytes] : kUnits) {
    if (digits.size() > suffix.size() &&
        digits.substr(digits.size() - suffix.size()) == suffix) {
      digits.remove_suffix(suffix.size());
      unit = bytes;
      break;
    }
  }
  int64_t value = 0;
  const bool plain =
      !digits.empty() && std::all_of(digits.begin(), digits.end(), [](char c) {
        return absl::ascii_isdigit(static_cast<unsigned char>(c));
      });
  if (!plain || !absl::SimpleAtoi(digits, &value) ||
      value > std::numeric_limits<int64_t>::max() / unit) {
    return absl::InvalidArgumentError(absl::StrCat(
        "no size in bytes: \"", absl::CEscape(text.substr(0, 100)), "\""));
  }
  return value * unit;
}

absl::StatusOr<ServerCommand> ParseServerCommand(
    const std::vector<std::string>& arguments,
    const std::function<const char*(const char*)>& environment) {
  POT_ASSIGN_OR_RETURN(
      const CommandLine line,
      ParseCommandLine("pot-server",
                       "Serves power-of-two quantized GPT-2 models over gRPC.",
                       "POT_SERVER_", Settings(), arguments, environment));
  ServerCommand command;
  if (!line.help.empty()) {
    command.text = line.help;
    return command;
  }
  if (line.version) {
    command.text = absl::StrCat(kEngineVersion, "\n");
    return command;
  }
  POT_ASSIGN_OR_RETURN(ServerConfig config, ReadConfig(line.values));
  if (line.print_config) {
    for (const Setting& setting : Settings()) {
      // CLI11 unescapes quotes and nothing else.
      absl::StrAppend(
          &command.text, setting.name, " = \"",
          absl::StrReplaceAll(line.values.at(setting.name), {{"\"", "\\\""}}),
          "\"\n");
    }
    return command;
  }
  command.config = std::move(config);
  return command;
}

}  // namespace pot
