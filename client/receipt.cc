#include "client/receipt.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "client/text_format.h"
#include "engine/base/file.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "google/protobuf/util/json_util.h"

namespace pot {
namespace {

// 16 sequences of a context of 32768 tokens have about as much.
constexpr size_t kMaxReceiptBytes = size_t{32} << 20;

std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status Malformed(absl::string_view name, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(Quoted(name), " is no receipt: ", what));
}

// v1::ReplayReceipt.output_sha256; machines are little-endian.
std::string OutputDigest(const v1::ReplayReceipt& receipt) {
  Sha256 digest;
  const auto update = [&digest](const auto* values, size_t count) {
    digest.Update(absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(values),
                                      sizeof(*values) * count));
  };
  for (const v1::ReceiptSequence& sequence : receipt.sequences()) {
    const uint64_t count = sequence.token_ids_size();
    update(&count, 1);
    update(sequence.token_ids().data(), count);
    update(sequence.logits_xxh64().data(), sequence.logits_xxh64_size());
  }
  return digest.HexDigest();
}

absl::Status CheckReceipt(const v1::ReplayReceipt& receipt,
                          absl::string_view name) {
  if (!IsSha256Hex(receipt.model().sha256())) {
    return Malformed(
        name, absl::StrCat("model.sha256 is ", Quoted(receipt.model().sha256()),
                           ", not 64 lower-case hexadecimal "
                           "digits"));
  }
  const v1::GenerateRequest& request = receipt.request();
  if (request.token_ids().ids().empty()) {
    return Malformed(name, "request.token_ids has no token");
  }
  if (!request.sampling().has_seed()) {
    return Malformed(name, "request.sampling.seed is missing");
  }
  if (receipt.sequences().empty() ||
      request.sampling().n() != receipt.sequences_size()) {
    return Malformed(
        name, absl::StrCat("request.sampling.n is ", request.sampling().n(),
                           ", but there are ", receipt.sequences_size(),
                           " sequences"));
  }
  for (int i = 0; i < receipt.sequences_size(); ++i) {
    const v1::ReceiptSequence& sequence = receipt.sequences(i);
    if (sequence.token_ids_size() == sequence.logits_xxh64_size()) continue;
    return Malformed(
        name, absl::StrCat("sequences[", i, "] has ", sequence.token_ids_size(),
                           " token_ids, but ", sequence.logits_xxh64_size(),
                           " logits_xxh64"));
  }
  const std::string digest = OutputDigest(receipt);
  if (digest == receipt.output_sha256()) return absl::OkStatus();
  return Malformed(name,
                   absl::StrCat("it was changed: output_sha256 is ",
                                Quoted(receipt.output_sha256()),
                                ", that of its sequences \"", digest, "\""));
}

absl::Status FileError(absl::string_view what, const std::string& path) {
  const int error = errno;
  return absl::ErrnoToStatus(error, absl::StrCat(what, " ", Quoted(path)));
}

}  // namespace

absl::Status CheckReceiptPath(const std::string& path) {
  struct stat info;
  if (path.empty()) {
    return absl::InvalidArgumentError("the name of the receipt is empty");
  }
  if (stat(path.c_str(), &info) == 0) {
    if (S_ISREG(info.st_mode)) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("a receipt replaces its file, and ", Quoted(path),
                     " is no regular one"));
  }
  if (errno != ENOENT) return FileError("the receipt", path);
  const std::string parent = ParentOf(path);
  if (stat(parent.c_str(), &info) != 0) {
    return FileError("the directory of the receipt,", parent);
  }
  if (S_ISDIR(info.st_mode)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(Quoted(parent), " is no directory"));
}

absl::Status SaveReceipt(Session* session, const v1::GenerateSummary& summary,
                         const std::string& path) {
  if (!summary.has_receipt()) {
    return absl::UnimplementedError(
        absl::StrCat("the server ", session->connection().server(), ", ",
                     Quoted(summary.model().engine()), ", gives no receipts"));
  }
  const std::string unfinished = absl::StrCat(path, ".tmp-", getpid());
  absl::Status status =
      WriteFile(unfinished, ToJson(summary.receipt(), /*indented=*/true));
  if (status.ok() && rename(unfinished.c_str(), path.c_str()) != 0) {
    status = FileError("renaming to", path);
  }
  if (!status.ok()) {
    unlink(unfinished.c_str());
    return status;
  }
  return SyncDirectory(ParentOf(path));
}

absl::StatusOr<v1::ReplayReceipt> ReadReceipt(Session* session,
                                              const std::string& path) {
  if (path == "-") {
    POT_ASSIGN_OR_RETURN(const std::string json,
                         session->console().ReadAll(kMaxReceiptBytes));
    return ParseReceipt(json, "standard input");
  }
  POT_ASSIGN_OR_RETURN(const std::string json,
                       ReadFile(path, kMaxReceiptBytes));
  return ParseReceipt(json, path);
}

absl::StatusOr<v1::ReplayReceipt> ParseReceipt(absl::string_view json,
                                               absl::string_view name) {
  const size_t invalid = FindInvalidUtf8(json);
  if (invalid != json.size()) {
    return Malformed(
        name, absl::StrCat("it is not UTF-8 from byte ", invalid, " on"));
  }
  v1::ReplayReceipt receipt;
  const auto status = google::protobuf::util::JsonStringToMessage(
      google::protobuf::StringPiece(json.data(), json.size()), &receipt);
  if (!status.ok()) {
    return Malformed(name, std::string(status.message()));
  }
  POT_RETURN_IF_ERROR(CheckReceipt(receipt, name));
  return receipt;
}

std::optional<ReplayDifference> FindDifference(
    const v1::ReplayReceipt& expected, const v1::ReplayReceipt& actual) {
  static const v1::ReceiptSequence kNone;
  const int sequences =
      std::max(expected.sequences_size(), actual.sequences_size());
  for (int i = 0; i < sequences; ++i) {
    const v1::ReceiptSequence& left =
        i < expected.sequences_size() ? expected.sequences(i) : kNone;
    const v1::ReceiptSequence& right =
        i < actual.sequences_size() ? actual.sequences(i) : kNone;
    const int tokens = std::max(left.token_ids_size(), right.token_ids_size());
    for (int t = 0; t < tokens; ++t) {
      ReplayDifference at;
      at.sequence = i;
      at.position = t;
      if (t < left.token_ids_size()) at.expected_id = left.token_ids(t);
      if (t < right.token_ids_size()) at.actual_id = right.token_ids(t);
      if (t < left.logits_xxh64_size())
        at.expected_xxh64 = left.logits_xxh64(t);
      if (t < right.logits_xxh64_size())
        at.actual_xxh64 = right.logits_xxh64(t);
      if (at.expected_id != at.actual_id ||
          at.expected_xxh64 != at.actual_xxh64) {
        return at;
      }
    }
  }
  return std::nullopt;
}

std::string FormatDifference(const ReplayDifference& difference) {
  const auto token = [](const std::optional<int32_t>& id) {
    return id.has_value() ? absl::StrCat("token ", *id)
                          : std::string("no token");
  };
  return absl::StrFormat(
      "sequence %d, token %d: the receipt has %s from logits %016x, the server "
      "now %s from logits %016x",
      difference.sequence, difference.position, token(difference.expected_id),
      difference.expected_xxh64, token(difference.actual_id),
      difference.actual_xxh64);
}

int64_t CountTokens(const v1::ReplayReceipt& receipt) {
  int64_t count = 0;
  for (const v1::ReceiptSequence& sequence : receipt.sequences()) {
    count += sequence.token_ids_size();
  }
  return count;
}

}  // namespace pot
