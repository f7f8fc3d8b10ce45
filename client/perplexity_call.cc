#include "client/perplexity_call.h"

#include <cmath>
#include <cstddef>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/text_format.h"
#include "grpcpp/grpcpp.h"
#include "pot/v1/inference.grpc.pb.h"

namespace pot {
namespace {

constexpr size_t kPieceBytes = 64 * 1024;

using Stream =
    grpc::ClientReaderWriter<v1::PerplexityRequest, v1::PerplexityResponse>;

// Sends the file until it ends, the server has had enough or `stop`. An error
// is one of reading.
absl::Status SendText(const TextFile& file, const Interrupter& stop,
                      Stream* stream) {
  v1::PerplexityRequest request;
  for (;;) {
    std::string* const text = request.mutable_text();
    text->resize(kPieceBytes);
    const absl::StatusOr<size_t> count =
        ReadInterruptibly(file.fd(), text->data(), text->size(), stop);
    if (!count.ok()) {
      if (absl::IsCancelled(count.status())) return absl::OkStatus();
      return absl::Status(
          count.status().code(),
          absl::StrCat(Printable(file.name()), ": ", count.status().message()));
    }
    if (*count == 0) {
      stream->WritesDone();
      return absl::OkStatus();
    }
    text->resize(*count);
    if (!stream->Write(request)) return absl::OkStatus();
  }
}

std::string Note(const v1::PerplexityProgress& progress) {
  if (progress.tokens() == 0) return "";
  return absl::StrFormat(
      "%s tokens, perplexity so far %.4f", FormatCount(progress.tokens()),
      std::exp(progress.total_nats() / static_cast<double>(progress.tokens())));
}

}  // namespace

absl::StatusOr<v1::PerplexityResult> MeasurePerplexity(
    Session* session, const v1::PerplexityOptions& options,
    const TextFile& file, ProgressBar* bar) {
  Call call(session->connection());
  const auto stub =
      v1::InferenceService::NewStub(session->connection().channel());
  const std::unique_ptr<Stream> stream = stub->Perplexity(call.context());
  v1::PerplexityRequest first;
  *first.mutable_options() = options;

  // Ends the sender, too, when the server ends the call while the input is
  // silent.
  Interrupter stop;
  const int chained =
      session->interrupter().AddCallback([&stop] { stop.Interrupt(); });
  absl::Status sent;
  std::thread sender;
  if (stream->Write(first)) {
    sender = std::thread([&] {
      sent = SendText(file, stop, stream.get());
      if (!sent.ok()) call.context()->TryCancel();
    });
  }
  v1::PerplexityResult result;
  bool has_result = false;
  v1::PerplexityResponse response;
  while (stream->Read(&response)) {
    if (response.has_result()) {
      has_result = true;
      result = response.result();
    } else {
      bar->Update(static_cast<int64_t>(response.progress().received_bytes()),
                  file.size(), Note(response.progress()));
    }
  }
  session->interrupter().RemoveCallback(chained);
  stop.Interrupt();
  if (sender.joinable()) sender.join();
  const absl::Status status = call.ToStatus(stream->Finish());
  if (!sent.ok()) return sent;
  if (!status.ok()) return status;
  if (!has_result) {
    return absl::InternalError("the server ended the call without a result");
  }
  return result;
}

}  // namespace pot
