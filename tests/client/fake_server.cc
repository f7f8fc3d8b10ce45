#include "tests/client/fake_server.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace pot {
namespace {

void FillSummary(v1::GenerateSummary* summary) {
  summary->mutable_model()->set_name("tiny");
  summary->mutable_model()->set_version(2);
  summary->mutable_usage()->set_prompt_tokens(3);
  summary->mutable_usage()->set_generated_tokens(11);
  summary->mutable_timings()->set_decode_seconds(0.5);
  summary->mutable_timings()->set_first_token_seconds(0.002);
  summary->set_seed(42);
}

}  // namespace

v1::ModelVersion TinyVersion(int64_t number) {
  v1::ModelVersion version;
  version.set_name("tiny");
  version.set_version(number);
  version.set_state(v1::MODEL_VERSION_STATE_AVAILABLE);
  version.set_fp32_bytes(1000);
  version.set_parameters(250);
  version.mutable_config()->set_positions(64);
  version.mutable_config()->set_vocabulary(65);
  if (number == 1) {
    version.mutable_quantization()->set_format("f32");
    version.set_resident_bytes(1000);
    version.add_aliases("fp32");
  } else {
    version.mutable_quantization()->set_format("pot4");
    version.mutable_quantization()->set_granularity("row");
    version.set_resident_bytes(130);
    version.add_aliases("default");
    version.add_aliases("prod");
  }
  version.mutable_create_time()->set_seconds(1'800'000'000 - 7200);
  return version;
}

grpc::Status DetailedError(grpc::StatusCode code, const std::string& message,
                           const std::string& reason,
                           const std::string& field) {
  google::rpc::ErrorInfo info;
  info.set_reason(reason);
  info.set_domain("pot.v1");
  (*info.mutable_metadata())["limit"] = "64";
  (*info.mutable_metadata())["value"] = "100";
  google::rpc::Status status;
  status.set_code(code);
  status.set_message(message);
  status.add_details()->PackFrom(info);
  if (!field.empty()) {
    google::rpc::BadRequest bad_request;
    bad_request.add_field_violations()->set_field(field);
    status.add_details()->PackFrom(bad_request);
  }
  return grpc::Status(code, message, status.SerializeAsString());
}

grpc::Status FakeInference::Generate(grpc::ServerContext*,
                                     const v1::GenerateRequest* request,
                                     v1::GenerateResponse* response) {
  generated = *request;
  if (!error.ok()) return error;
  if (unavailable_calls > 0) {
    --unavailable_calls;
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "loading");
  }
  const int n = request->sampling().has_n() ? request->sampling().n() : 1;
  for (int i = 0; i < n; ++i) {
    v1::GeneratedSequence* const sequence = response->add_sequences();
    sequence->set_index(static_cast<uint32_t>(i));
    sequence->set_text(i == 0 ? "Hello" : "World\n");
    sequence->set_finish_reason(v1::FINISH_REASON_STOP_STRING);
  }
  FillSummary(response->mutable_summary());
  if (request->output().receipt() && receipt.has_value()) {
    *response->mutable_summary()->mutable_receipt() = *receipt;
  }
  return grpc::Status::OK;
}

grpc::Status FakeInference::GenerateStream(
    grpc::ServerContext* context, const v1::GenerateStreamRequest* request,
    grpc::ServerWriter<v1::GenerateStreamResponse>* writer) {
  const v1::GenerateRequest asked = request->request();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    generated = asked;
    prompts.push_back(asked.text());
  }
  if (!stream_error.ok()) return stream_error;
  v1::GenerateStreamResponse event;
  event.mutable_chunk()->set_text("Hel");
  writer->Write(event);
  if (asked.text() == "fail") {
    return DetailedError(grpc::StatusCode::DATA_LOSS, "not finite",
                         "NON_FINITE_LOGITS", "");
  }
  while (asked.text() == "forever" && !context->IsCancelled()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  if (context->IsCancelled()) {
    cancelled = true;
    return grpc::Status::CANCELLED;
  }
  if (asked.sampling().n() > 1) {
    event.mutable_chunk()->set_index(1);
    event.mutable_chunk()->set_text("World");
    writer->Write(event);
  }
  event.mutable_chunk()->set_index(0);
  event.mutable_chunk()->set_text("lo");
  event.mutable_chunk()->set_finish_reason(v1::FINISH_REASON_LENGTH);
  writer->Write(event);
  FillSummary(event.mutable_summary());
  if (asked.output().receipt() && receipt.has_value()) {
    *event.mutable_summary()->mutable_receipt() = *receipt;
  }
  writer->Write(event);
  return grpc::Status::OK;
}

