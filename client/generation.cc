#include "client/generation.h"

#include "grpcpp/grpcpp.h"
#include "pot/v1/inference.grpc.pb.h"

namespace pot {

absl::Status StreamGeneration(
    Session* session, const v1::GenerateRequest& request,
    absl::FunctionRef<absl::Status(const v1::GenerateStreamResponse&)>
        consume) {
  Call call(session->connection());
  v1::GenerateStreamRequest wrapped;
  *wrapped.mutable_request() = request;
  const auto stub =
      v1::InferenceService::NewStub(session->connection().channel());
  const auto reader = stub->GenerateStream(call.context(), wrapped);
  absl::Status consumed;
  v1::GenerateStreamResponse response;
  while (reader->Read(&response)) {
    consumed = consume(response);
    if (!consumed.ok()) {
      call.context()->TryCancel();
      break;
    }
  }
  const absl::Status status = call.ToStatus(reader->Finish());
  return consumed.ok() ? status : consumed;
}

}  // namespace pot
