#ifndef POT_ENGINE_BASE_SHA256_H_
#define POT_ENGINE_BASE_SHA256_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace pot {

// Incremental SHA-256 (FIPS 180-4, by OpenSSL).
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Update(absl::Span<const uint8_t> bytes);
  // 64 lower-case hexadecimal digits. Call once, last.
  std::string HexDigest();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

std::string Sha256Hex(absl::Span<const uint8_t> bytes);

// Whether it looks like one: 64 lower-case hexadecimal digits.
bool IsSha256Hex(absl::string_view text);

// Digest of a file's content, read in pieces.
absl::StatusOr<std::string> Sha256File(const std::string& path);

}  // namespace pot

#endif  // POT_ENGINE_BASE_SHA256_H_