grpc::Status FakeInference::Score(grpc::ServerContext*,
                                  const v1::ScoreRequest* request,
                                  v1::ScoreResponse* response) {
  scored = *request;
  for (int i = 0; i < std::max(1, request->continuations_size()); ++i) {
    v1::ScoredText* const score = response->add_scores();
    score->set_total_logprob(-2.0 * (i + 1));
    score->set_scored_tokens(2);
    score->set_is_greedy(i == 0);
  }
  return grpc::Status::OK;
}

grpc::Status FakeInference::Perplexity(
    grpc::ServerContext*,
    grpc::ServerReaderWriter<v1::PerplexityResponse, v1::PerplexityRequest>*
        stream) {
  v1::PerplexityRequest request;
  if (!stream->Read(&request) || !request.has_options()) {
    return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no options");
  }
  options = request.options();
  if (options.model().name() != "tiny") {
    return DetailedError(grpc::StatusCode::NOT_FOUND, "no such model",
                         "MODEL_NOT_FOUND", "");
  }
  perplexity_text.clear();
  while (stream->Read(&request)) {
    perplexity_text += request.text();
    v1::PerplexityResponse progress;
    progress.mutable_progress()->set_received_bytes(perplexity_text.size());
    stream->Write(progress);
  }
  const bool first = options.model().version() == 1;
  v1::PerplexityResponse response;
  v1::PerplexityResult* const result = response.mutable_result();
  result->set_window(options.has_window() ? options.window() : 64);
  result->set_stride(result->window());
  result->set_tokens(perplexity_text.size() - 1);
  result->set_bytes(perplexity_text.size() - 1);
  result->set_perplexity(first ? 4 : 5);
  result->set_nats_per_token(std::log(result->perplexity()));
  result->set_bits_per_byte(std::log2(result->perplexity()));
  result->set_standard_error(0.01);
  result->mutable_model()->set_name("tiny");
  result->mutable_model()->set_version(first ? 1 : 2);
  if (options.has_reference()) {
    result->mutable_comparison()->set_mean_kl_nats(0.125);
    result->mutable_comparison()->set_top1_agreement(0.75);
  }
  stream->Write(response);
  return grpc::Status::OK;
}

grpc::Status FakeInference::Tokenize(grpc::ServerContext*,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) {
  for (const char c : request->text()) {
    response->add_token_ids(static_cast<unsigned char>(c));
    if (request->return_pieces()) response->add_pieces(std::string(1, c));
  }
  return grpc::Status::OK;
}

grpc::Status FakeInference::Detokenize(grpc::ServerContext*,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) {
  for (const int32_t id : request->token_ids()) {
    *response->mutable_data() += static_cast<char>(id);
  }
  return grpc::Status::OK;
}

grpc::Status FakeModels::ListModels(grpc::ServerContext*,
                                    const v1::ListModelsRequest*,
                                    v1::ListModelsResponse* response) {
  for (const v1::ModelVersion& version : versions) {
    *response->add_versions() = version;
  }
  return grpc::Status::OK;
}

grpc::Status FakeModels::GetModel(grpc::ServerContext*,
                                  const v1::GetModelRequest* request,
                                  v1::GetModelResponse* response) {
  *response->mutable_version() =
      TinyVersion(request->model().version() == 1 ? 1 : 2);
  response->mutable_version()->set_digest(std::string(64, 'b'));
  return grpc::Status::OK;
}

