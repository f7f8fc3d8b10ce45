// The secrets that pot-server's keys are made of.
#ifndef POT_CLIENT_TRANSPORT_TOKEN_H_
#define POT_CLIENT_TRANSPORT_TOKEN_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pot {

// "pot_" and 43 characters of 256 random bits from the operating system.
std::string NewToken();

// What a server's key file holds of a token: "sha256:" and 64 hexadecimal
// digits.
std::string TokenDigestText(absl::string_view token);

// INVALID_ARGUMENT unless it is 1 to 4096 printable ASCII characters without
// blanks. The message does not show it.
absl::Status CheckToken(absl::string_view token);

// The one token that a file holds, without the blanks around it.
absl::StatusOr<std::string> ReadTokenFile(const std::string& path);

}  // namespace pot

#endif  // POT_CLIENT_TRANSPORT_TOKEN_H_
