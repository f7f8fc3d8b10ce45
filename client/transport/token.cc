#include "client/transport/token.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "engine/base/file.h"
#include "engine/base/quote.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

constexpr size_t kTokenBytes = 32;
constexpr size_t kMaxTokenLength = 4096;

}  // namespace

std::string NewToken() {
  std::string bytes(kTokenBytes, '\0');
  // Up to 256 bytes come whole, or the kernel has no such call: then there is
  // nothing to make a secret from.
  ssize_t got = -1;
  do {
    got = getrandom(bytes.data(), bytes.size(), 0);
  } while (got < 0 && errno == EINTR);
  if (got != static_cast<ssize_t>(bytes.size())) std::abort();
  // Without the padding "=".
  std::string text = absl::WebSafeBase64Escape(bytes);
  return absl::StrCat("pot_", text);
}

std::string TokenDigestText(absl::string_view token) {
  return absl::StrCat(
      "sha256:",
      Sha256Hex(absl::MakeConstSpan(
          reinterpret_cast<const uint8_t*>(token.data()), token.size())));
}

absl::Status CheckToken(absl::string_view token) {
  if (!token.empty() && token.size() <= kMaxTokenLength &&
      std::all_of(token.begin(), token.end(),
                  [](unsigned char c) { return absl::ascii_isgraph(c); })) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("must hold one token of 1 to ", kMaxTokenLength,
                   " printable ASCII characters"));
}

absl::StatusOr<std::string> ReadTokenFile(const std::string& path) {
  POT_ASSIGN_OR_RETURN(const std::string text,
                       ReadFile(path, kMaxTokenLength + 2));
  const std::string token(absl::StripAsciiWhitespace(text));
  if (!CheckToken(token).ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quote(path), " ", CheckToken(token).message()));
  }
  return token;
}

}  // namespace pot