grpc::Status FakeModels::WatchModels(
    grpc::ServerContext*, const v1::WatchModelsRequest*,
    grpc::ServerWriter<v1::WatchModelsResponse>* writer) {
  v1::WatchModelsResponse event;
  event.set_kind(v1::MODEL_EVENT_KIND_SNAPSHOT);
  event.mutable_time()->set_seconds(3600);
  *event.mutable_version() = TinyVersion(2);
  writer->Write(event);
  event.Clear();
  event.set_kind(v1::MODEL_EVENT_KIND_SNAPSHOT_DONE);
  writer->Write(event);
  return grpc::Status::OK;
}

grpc::Status FakeModels::RegisterCheckpoint(
    grpc::ServerContext*,
    grpc::ServerReader<v1::RegisterCheckpointRequest>* reader,
    v1::RegisterCheckpointResponse* response) {
  v1::RegisterCheckpointRequest request;
  if (!reader->Read(&request) || !request.has_header()) {
    return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no header");
  }
  header = request.header();
  uploaded.assign(static_cast<size_t>(header.files_size()), "");
  while (reader->Read(&request)) {
    std::string& file = uploaded.at(request.chunk().file_index());
    if (request.chunk().offset() != static_cast<int64_t>(file.size())) {
      return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "a hole");
    }
    file += request.chunk().data();
    largest_chunk = std::max(largest_chunk, request.chunk().data().size());
  }
  *response->mutable_version() = TinyVersion(2);
  return grpc::Status::OK;
}

grpc::Status FakeModels::ImportModel(
    grpc::ServerContext*, const v1::ImportModelRequest* request,
    grpc::ServerWriter<v1::ImportModelResponse>* writer) {
  imported = *request;
  v1::ImportModelResponse response;
  response.mutable_progress()->set_stage(v1::IMPORT_STAGE_QUANTIZING);
  writer->Write(response);
  *response.mutable_version() = TinyVersion(2);
  writer->Write(response);
  return grpc::Status::OK;
}

grpc::Status FakeModels::SetAlias(grpc::ServerContext*,
                                  const v1::SetAliasRequest* request,
                                  v1::SetAliasResponse* response) {
  alias = *request;
  if (request->has_expected_version() && request->expected_version() != 1) {
    return DetailedError(grpc::StatusCode::ABORTED, "it is elsewhere",
                         "ALIAS_MISMATCH", "");
  }
  response->mutable_change()->set_name(request->name());
  response->mutable_change()->set_alias(request->alias());
  response->mutable_change()->set_from_version(1);
  response->mutable_change()->set_to_version(request->version());
  return grpc::Status::OK;
}

grpc::Status FakeModels::DeleteVersion(grpc::ServerContext*,
                                       const v1::DeleteVersionRequest* request,
                                       v1::DeleteVersionResponse*) {
  deleted.push_back(request->version());
  return grpc::Status::OK;
}

grpc::Status FakeHealth::Check(
    grpc::ServerContext*, const grpc::health::v1::HealthCheckRequest*,
    grpc::health::v1::HealthCheckResponse* response) {
  response->set_status(status);
  return grpc::Status::OK;
}

grpc::Status FakeHealth::Watch(
    grpc::ServerContext* context, const grpc::health::v1::HealthCheckRequest*,
    grpc::ServerWriter<grpc::health::v1::HealthCheckResponse>* writer) {
  grpc::health::v1::HealthCheckResponse response;
  response.set_status(grpc::health::v1::HealthCheckResponse::NOT_SERVING);
  writer->Write(response);
  response.set_status(status);
  writer->Write(response);
  while (!context->IsCancelled()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return grpc::Status::OK;
}

FakeServer::FakeServer(const std::string& address) {
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&inference);
  builder.RegisterService(&models);
  builder.RegisterService(&training);
  builder.RegisterService(&health);
  server_ = builder.BuildAndStart();
  address_ = "127.0.0.1:" + std::to_string(port);
}

FakeServer::~FakeServer() {
  if (server_ != nullptr) {
    server_->Shutdown(std::chrono::system_clock::now() +
                      std::chrono::seconds(5));
  }
}

}  // namespace pot
