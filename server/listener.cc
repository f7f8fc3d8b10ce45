#include "server/listener.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/generic/async_generic_service.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/impl/server_builder_option.h"

namespace pot {
namespace {

// Linking gRPC's reflection is enough to have it in every server.
class NoReflection final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>*
                         plugins) override {
    plugins->clear();
  }
};

int Milliseconds(absl::Duration duration) {
  return static_cast<int>(std::clamp<int64_t>(
      absl::ToInt64Milliseconds(duration), 1, std::numeric_limits<int>::max()));
}

void Apply(const ConnectionLimits& limits, grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(static_cast<int>(limits.max_message_size));
  // gRPC 1.51 unpacks a message before it looks at its size: one of 4 MiB may
  // become a thousand times as large.
  for (const grpc_compression_algorithm algorithm :
       {GRPC_COMPRESS_GZIP, GRPC_COMPRESS_DEFLATE}) {
    builder->SetCompressionAlgorithmSupportStatus(algorithm, false);
  }
  const auto set = [builder](const char* name, int value) {
    builder->AddChannelArgument(name, value);
  };
  // Otherwise two servers could share a port and each get half of the calls.
  set(GRPC_ARG_ALLOW_REUSEPORT, 0);
  set(GRPC_ARG_MAX_METADATA_SIZE, static_cast<int>(limits.max_metadata_size));
  set(GRPC_ARG_MAX_CONCURRENT_STREAMS,
      static_cast<int>(limits.max_concurrent_streams));
  set(GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(limits.keepalive_time));
  set(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Milliseconds(limits.keepalive_timeout));
  set(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  set(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
      Milliseconds(limits.min_ping_interval));
  set(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
      Milliseconds(limits.handshake_timeout));
  if (limits.max_connection_idle > absl::ZeroDuration()) {
    set(GRPC_ARG_MAX_CONNECTION_IDLE_MS,
        Milliseconds(limits.max_connection_idle));
  }
  if (limits.max_connection_age > absl::ZeroDuration()) {
    set(GRPC_ARG_MAX_CONNECTION_AGE_MS,
        Milliseconds(limits.max_connection_age));
    if (limits.max_connection_age_grace > absl::ZeroDuration()) {
      set(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS,
          Milliseconds(limits.max_connection_age_grace));
    }
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<grpc::Server>> Listen(
    const ListenOptions& options, int* port) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(options.address, options.credentials, port);
  for (grpc::Service* const service : options.services) {
    builder.RegisterService(service);
  }
  builder.RegisterCallbackGenericService(options.unknown_methods);
  if (!options.reflection) {
    builder.SetOption(std::make_unique<NoReflection>());
  }
  Apply(options.limits, &builder);
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  const bool is_unix = absl::StartsWith(options.address, "unix:");
  if (server == nullptr || (*port == 0 && !is_unix)) {
    return absl::UnavailableError(absl::StrCat(
        "--", options.setting, ": cannot listen on ", options.address,
        "; is the address one of this host's, and the port not in use?"));
  }
  if (is_unix) *port = 0;
  return server;
}

}  // namespace pot
