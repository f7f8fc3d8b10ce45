// Texts to train on: checked here, uploaded once.
#ifndef POT_CLIENT_DATASET_UPLOAD_H_
#define POT_CLIENT_DATASET_UPLOAD_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "client/session.h"

namespace pot {

struct UploadedDataset {
  std::string sha256;
  std::string name;
  int64_t size_bytes = 0;
  int64_t lines = 0;
  // The server had it already.
  bool deduplicated = false;
};

// The longest text that is uploaded; a server may take less.
inline constexpr int64_t kMaxDatasetBytes = int64_t{1} << 32;

// Reads the file, pipe or standard input ("-") at `path` twice: to check and
// digest it, and to upload it unless the server knows the digest. With progress
// bars on a terminal. INVALID_ARGUMENT when it is empty, longer than
// `max_bytes` or not UTF-8, which names line and byte of the first bad one;
// nothing is uploaded then.
absl::StatusOr<UploadedDataset> UploadDataset(
    Session* session, const std::string& path,
    int64_t max_bytes = kMaxDatasetBytes);

// "corpus.txt: 1.12 MB, 40,000 lines, already on the server (sha256 ...)".
std::string FormatUpload(const UploadedDataset& dataset);

}  // namespace pot

#endif  // POT_CLIENT_DATASET_UPLOAD_H_
