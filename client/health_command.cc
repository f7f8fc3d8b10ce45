#include <algorithm>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/commands.h"
#include "client/text_format.h"
#include "engine/base/status_macros.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/grpcpp.h"

namespace pot {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

constexpr absl::Duration kDefaultWait = absl::Seconds(60);
constexpr absl::Duration kRetryPause = absl::Milliseconds(100);

struct Flags {
  std::string service;
  bool wait = false;
};

std::string ServiceName(const std::string& service) {
  return service.empty() ? "the server" : Printable(service);
}

absl::Status WriteHealth(Session* session, const HealthCheckResponse& health) {
  if (!session->text_output()) return WriteJson(session, health);
  return session->console().Write(absl::StrCat(
      HealthCheckResponse::ServingStatus_Name(health.status()), "\n"));
}

absl::Status CheckOnce(Session* session, const HealthCheckRequest& request) {
  Call call(session->connection());
  HealthCheckResponse response;
  POT_RETURN_IF_ERROR(
      call.ToStatus(Health::NewStub(session->connection().channel())
                        ->Check(call.context(), request, &response)));
  POT_RETURN_IF_ERROR(WriteHealth(session, response));
  if (response.status() == HealthCheckResponse::SERVING) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(
      absl::StrCat(ServiceName(request.service()), " is not serving"));
}

// Follows Watch until SERVING. Remembers in `last` what it saw before.
absl::Status WatchUntilServing(Session* session,
                               const HealthCheckRequest& request,
                               absl::Duration timeout,
                               HealthCheckResponse* last) {
  Call call(session->connection(), timeout);
  // Also for a server that is not up yet.
  call.context()->set_wait_for_ready(true);
  const auto stub = Health::NewStub(session->connection().channel());
  const auto reader = stub->Watch(call.context(), request);
  HealthCheckResponse response;
  while (reader->Read(&response)) {
    *last = response;
    if (response.status() == HealthCheckResponse::SERVING) {
      call.context()->TryCancel();
      reader->Finish();
      return absl::OkStatus();
    }
  }
  const absl::Status status = call.ToStatus(reader->Finish());
  return status.ok() ? absl::UnavailableError("the server ended the call")
                     : status;
}

absl::Status Wait(Session* session, const HealthCheckRequest& request) {
  const absl::Duration given = session->flags().timeout;
  const absl::Duration timeout =
      given < absl::InfiniteDuration() ? given : kDefaultWait;
  const absl::Time deadline = absl::Now() + timeout;
  HealthCheckResponse last;
  for (;;) {
    const absl::Status status =
        WatchUntilServing(session, request, deadline - absl::Now(), &last);
    if (status.ok()) return WriteHealth(session, last);
    if (absl::IsDeadlineExceeded(status) || absl::Now() >= deadline) {
      return absl::DeadlineExceededError(absl::StrCat(
          ServiceName(request.service()), " at ", session->flags().server,
          " is not serving after ", absl::FormatDuration(timeout),
          " (last state ",
          HealthCheckResponse::ServingStatus_Name(last.status()), ")"));
    }
    // The server went away, perhaps to come back.
    if (!absl::IsUnavailable(status)) return status;
    absl::SleepFor(std::min(kRetryPause, deadline - absl::Now()));
  }
}

}  // namespace

void AddHealthCommand(const Command& app, CommandFunction* selected) {
  auto flags = std::make_shared<Flags>();
  const Command command = app.AddCommand(
      "health", "Whether the server, a service or a model is serving");
  command.AddFlag("service", &flags->service,
                  "E.g. pot.v1.InferenceService or pot.model.NAME [the "
                  "whole server]");
  command.AddSwitch("--wait", &flags->wait,
                    "Wait until it is, at most --timeout [60s]; the server "
                    "need not be up yet");
  command.OnSelected([flags, selected] {
    *selected = [flags](Session* session) {
      HealthCheckRequest request;
      request.set_service(flags->service);
      return flags->wait ? Wait(session, request) : CheckOnce(session, request);
    };
  });
}

}  // namespace pot
