#include "engine/hub/hub_cache.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"
#include "engine/base/characters.h"
#include "engine/base/file.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "engine/hub/partial_file.h"

namespace pot {
namespace {

namespace fs = std::filesystem;

constexpr char kBlobs[] = "../../blobs/";

absl::Status MakeDirectories(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (!error) return absl::OkStatus();
  return absl::ErrnoToStatus(
      error.value(), absl::StrCat("cannot make the directory ", path,
                                  " (HF_HUB_CACHE can name another cache)"));
}

// What git calls a file with this content: SHA-1 of "blob SIZE\0" and it.
absl::StatusOr<std::string> GitBlobDigest(const std::string& path) {
  std::error_code error;
  const uintmax_t size = fs::file_size(path, error);
  if (error) return absl::ErrnoToStatus(error.value(), path);
  struct FreeContext {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  const std::unique_ptr<EVP_MD_CTX, FreeContext> context(EVP_MD_CTX_new());
  bool ok = context != nullptr &&
            EVP_DigestInit_ex(context.get(), EVP_sha1(), nullptr) == 1;
  std::string header = absl::StrCat("blob ", size);
  header += '\0';
  ok = ok && EVP_DigestUpdate(context.get(), header.data(), header.size()) == 1;
  POT_RETURN_IF_ERROR(
      ReadFilePieces(path, [&](absl::Span<const uint8_t> piece) {
        ok = ok &&
             EVP_DigestUpdate(context.get(), piece.data(), piece.size()) == 1;
        return absl::OkStatus();
      }));
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  ok = ok && EVP_DigestFinal_ex(context.get(), digest, &length) == 1;
  if (!ok) return absl::InternalError("OpenSSL cannot compute SHA-1");
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest), length));
}

}  // namespace

bool IsFileDigest(const std::string& text) {
  return IsSha256Hex(text) || IsLowerHex(text, 40);
}

absl::StatusOr<bool> HasDigest(const std::string& path,
                               const std::string& digest) {
  POT_ASSIGN_OR_RETURN(const std::string found, digest.size() == 64
                                                    ? Sha256File(path)
                                                    : GitBlobDigest(path));
  return found == digest;
}

HubCache::HubCache(const std::string& root, const HubId& id)
    : root_(root),
      directory_(absl::StrCat(root, "/", id.cache_name())),
      locks_(absl::StrCat(root, "/.locks/", id.cache_name())) {}

absl::Status HubCache::Prepare(const std::string& commit) const {
  for (const std::string& path :
       {absl::StrCat(directory_, "/blobs"), absl::StrCat(directory_, "/refs"),
        SnapshotDirectory(commit), locks_}) {
    POT_RETURN_IF_ERROR(MakeDirectories(path));
  }
  return absl::OkStatus();
}

std::string HubCache::SnapshotDirectory(const std::string& commit) const {
  return absl::StrCat(directory_, "/snapshots/", commit);
}

std::string HubCache::BlobPath(const std::string& digest) const {
  return absl::StrCat(directory_, "/blobs/", digest);
}

std::string HubCache::PartialPath(const std::string& digest) const {
  return absl::StrCat(BlobPath(digest), ".incomplete");
}

std::string HubCache::LockPath(const std::string& digest) const {
  return absl::StrCat(locks_, "/", digest, ".lock");
}

absl::StatusOr<std::string> HubCache::ReadRef(
    const std::string& revision) const {
  const std::string path = absl::StrCat(directory_, "/refs/", revision);
  POT_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, 100));
  const std::string commit(absl::StripAsciiWhitespace(text));
  if (IsCommit(commit)) return commit;
  return absl::NotFoundError(absl::StrCat(path, " holds no commit"));
}

absl::Status HubCache::WriteRef(const std::string& revision,
                                const std::string& commit) const {
  const std::string path = absl::StrCat(directory_, "/refs/", revision);
  POT_RETURN_IF_ERROR(MakeDirectories(fs::path(path).parent_path().string()));
  return ReplaceFile(path, commit);
}

absl::Status HubCache::Link(const std::string& commit, const std::string& file,
                            const std::string& digest) const {
  if (LinkedDigest(commit, file).value_or("") == digest) {
    return absl::OkStatus();
  }
  const std::string path = absl::StrCat(SnapshotDirectory(commit), "/", file);
  const std::string staged = absl::StrCat(path, ".", getpid(), ".tmp");
  unlink(staged.c_str());
  if (symlink(absl::StrCat(kBlobs, digest).c_str(), staged.c_str()) != 0 ||
      rename(staged.c_str(), path.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot link ", path));
  }
  return SyncDirectory(SnapshotDirectory(commit));
}

absl::StatusOr<std::string> HubCache::LinkedDigest(
    const std::string& commit, const std::string& file) const {
  const std::string path = absl::StrCat(SnapshotDirectory(commit), "/", file);
  std::error_code error;
  const std::string target = fs::read_symlink(path, error).string();
  absl::string_view digest = target;
  if (!error && absl::ConsumePrefix(&digest, kBlobs) &&
      IsFileDigest(std::string(digest))) {
    return std::string(digest);
  }
  return absl::NotFoundError(absl::StrCat(path, " is no link to a blob"));
}

}  // namespace pot
