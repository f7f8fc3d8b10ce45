#include "server/rpc/rpc_methods.h"

#include <string>

#include "google/protobuf/descriptor.h"
#include "pot/v1/inference.pb.h"
#include "pot/v1/model.pb.h"
#include "pot/v1/training.pb.h"
#include "pot/v1/worker.pb.h"

namespace pot {
namespace {

// As other gRPC servers call them in grpc_server_*.
std::string TypeOf(const google::protobuf::MethodDescriptor& method) {
  if (method.client_streaming()) {
    return method.server_streaming() ? "bidi_stream" : "client_stream";
  }
  return method.server_streaming() ? "server_stream" : "unary";
}

}  // namespace

std::vector<RpcMethod> AllRpcMethods() {
  std::vector<RpcMethod> methods;
  for (const google::protobuf::FileDescriptor* file :
       {v1::GenerateRequest::descriptor()->file(),
        v1::GetModelRequest::descriptor()->file(),
        v1::SubmitQatRequest::descriptor()->file(),
        v1::HeartbeatRequest::descriptor()->file()}) {
    for (int i = 0; i < file->service_count(); ++i) {
      const google::protobuf::ServiceDescriptor& service = *file->service(i);
      for (int j = 0; j < service.method_count(); ++j) {
        const google::protobuf::MethodDescriptor& method = *service.method(j);
        methods.push_back({TypeOf(method), service.full_name(), method.name()});
      }
    }
  }
  methods.push_back({"unknown", "unknown", kUnknownMethod});
  return methods;
}

}  // namespace pot
