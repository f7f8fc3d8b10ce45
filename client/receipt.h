// Replay receipts as files, and what two of them say of each other.
#ifndef POT_CLIENT_RECEIPT_H_
#define POT_CLIENT_RECEIPT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/session.h"
#include "pot/v1/inference.pb.h"

namespace pot {

// Whether a receipt could be written to `path`, to be asked before it is worth
// anything: INVALID_ARGUMENT for what is there and no regular file, NOT_FOUND
// for a directory that is not there.
absl::Status CheckReceiptPath(const std::string& path);

// Writes the receipt of `summary` as JSON; whoever looks sees all of it, or
// what was there before. UNIMPLEMENTED when the server sent none.
absl::Status SaveReceipt(Session* session, const v1::GenerateSummary& summary,
                         const std::string& path);

// A receipt from a file, or from standard input when `path` is "-".
// INVALID_ARGUMENT for anything but a receipt in full whose digest is right.
absl::StatusOr<v1::ReplayReceipt> ReadReceipt(Session* session,
                                              const std::string& path);
// The same for its text; `name` begins errors.
absl::StatusOr<v1::ReplayReceipt> ParseReceipt(absl::string_view json,
                                               absl::string_view name);

// Where an answer first differs from a receipt: in the lowest sequence, its
// first token whose id or logits differ. What is not there has no id.
struct ReplayDifference {
  int sequence = 0;
  int position = 0;  // among the sequence's sampled tokens, from 0
  std::optional<int32_t> expected_id, actual_id;
  uint64_t expected_xxh64 = 0, actual_xxh64 = 0;
};
std::optional<ReplayDifference> FindDifference(
    const v1::ReplayReceipt& expected, const v1::ReplayReceipt& actual);

// "sequence 0, token 17: the receipt has token 42, the server now token 43".
std::string FormatDifference(const ReplayDifference& difference);

// Of all sequences.
int64_t CountTokens(const v1::ReplayReceipt& receipt);

}  // namespace pot

#endif  // POT_CLIENT_RECEIPT_H_
