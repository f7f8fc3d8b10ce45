#include "client/connection.h"

#include <utility>

#include "client/rpc_status.h"
#include "client/transport/server_address.h"
#include "grpcpp/grpcpp.h"

namespace pot {
namespace {

// Answers grow with the vocabulary and the number of tensors; the default of
// 4 MiB is too little for a thousand tokens with alternatives.
constexpr int kMaxReceivedBytes = 64 << 20;

// A server that is just starting should be noticed within a second.
constexpr int kFirstReconnectMs = 100;
constexpr int kMaxReconnectMs = 1000;

// A watched job may be silent for long, and so is a network that is gone. Less
// than five minutes between pings would anger servers (their default of
// GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS).
constexpr int kKeepaliveMs = 6 * 60 * 1000;

constexpr char kServiceConfig[] = R"({
  "methodConfig": [{
    "name": [{}],
    "retryPolicy": {
      "maxAttempts": 4,
      "initialBackoff": "0.2s",
      "maxBackoff": "2s",
      "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE"]
    }
  }, {
    "name": [
      {"service": "pot.v1.ModelService", "method": "RegisterCheckpoint"},
      {"service": "pot.v1.ModelService", "method": "ImportModel"},
      {"service": "pot.v1.ModelService", "method": "RollbackAlias"},
      {"service": "pot.v1.ModelService", "method": "DeleteVersion"},
      {"service": "pot.v1.TrainingService", "method": "StopEarlyAndPublish"},
      {"service": "pot.v1.TrainingService", "method": "PublishCheckpoint"},
      {"service": "pot.v1.TrainingService", "method": "DeleteJob"},
      {"service": "grpc.health.v1.Health"}
    ]
  }]
})";

grpc::ChannelArguments MakeArguments(const std::string& server) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxReceivedBytes);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kFirstReconnectMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMaxReconnectMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // $http_proxy is not meant for this machine.
  if (IsLocalServer(server)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return arguments;
}

}  // namespace

Connection::Connection(std::string server, absl::Duration timeout,
                       Interrupter* interrupter, ChannelSecurity security)
    : server_(std::move(server)),
      timeout_(timeout),
      interrupter_(interrupter),
      security_(std::move(security)) {
  grpc::ChannelArguments arguments = MakeArguments(server_);
  arguments.SetServiceConfigJSON(kServiceConfig);
  channel_ = CreateSecureChannel(server_, security_, arguments);
}

std::shared_ptr<grpc::Channel> Connection::NewPlainChannel() const {
  grpc::ChannelArguments arguments = MakeArguments(server_);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return CreateSecureChannel(server_, security_, arguments);
}

Call::Call(const Connection& connection)
    : Call(connection, connection.timeout()) {}

Call::Call(const Connection& connection, absl::Duration timeout)
    : connection_(connection),
      context_(std::make_unique<grpc::ClientContext>()) {
  if (timeout < absl::InfiniteDuration()) {
    context_->set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  }
  callback_ = connection_.interrupter()->AddCallback(
      [context = context_.get()] { context->TryCancel(); });
}

Call::~Call() { connection_.interrupter()->RemoveCallback(callback_); }

absl::Status Call::ToStatus(const grpc::Status& status) const {
  return FromGrpcStatus(status, connection_.server());
}

}  // namespace pot
