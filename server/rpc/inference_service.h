#ifndef POT_SERVER_RPC_INFERENCE_SERVICE_H_
#define POT_SERVER_RPC_INFERENCE_SERVICE_H_

#include <utility>

#include "pot/v1/inference.grpc.pb.h"
#include "server/rpc/call.h"

namespace pot {

// pot.v1.InferenceService (proto/pot/v1/inference.proto). Every method takes
// raw bytes, see server/rpc/wire.h. No method blocks its thread.
class InferenceService final
    : public v1::InferenceService::WithRawCallbackMethod_Generate<
          v1::InferenceService::WithRawCallbackMethod_GenerateStream<
              v1::InferenceService::WithRawCallbackMethod_Score<
                  v1::InferenceService::WithRawCallbackMethod_Perplexity<
                      v1::InferenceService::WithRawCallbackMethod_Tokenize<
                          v1::InferenceService::
                              WithRawCallbackMethod_Detokenize<
                                  v1::InferenceService::Service>>>>>> {
 public:
  explicit InferenceService(ServiceContext context)
      : context_(std::move(context)) {}

  grpc::ServerUnaryReactor* Generate(grpc::CallbackServerContext* rpc,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerateStream(
      grpc::CallbackServerContext* rpc,
      const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Score(grpc::CallbackServerContext* rpc,
                                  const grpc::ByteBuffer* request,
                                  grpc::ByteBuffer* response) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Perplexity(
      grpc::CallbackServerContext* rpc) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* rpc,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* rpc,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;

 private:
  const ServiceContext context_;
};

}  // namespace pot

#endif  // POT_SERVER_RPC_INFERENCE_SERVICE_H_
