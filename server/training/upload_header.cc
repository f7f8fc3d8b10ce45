#include "server/training/upload_header.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "server/serving/error_details.h"
#include "server/serving/field_errors.h"

namespace pot {
namespace {

constexpr size_t kMaxHeaderBytes = size_t{1} << 16;

absl::Status Invalid(const std::string& field, absl::string_view complaint,
                     const std::string& limit, const std::string& value) {
  return FieldError("INVALID_FIELD", field, complaint, limit, value);
}

// The kind's letter and the announcement, without the lease.
std::string HeaderText(UploadKind kind, const v1::UploadHeader& header) {
  v1::UploadHeader kept = header;
  kept.mutable_lease()->clear_job_id();
  return absl::StrCat(kind == UploadKind::kSnapshot ? "s" : "c",
                      kept.SerializeAsString());
}

}  // namespace

absl::Status CheckUploadName(absl::string_view name, const std::string& field) {
  return CheckFileName(field, name, kMaxUploadedNameBytes);
}

absl::StatusOr<int64_t> CheckUploadHeader(const v1::UploadHeader& header,
                                          int64_t max_bytes,
                                          const std::string& prefix) {
  POT_RETURN_IF_ERROR(
      CheckUploadName(header.lease().job_id(), prefix + ".lease.job_id"));
  POT_RETURN_IF_ERROR(
      CheckUploadName(header.upload_id(), prefix + ".upload_id"));
  if (header.step() < 0) {
    return Invalid(prefix + ".step",
                   absl::StrCat("must be at least 0; it is ", header.step()),
                   "0", absl::StrCat(header.step()));
  }
  if (header.files_size() < 1 || header.files_size() > kMaxUploadedFiles) {
    return Invalid(prefix + ".files",
                   absl::StrCat("must have 1 to ", kMaxUploadedFiles,
                                " entries; it has ", header.files_size()),
                   absl::StrCat(kMaxUploadedFiles),
                   absl::StrCat(header.files_size()));
  }
  std::set<std::string> names;
  int64_t total = 0;
  for (int i = 0; i < header.files_size(); ++i) {
    const v1::StoredFile& file = header.files(i);
    const std::string field = absl::StrCat(prefix, ".files[", i, "]");
    POT_RETURN_IF_ERROR(CheckUploadName(file.path(), field + ".path"));
    if (!names.insert(file.path()).second) {
      return Invalid(field + ".path",
                     absl::StrCat("is the second file called ", file.path()),
                     "", file.path());
    }
    POT_RETURN_IF_ERROR(CheckSha256(field + ".sha256", file.sha256()));
    const std::string size = absl::StrCat(file.size_bytes());
    if (file.size_bytes() < 0) {
      return Invalid(field + ".size_bytes",
                     absl::StrCat("must be at least 0; it is ", size), "0",
                     size);
    }
    if (__builtin_add_overflow(total, file.size_bytes(), &total) ||
        total > max_bytes) {
      return WithDetails(
          absl::ResourceExhaustedError(
              absl::StrCat("the files up to ", field, ", which has ", size,
                           " bytes, are larger than the limit of ", max_bytes)),
          {.reason = "UPLOAD_TOO_LARGE",
           .metadata = {{"limit", absl::StrCat(max_bytes)}, {"value", size}},
           .field = field + ".size_bytes"});
    }
  }
  return total;
}

absl::Status WriteUploadHeader(const std::string& directory, UploadKind kind,
                               const v1::UploadHeader& header) {
  return WriteFile(directory + "/header", HeaderText(kind, header));
}

absl::StatusOr<v1::UploadHeader> ReadUploadHeader(const std::string& directory,
                                                  UploadKind* kind) {
  POT_ASSIGN_OR_RETURN(
      const std::string text,
      ReadFile(absl::StrCat(directory, "/header"), kMaxHeaderBytes));
  v1::UploadHeader header;
  if (text.empty() || !header.ParseFromString(text.substr(1))) {
    return absl::DataLossError(
        absl::StrCat(directory, "/header is no header of an upload"));
  }
  *kind = text[0] == 's' ? UploadKind::kSnapshot : UploadKind::kCheckpoint;
  return header;
}

bool SameUploadedFiles(const v1::UploadHeader& a, const v1::UploadHeader& b) {
  if (a.step() != b.step() || a.files_size() != b.files_size()) return false;
  for (int i = 0; i < a.files_size(); ++i) {
    if (a.files(i).path() != b.files(i).path() ||
        a.files(i).size_bytes() != b.files(i).size_bytes() ||
        a.files(i).sha256() != b.files(i).sha256()) {
      return false;
    }
  }
  return true;
}

}  // namespace pot
