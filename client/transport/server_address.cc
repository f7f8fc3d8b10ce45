#include "client/transport/server_address.h"

#include <arpa/inet.h>

#include <string>

#include "absl/strings/match.h"

namespace pot {

bool IsLocalServer(absl::string_view server) {
  if (absl::StartsWith(server, "unix:")) return true;
  const size_t colon = server.rfind(':');
  absl::string_view host = server;
  if (absl::StartsWith(server, "[")) {
    const size_t end = server.find(']');
    if (end == absl::string_view::npos) return false;
    host = server.substr(1, end - 1);
  } else if (colon != absl::string_view::npos && server.find(':') == colon) {
    host = server.substr(0, colon);
  }
  if (absl::EqualsIgnoreCase(host, "localhost")) return true;
  // "127.example.com" is a name like any other.
  const std::string text(host);
  in_addr v4;
  if (inet_pton(AF_INET, text.c_str(), &v4) == 1) {
    return (ntohl(v4.s_addr) >> 24) == 127;
  }
  in6_addr v6;
  return inet_pton(AF_INET6, text.c_str(), &v6) == 1 &&
         IN6_IS_ADDR_LOOPBACK(&v6);
}

}  // namespace pot
