#include "server/rpc/inference_service.h"

#include <memory>
#include <string>
#include <vector>

#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "server/rpc/answer.h"
#include "server/rpc/generate.h"
#include "server/rpc/perplexity.h"
#include "server/rpc/request_parser.h"
#include "server/rpc/score.h"
#include "server/rpc/wire.h"

namespace pot {
namespace {

// Enters the call, parses its message and pins its model.
template <typename Request>
absl::StatusOr<std::shared_ptr<const LoadedModel>> Begin(
    const ServiceContext& context, const grpc::ByteBuffer& bytes,
    Request* request, Call* call) {
  POT_RETURN_IF_ERROR(call->Enter());
  POT_RETURN_IF_ERROR(ParseMessage(bytes, request));
  POT_ASSIGN_OR_RETURN(const ModelSelector selector,
                       ParseModelRef(request->model(), "model"));
  POT_ASSIGN_OR_RETURN(std::shared_ptr<const LoadedModel> model,
                       context.repository->Acquire(selector));
  call->SetModel(*model);
  return model;
}

absl::Status DoTokenize(const ServiceContext& context,
                        const grpc::ByteBuffer& bytes, grpc::ByteBuffer* answer,
                        Call* call) {
  v1::TokenizeRequest request;
  POT_ASSIGN_OR_RETURN(const std::shared_ptr<const LoadedModel> model,
                       Begin(context, bytes, &request, call));
  POT_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                       ParseText(request.text(), "text", *model->tokenizer));
  v1::TokenizeResponse response;
  response.mutable_token_ids()->Assign(ids.begin(), ids.end());
  if (request.return_pieces()) {
    for (const int32_t id : ids) {
      const absl::string_view piece = model->tokenizer->TokenBytes(id);
      response.add_pieces(piece.data(), piece.size());
    }
  }
  FillIdentity(*model, context.engine, response.mutable_model());
  call->SetUsage({.prompt_tokens = static_cast<int64_t>(ids.size())}, {});
  return SerializeMessage(response, answer);
}

absl::Status DoDetokenize(const ServiceContext& context,
                          const grpc::ByteBuffer& bytes,
                          grpc::ByteBuffer* answer, Call* call) {
  v1::DetokenizeRequest request;
  POT_ASSIGN_OR_RETURN(const std::shared_ptr<const LoadedModel> model,
                       Begin(context, bytes, &request, call));
  v1::DetokenizeResponse response;
  POT_ASSIGN_OR_RETURN(*response.mutable_data(),
                       ParseDetokenize(request, *model->tokenizer));
  response.set_text(ReplaceInvalidUtf8(response.data()));
  FillIdentity(*model, context.engine, response.mutable_model());
  call->SetUsage({.prompt_tokens = request.token_ids_size()}, {});
  return SerializeMessage(response, answer);
}

}  // namespace

grpc::ServerUnaryReactor* InferenceService::Generate(
    grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return StartGenerate(context_, rpc, request, response);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* InferenceService::GenerateStream(
    grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* request) {
  return StartGenerateStream(context_, rpc, request);
}

grpc::ServerUnaryReactor* InferenceService::Score(
    grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  return StartScore(context_, rpc, request, response);
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>*
InferenceService::Perplexity(grpc::CallbackServerContext* rpc) {
  return StartPerplexity(context_, rpc);
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(
    grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  Call call(context_.calls, "Tokenize", *rpc);
  grpc::ServerUnaryReactor* reactor = rpc->DefaultReactor();
  reactor->Finish(call.End(DoTokenize(context_, *request, response, &call)));
  return reactor;
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(
    grpc::CallbackServerContext* rpc, const grpc::ByteBuffer* request,
    grpc::ByteBuffer* response) {
  Call call(context_.calls, "Detokenize", *rpc);
  grpc::ServerUnaryReactor* reactor = rpc->DefaultReactor();
  reactor->Finish(call.End(DoDetokenize(context_, *request, response, &call)));
  return reactor;
}

}  // namespace pot
