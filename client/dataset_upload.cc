#include "client/dataset_upload.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/progress_bar.h"
#include "client/text_file.h"
#include "client/text_format.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "grpcpp/grpcpp.h"
#include "pot/v1/training.grpc.pb.h"

namespace pot {
namespace {

// UploadDatasetRequest.data's limit.
constexpr size_t kPieceBytes = 1 << 20;
// DatasetHeader.name's limit.
constexpr size_t kMaxNameBytes = 128;

// Finds the first byte of a text, given in pieces, that is not UTF-8.
class Utf8Checker {
 public:
  // False when it is in `piece` or in what was left of the one before.
  bool Add(absl::string_view piece) {
    pending_.append(piece.data(), piece.size());
    const size_t complete = CompleteUtf8Prefix(pending_);
    const bool valid = Consume(complete);
    if (valid) pending_.erase(0, complete);
    return valid;
  }
  // False when the text ends within a character.
  bool Finish() { return Consume(pending_.size()); }

  int64_t lines() const { return line_ - 1 + (column_ > 1 ? 1 : 0); }
  // Of the first bad byte, after a false.
  std::string Where() const {
    return absl::StrCat("line ", line_, ", byte ", column_, " of the line (",
                        offset_, " of the text)");
  }

 private:
  bool Consume(size_t size) {
    const absl::string_view text = absl::string_view(pending_).substr(0, size);
    const size_t valid = FindInvalidUtf8(text);
    const absl::string_view good = text.substr(0, valid);
    const auto breaks = std::count(good.begin(), good.end(), '\n');
    line_ += breaks;
    const size_t last = good.rfind('\n');
    column_ = breaks > 0 ? static_cast<int64_t>(valid - last)
                         : column_ + static_cast<int64_t>(valid);
    offset_ += static_cast<int64_t>(valid);
    return valid == text.size();
  }

  // Begins a character that the next piece must complete.
  std::string pending_;
  // Of the next byte; lines and columns count from 1.
  int64_t line_ = 1;
  int64_t column_ = 1;
  int64_t offset_ = 0;
};

absl::Status Wrong(const TextFile& file, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat(Printable(file.name()), " ", why));
}

// Passes the text to `consume` in pieces.
template <typename Consume>
absl::Status ReadPieces(Session* session, const TextFile& file,
                        const char* what, const Consume& consume) {
  ProgressBar bar(&session->console(), absl::StrCat(what, " ", file.name()));
  std::string piece(kPieceBytes, '\0');
  for (int64_t done = 0;;) {
    POT_ASSIGN_OR_RETURN(
        const size_t count,
        ReadInterruptibly(file.fd(), piece.data(), piece.size(),
                          session->interrupter()));
    if (count == 0) return absl::OkStatus();
    POT_RETURN_IF_ERROR(consume(absl::string_view(piece).substr(0, count)));
    done += static_cast<int64_t>(count);
    bar.Update(done, file.size());
  }
}

absl::StatusOr<UploadedDataset> CheckDataset(Session* session,
                                             const TextFile& file,
                                             int64_t max_bytes) {
  UploadedDataset dataset;
  Sha256 digest;
  Utf8Checker checker;
  const auto not_utf8 = [&] {
    return Wrong(file, absl::StrCat("is not UTF-8 at ", checker.Where()));
  };
  const auto too_long = [&](int64_t size, absl::string_view at_least) {
    return Wrong(
        file,
        absl::StrCat("has ", at_least, FormatCount(static_cast<uint64_t>(size)),
                     " bytes; a dataset has at most ",
                     FormatCount(static_cast<uint64_t>(max_bytes))));
  };
  if (file.size() > max_bytes) return too_long(file.size(), "");
  POT_RETURN_IF_ERROR(ReadPieces(
      session, file, "checking", [&](absl::string_view piece) -> absl::Status {
        dataset.size_bytes += static_cast<int64_t>(piece.size());
        if (dataset.size_bytes > max_bytes) {
          return too_long(dataset.size_bytes, "at least ");
        }
        if (!checker.Add(piece)) return not_utf8();
        digest.Update(absl::MakeConstSpan(
            reinterpret_cast<const uint8_t*>(piece.data()), piece.size()));
        return absl::OkStatus();
      }));
  if (!checker.Finish()) return not_utf8();
  if (dataset.size_bytes == 0) return Wrong(file, "is empty");
  dataset.lines = checker.lines();
  dataset.sha256 = digest.HexDigest();
  return dataset;
}

// What people call it: the file's name, cut between characters.
std::string NameOf(const std::string& path) {
  std::string name = std::filesystem::path(path).filename().string();
  if (path == "-" || name.empty()) name = "standard input";
  if (name.size() > kMaxNameBytes) {
    name.resize(kMaxNameBytes);
    name.resize(CompleteUtf8Prefix(name));
  }
  return name;
}

absl::Status Send(Session* session, const TextFile& file,
                  UploadedDataset* dataset) {
  Call call(session->connection());
  const auto stub =
      v1::TrainingService::NewStub(session->connection().channel());
  v1::UploadDatasetResponse response;
  const auto writer = stub->UploadDataset(call.context(), &response);
  v1::UploadDatasetRequest request;
  v1::DatasetHeader* const header = request.mutable_header();
  header->set_name(dataset->name);
  header->set_sha256(dataset->sha256);
  header->set_size_bytes(dataset->size_bytes);
  absl::Status read;
  if (writer->Write(request)) {
    read = ReadPieces(session, file, "uploading",
                      [&](absl::string_view piece) -> absl::Status {
                        request.set_data(piece.data(), piece.size());
                        // The answer says why the server reads no more.
                        return writer->Write(request)
                                   ? absl::OkStatus()
                                   : absl::AbortedError("answered");
                      });
    if (read.ok()) writer->WritesDone();
  }
  const bool answered = read.ok() || absl::IsAborted(read);
  // A text that cannot be read must not end as a short upload.
  if (!answered) call.context()->TryCancel();
  const absl::Status status = call.ToStatus(writer->Finish());
  if (!answered) return read;
  POT_RETURN_IF_ERROR(status);
  dataset->deduplicated = response.deduplicated();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<UploadedDataset> UploadDataset(Session* session,
                                              const std::string& path,
                                              int64_t max_bytes) {
  POT_ASSIGN_OR_RETURN(TextFile file, TextFile::Open(path, session->console(),
                                                     /*rereadable=*/true,
                                                     session->interrupter()));
  POT_ASSIGN_OR_RETURN(UploadedDataset dataset,
                       CheckDataset(session, file, max_bytes));
  dataset.name = NameOf(path);
  POT_RETURN_IF_ERROR(file.Rewind());
  POT_RETURN_IF_ERROR(Send(session, file, &dataset));
  return dataset;
}

std::string FormatUpload(const UploadedDataset& dataset) {
  return absl::StrCat(
      Printable(dataset.name), ": ", FormatBytes(dataset.size_bytes), ", ",
      FormatCount(static_cast<uint64_t>(dataset.lines)),
      dataset.lines == 1 ? " line, " : " lines, ",
      dataset.deduplicated ? "already on the server" : "uploaded", " (sha256 ",
      dataset.sha256.substr(0, 12), ")");
}

}  // namespace pot
