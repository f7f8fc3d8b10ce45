#include "server/listen_address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace pot {
namespace {

bool IsLoopback(const std::string& host) {
  if (absl::EqualsIgnoreCase(host, "localhost")) return true;
  in_addr v4;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) {
    return (ntohl(v4.s_addr) >> 24) == 127;
  }
  in6_addr v6;
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 &&
         IN6_IS_ADDR_LOOPBACK(&v6);
}

bool IsPort(absl::string_view text) {
  int port = 0;
  return !text.empty() && text.size() <= 5 &&
         std::all_of(
             text.begin(), text.end(),
             [](char c) {
               return absl::ascii_isdigit(static_cast<unsigned char>(c));
             }) &&
         absl::SimpleAtoi(text, &port) && port <= 65535;
}

}  // namespace

absl::Status CheckListenAddress(absl::string_view address, bool open_to_all) {
  if (absl::StartsWith(address, "unix:") && address.size() > 5) {
    return absl::OkStatus();
  }
  const size_t colon = address.rfind(':');
  if (colon == absl::string_view::npos || !IsPort(address.substr(colon + 1))) {
    return absl::InvalidArgumentError(
        "must be HOST:PORT, [V6]:PORT or unix:PATH with a port in [0, 65535]");
  }
  absl::string_view host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (absl::StrContains(host, ':')) {
    return absl::InvalidArgumentError(
        "must have an IPv6 address in brackets: [::1]:8500");
  }
  if (host.empty()) {
    return absl::InvalidArgumentError(
        "must name a host; 0.0.0.0 is every IPv4 address of this one");
  }
  if (open_to_all || IsLoopback(std::string(host))) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "can be reached by other hosts, and without --tls-cert nothing is "
      "encrypted: listen on 127.0.0.1, or say --allow-insecure if the network "
      "is trusted");
}

}  // namespace pot
