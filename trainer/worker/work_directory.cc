#include "trainer/worker/work_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <random>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "engine/base/file.h"
#include "engine/base/quote.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/directory.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "trainer/worker/file_transfer.h"

namespace pot {
namespace {

constexpr size_t kMaxNameBytes = 128;
constexpr size_t kMaxPidBytes = 32;
// Left for snapshots' headers, logs and others.
constexpr int64_t kSpareDiskBytes = int64_t{64} << 20;

absl::Status MakeDirectories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (!error) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("cannot create '", path, "': ", error.message()));
}

// The same bytes for the same specification, unlike SerializeAsString.
std::string Deterministic(const google::protobuf::Message& message) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream output(&stream);
    output.SetSerializationDeterministic(true);
    message.SerializeToCodedStream(&output);
  }
  return bytes;
}

std::string JobDigest(const v1::Lease& lease) {
  std::string text = Deterministic(lease.spec());
  for (const v1::StoredFile& file : lease.base_files()) {
    absl::StrAppend(&text, "\n", file.sha256());
  }
  return Sha256Hex({reinterpret_cast<const uint8_t*>(text.data()), text.size()})
      .substr(0, 16);
}

}  // namespace

WorkDirectory::WorkDirectory(std::string path, int lock,
                             int64_t max_cache_bytes)
    : path_(std::move(path)), lock_(lock), max_cache_bytes_(max_cache_bytes) {}

WorkDirectory::~WorkDirectory() { close(lock_); }

absl::StatusOr<std::unique_ptr<WorkDirectory>> WorkDirectory::Open(
    const std::string& path, int64_t max_cache_bytes) {
  if (path.empty()) return absl::InvalidArgumentError("no work directory");
  POT_RETURN_IF_ERROR(MakeDirectories(path));
  const std::string lock_path = absl::StrCat(path, "/lock");
  const int lock =
      open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (lock < 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", lock_path));
  }
  std::unique_ptr<WorkDirectory> directory(
      new WorkDirectory(path, lock, max_cache_bytes));
  if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
    const absl::StatusOr<std::string> holder =
        ReadFile(lock_path, kMaxPidBytes);
    return absl::FailedPreconditionError(absl::StrCat(
        "another worker (process ",
        holder.ok() ? absl::StripAsciiWhitespace(*holder) : "unknown",
        ") works in '", path, "'; give this one another --work-dir"));
  }
  const std::string pid = absl::StrCat(getpid(), "\n");
  if (ftruncate(lock, 0) != 0 || pwrite(lock, pid.data(), pid.size(), 0) !=
                                     static_cast<ssize_t>(pid.size())) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", lock_path));
  }
  POT_RETURN_IF_ERROR(MakeDirectory(path + "/cache").status());
  POT_RETURN_IF_ERROR(MakeDirectory(path + "/jobs").status());
  return directory;
}

absl::StatusOr<std::string> WorkDirectory::DefaultName() const {
  const std::string path = path_ + "/name";
  const absl::StatusOr<std::string> known = ReadFile(path, kMaxNameBytes);
  if (known.ok() && IsPlainName(*known)) return *known;
  char host[64] = {};
  if (gethostname(host, sizeof(host) - 1) != 0) host[0] = '\0';
  std::string name;
  for (const char c : absl::string_view(host)) {
    if (IsPlainName(std::string(1, c))) name += c;
  }
  std::random_device random;
  absl::StrAppend(&name, name.empty() ? "worker-" : "-",
                  absl::StrFormat("%08x", static_cast<uint32_t>(random())));
  POT_RETURN_IF_ERROR(WriteFile(path, name));
  return name;
}

absl::StatusOr<std::string> WorkDirectory::OpenJob(
    const v1::Lease& lease) const {
  if (!IsPlainName(lease.key().job_id())) {
    return absl::InvalidArgumentError(
        absl::StrCat("the lease names a job ", Quote(lease.key().job_id())));
  }
  const std::string jobs = path_ + "/jobs";
  const std::string name =
      absl::StrCat(lease.key().job_id(), "-", JobDigest(lease));
  POT_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries,
                       ListDirectory(jobs));
  for (const DirectoryEntry& entry : entries) {
    if (entry.name == name) continue;
    POT_RETURN_IF_ERROR(RemoveTree(absl::StrCat(jobs, "/", entry.name)));
  }
  const std::string path = absl::StrCat(jobs, "/", name);
  POT_RETURN_IF_ERROR(MakeDirectory(path).status());
  return path;
}

std::string WorkDirectory::CachePath(const std::string& sha256) const {
  return absl::StrCat(path_, "/cache/", sha256);
}

bool WorkDirectory::HasCached(const v1::StoredFile& file) const {
  const std::string path = CachePath(file.sha256());
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) return false;
  const absl::StatusOr<std::string> sha256 = Sha256File(path);
  if (sha256.ok() && *sha256 == file.sha256()) {
    // The time of the last use.
    static_cast<void>(utimensat(AT_FDCWD, path.c_str(), nullptr, 0));
    return true;
  }
  static_cast<void>(unlink(path.c_str()));
  return false;
}

absl::Status WorkDirectory::MakeRoom(int64_t bytes,
                                     const std::set<std::string>& keep) const {
  const std::string cache = path_ + "/cache";
  POT_ASSIGN_OR_RETURN(std::vector<DirectoryEntry> entries,
                       ListDirectory(cache));
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return a.modified < b.modified;
  });
  int64_t total = bytes;
  for (const DirectoryEntry& entry : entries) total += entry.bytes;
  for (const DirectoryEntry& entry : entries) {
    if (total <= max_cache_bytes_) break;
    if (keep.contains(std::string(absl::StripSuffix(entry.name, ".partial")))) {
      continue;
    }
    static_cast<void>(unlink(absl::StrCat(cache, "/", entry.name).c_str()));
    total -= entry.bytes;
  }
  struct statvfs disk;
  if (statvfs(cache.c_str(), &disk) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot ask about ", cache));
  }
  const double room =
      static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
  if (static_cast<double>(bytes) + static_cast<double>(kSpareDiskBytes) <=
      room) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("the worker's disk has ", static_cast<int64_t>(room),
                   " bytes left; the job's input needs ", bytes));
}

}  // namespace pot
