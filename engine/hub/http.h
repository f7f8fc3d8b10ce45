// One HTTP exchange, behind an interface: what redirects, retries and resumes
// is tested without a network.
#ifndef POT_ENGINE_HUB_HTTP_H_
#define POT_ENGINE_HUB_HTTP_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace pot {

struct HttpRequest {
  std::string url;
  bool head = false;   // HEAD instead of GET
  std::string token;   // as "Authorization: Bearer"; empty: none
  int64_t offset = 0;  // over 0: only the bytes from there on
};

struct HttpHead {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case

  // "" when it is not there.
  const std::string& Get(const std::string& name) const;
};

struct HttpHandler {
  // Once, before the body. An error ends the exchange.
  std::function<absl::Status(const HttpHead&)> on_head;
  // Pieces of the body.
  std::function<absl::Status(absl::string_view)> on_body;
  // Asked about every second and with every piece; false ends the exchange as
  // CANCELLED. May be empty.
  std::function<bool()> go_on;
};

class Http {
 public:
  virtual ~Http() = default;

  // Follows no redirect and tries nothing twice. Errors of the handler;
  // UNAVAILABLE when there was no connection, or it broke or stood still;
  // FAILED_PRECONDITION when the other side is not who it should be (TLS).
  virtual absl::Status Do(const HttpRequest& request,
                          const HttpHandler& handler) = 0;
};

struct CurlOptions {
  std::string user_agent = "pot";
  // PEM file of authorities; empty: the system's.
  std::string ca_file;
  // An exchange that brings less than 1 KiB per second for so long has ended.
  absl::Duration stall_timeout = absl::Seconds(30);
};

// By libcurl, which takes proxies from the environment: HTTPS_PROXY,
// ALL_PROXY, NO_PROXY. Not thread-safe; it keeps connections.
std::unique_ptr<Http> NewCurlHttp(const CurlOptions& options);

}  // namespace pot

#endif  // POT_ENGINE_HUB_HTTP_H_
