#ifndef POT_CLIENT_TRANSPORT_CHANNEL_SECURITY_H_
#define POT_CLIENT_TRANSPORT_CHANNEL_SECURITY_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace grpc {
class Channel;
class ChannelArguments;
class ChannelCredentials;
}  // namespace grpc

namespace pot {

// How a client proves who it is, and makes sure whom it talks to; as flags
// give it. Paths are of PEM files; empty: not set.
struct ChannelSecurityFlags {
  bool tls = false;        // also by any of the next three
  std::string tls_ca;      // whose servers are trusted; unset: the system's
  std::string tls_cert;    // the client's own, for servers that ask for one
  std::string tls_key;     // of that certificate
  std::string token_file;  // comes before `token`
  std::string token;
};

// The same, read and checked.
struct ChannelSecurity {
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  std::string token;  // empty: none
};

// For a channel to `server`. Errors name the flag. INVALID_ARGUMENT besides
// when there is a token and neither TLS nor a server on this machine: anybody
// on the way could read and use it.
absl::StatusOr<ChannelSecurity> LoadChannelSecurity(
    const ChannelSecurityFlags& flags, absl::string_view server);

// A channel whose every call carries the token.
std::shared_ptr<grpc::Channel> CreateSecureChannel(
    const std::string& server, const ChannelSecurity& security,
    const grpc::ChannelArguments& arguments);

}  // namespace pot

#endif  // POT_CLIENT_TRANSPORT_CHANNEL_SECURITY_H_
