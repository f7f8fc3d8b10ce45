#include "engine/base/sha256.h"

#include <openssl/evp.h>

#include <cstdio>
#include <cstdlib>

#include "absl/strings/escaping.h"
#include "engine/base/characters.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

// OpenSSL fails here only without memory or without a SHA-256 at all, and a
// wrong digest must never be returned.
void CheckOpenSsl(bool ok) {
  if (ok) return;
  std::fputs("OpenSSL cannot compute SHA-256\n", stderr);
  std::abort();
}

}  // namespace

struct Sha256::Context {
  Context() : evp(EVP_MD_CTX_new()) { CheckOpenSsl(evp != nullptr); }
  ~Context() { EVP_MD_CTX_free(evp); }
  EVP_MD_CTX* evp;
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  CheckOpenSsl(EVP_DigestInit_ex(context_->evp, EVP_sha256(), nullptr) == 1);
}

Sha256::~Sha256() = default;

void Sha256::Update(absl::Span<const uint8_t> bytes) {
  CheckOpenSsl(EVP_DigestUpdate(context_->evp, bytes.data(), bytes.size()) ==
               1);
}

std::string Sha256::HexDigest() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  CheckOpenSsl(EVP_DigestFinal_ex(context_->evp, digest, &size) == 1);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest), size));
}

std::string Sha256Hex(absl::Span<const uint8_t> bytes) {
  Sha256 sha256;
  sha256.Update(bytes);
  return sha256.HexDigest();
}

bool IsSha256Hex(absl::string_view text) { return IsLowerHex(text, 64); }

absl::StatusOr<std::string> Sha256File(const std::string& path) {
  Sha256 sha256;
  POT_RETURN_IF_ERROR(
      ReadFilePieces(path, [&](absl::Span<const uint8_t> piece) {
        sha256.Update(piece);
        return absl::OkStatus();
      }));
  return sha256.HexDigest();
}

}  // namespace pot
