#include "server/serving/model_import.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/quote.h"
#include "engine/base/thread_pool.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxPathBytes = 4096;

absl::Status WrongDirectory(const std::string& given,
                            absl::string_view complaint) {
  return WithDetails(absl::InvalidArgumentError(absl::StrCat(
                         "directory ", Quote(given), " ", complaint)),
                     {.reason = "INVALID_FIELD", .field = "directory"});
}

absl::Status SourceNotFound(const std::string& given) {
  return WithDetails(
      absl::NotFoundError(absl::StrCat("there is no directory ", Quote(given),
                                       " below the import root")),
      {.reason = "SOURCE_NOT_FOUND", .metadata = {{"value", given}}});
}

// `path` has no links and no "..".
bool IsBelow(const fs::path& path, const fs::path& root) {
  return std::mismatch(root.begin(), root.end(), path.begin(), path.end())
             .first == root.end();
}

absl::Status CheckFiles(const fs::path& directory, const fs::path& root,
                        const std::string& given) {
  std::error_code error;
  fs::directory_iterator entry(directory, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    std::error_code broken;
    const fs::path target = fs::canonical(entry->path(), broken);
    if (broken) continue;  // no reader can open it either
    if (!IsBelow(target, root)) {
      return WrongDirectory(
          given, absl::StrCat("has a link that leads out of the import root: ",
                              Quote(entry->path().filename().string())));
    }
  }
  return error ? SourceNotFound(given) : absl::OkStatus();
}

}  // namespace

int64_t DirectoryBytes(const std::string& directory) {
  int64_t bytes = 0;
  std::error_code error;
  fs::directory_iterator entry(directory, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    std::error_code no_file;
    const uintmax_t size = fs::file_size(entry->path(), no_file);
    if (!no_file && size < uintmax_t{1} << 60) {
      bytes += static_cast<int64_t>(size);
    }
    if (bytes < 0 || bytes > int64_t{1} << 60) return int64_t{1} << 60;
  }
  return bytes;
}

absl::StatusOr<std::string> ResolveImport(const std::string& import_root,
                                          const std::string& given) {
  if (import_root.empty()) {
    return WithDetails(
        absl::FailedPreconditionError(
            "this server imports nothing: it has no import root"),
        {.reason = "IMPORT_DISABLED"});
  }
  if (given.empty() || given.size() > kMaxPathBytes) {
    return WithDetails(
        WrongDirectory(given, absl::StrCat("must be 1 to ", kMaxPathBytes,
                                           " bytes; it has ", given.size())),
        {.metadata = {{"limit", absl::StrCat(kMaxPathBytes)},
                      {"value", absl::StrCat(given.size())}}});
  }
  if (given.find('\0') != std::string::npos) {
    return WrongDirectory(given, "contains a NUL byte");
  }
  std::error_code error;
  const fs::path root = fs::canonical(import_root, error);
  if (error) {
    return WithDetails(
        absl::FailedPreconditionError(
            absl::StrCat("the import root cannot be read: ", error.message())),
        {.reason = "IMPORT_DISABLED"});
  }
  // What "..", "." and links come to decides; where that is outside, nobody
  // learns whether it exists.
  const fs::path lexical = (root / given).lexically_normal();
  if (!IsBelow(lexical, root)) {
    return WrongDirectory(given, "is not below the import root");
  }
  const fs::path path = fs::canonical(root / given, error);
  if (error) return SourceNotFound(given);
  if (!IsBelow(path, root)) {
    return WrongDirectory(given, "is not below the import root");
  }
  if (!fs::is_directory(path, error)) return SourceNotFound(given);
  const absl::Status files = CheckFiles(path, root, given);
  if (!files.ok()) return files;
  return path.string();
}

absl::Status ImportInto(const std::string& from, const std::string& to,
                        const std::optional<QuantizeModelOptions>& options,
                        const std::function<bool(int64_t, int64_t)>& progress) {
  bool cancelled = false;
  absl::Status status;
  if (options.has_value()) {
    ThreadPool pool(std::clamp(
        static_cast<int>(std::thread::hardware_concurrency()) / 2, 1, 256));
    QuantizeModelOptions cancellable = *options;
    cancellable.cancelled = [&] { return cancelled; };
    status = QuantizeModel(from, to, cancellable, &pool,
                           [&](int64_t done, int64_t total) {
                             constexpr int64_t kBytes = sizeof(float);
                             cancelled = cancelled || !progress(done * kBytes,
                                                                total * kBytes);
                           })
                 .status();
  } else {
    status = CopyFloatModel(from, to);
    cancelled = !progress(0, 0);
  }
  if (cancelled) {
    return WithDetails(absl::CancelledError("the import was cancelled"),
                       {.reason = "CLIENT_CANCELLED"});
  }
  if (absl::IsInvalidArgument(status) || absl::IsNotFound(status)) {
    return WithDetails(absl::InvalidArgumentError(status.message()),
                       {.reason = "UNSUPPORTED_MODEL", .field = "directory"});
  }
  if (absl::IsFailedPrecondition(status)) {
    return WithDetails(status,
                       {.reason = "SOURCE_CHANGED", .field = "directory"});
  }
  if (absl::IsResourceExhausted(status)) {
    // The system answers so for a full disk too.
    return WithDetails(
        status, {.reason = absl::StartsWith(status.message(), "no memory")
                               ? "MEMORY_BUDGET"
                               : "DISK_BUDGET"});
  }
  return status;
}

}  // namespace pot
