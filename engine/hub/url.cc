#include "engine/hub/url.h"

#include <arpa/inet.h>
#include <curl/curl.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

constexpr size_t kMaxUrlBytes = 8192;

struct FreeUrl {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using Handle = std::unique_ptr<CURLU, FreeUrl>;

absl::StatusOr<std::string> Part(CURLU* url, CURLUPart part,
                                 unsigned int flags) {
  char* text = nullptr;
  const CURLUcode code = curl_url_get(url, part, &text, flags);
  if (code != CURLUE_OK) {
    return absl::InvalidArgumentError(curl_url_strerror(code));
  }
  std::string result = text;
  curl_free(text);
  return result;
}

absl::Status Set(CURLU* url, const std::string& text) {
  if (text.size() > kMaxUrlBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("an URL of ", text.size(), " bytes exceeds the limit of ",
                     kMaxUrlBytes));
  }
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isgraph(static_cast<unsigned char>(c));
  });
  // Names in other alphabets have an ASCII form.
  if (!ascii) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quote(text), " is no URL of printable ASCII"));
  }
  const CURLUcode code =
      curl_url_set(url, CURLUPART_URL, text.c_str(), CURLU_DISALLOW_USER);
  if (code == CURLUE_OK) return absl::OkStatus();
  // A query may hold secrets, so not even a wrong URL shows its own.
  return absl::InvalidArgumentError(
      absl::StrCat(Quote(text.substr(0, text.find('?'))),
                   " is no URL: ", curl_url_strerror(code)));
}

absl::StatusOr<Url> Read(CURLU* handle) {
  curl_url_set(handle, CURLUPART_FRAGMENT, nullptr, 0);
  Url url;
  POT_ASSIGN_OR_RETURN(url.text, Part(handle, CURLUPART_URL, 0));
  POT_ASSIGN_OR_RETURN(url.scheme, Part(handle, CURLUPART_SCHEME, 0));
  POT_ASSIGN_OR_RETURN(url.host, Part(handle, CURLUPART_HOST, 0));
  POT_ASSIGN_OR_RETURN(const std::string port,
                       Part(handle, CURLUPART_PORT, CURLU_DEFAULT_PORT));
  absl::AsciiStrToLower(&url.scheme);
  absl::AsciiStrToLower(&url.host);
  if (absl::StartsWith(url.host, "[") && absl::EndsWith(url.host, "]")) {
    url.host = url.host.substr(1, url.host.size() - 2);
  }
  if (url.scheme != "https" && url.scheme != "http") {
    return absl::InvalidArgumentError(absl::StrCat(
        Quote(url.shown()), " is neither an https nor an http URL"));
  }
  if (!absl::SimpleAtoi(port, &url.port)) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quote(url.shown()), " has no port"));
  }
  return url;
}

bool IsHostCharacter(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' ||
         c == '-' || c == '_';
}

}  // namespace

std::string Url::shown() const { return text.substr(0, text.find('?')); }

bool Url::IsLoopback() const {
  if (host == "localhost") return true;
  in_addr v4;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) {
    return (ntohl(v4.s_addr) >> 24) == 127;
  }
  in6_addr v6;
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 &&
         IN6_IS_ADDR_LOOPBACK(&v6);
}

absl::StatusOr<Url> ParseUrl(const std::string& text) {
  const Handle handle(curl_url());
  if (handle == nullptr) return absl::ResourceExhaustedError("no memory");
  POT_RETURN_IF_ERROR(Set(handle.get(), text));
  return Read(handle.get());
}

absl::StatusOr<Url> ResolveUrl(const Url& base, const std::string& reference) {
  const Handle handle(curl_url());
  if (handle == nullptr) return absl::ResourceExhaustedError("no memory");
  POT_RETURN_IF_ERROR(Set(handle.get(), base.text));
  POT_RETURN_IF_ERROR(Set(handle.get(), reference));
  return Read(handle.get());
}

std::string EscapeUrlPart(absl::string_view text) {
  std::string result;
  for (const char c : text) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
        absl::string_view("-._~").find(c) != absl::string_view::npos) {
      result += c;
    } else {
      absl::StrAppendFormat(&result, "%%%02X", static_cast<unsigned char>(c));
    }
  }
  return result;
}

absl::StatusOr<HostList> HostList::Parse(absl::string_view text) {
  HostList list;
  for (absl::string_view piece : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    piece = absl::StripAsciiWhitespace(piece);
    const auto wrong = [piece] {
      return absl::InvalidArgumentError(absl::StrCat(
          Quote(piece), " is no HOST, HOST:PORT, *.DOMAIN or [V6]:PORT"));
    };
    Entry entry;
    absl::string_view host = piece;
    absl::string_view port;
    bool v6 = false;
    if (absl::ConsumePrefix(&host, "[")) {
      const size_t end = host.find(']');
      if (end == absl::string_view::npos) return wrong();
      port = host.substr(end + 1);
      host = host.substr(0, end);
      v6 = true;
      if (!port.empty() && !absl::ConsumePrefix(&port, ":")) return wrong();
    } else if (const size_t colon = host.find(':');
               colon != absl::string_view::npos) {
      port = host.substr(colon + 1);
      host = host.substr(0, colon);
    }
    entry.below = !v6 && absl::ConsumePrefix(&host, "*.");
    entry.host = absl::AsciiStrToLower(host);
    in6_addr address;
    const bool plain =
        v6 ? inet_pton(AF_INET6, entry.host.c_str(), &address) == 1
           : !entry.host.empty() &&
                 std::all_of(entry.host.begin(), entry.host.end(),
                             IsHostCharacter);
    if (!plain) return wrong();
    if (!port.empty() && (!absl::SimpleAtoi(port, &entry.port) ||
                          entry.port < 1 || entry.port > 65535)) {
      return wrong();
    }
    list.entries_.push_back(std::move(entry));
  }
  return list;
}

bool HostList::Allows(const Url& url) const {
  const int usual = url.scheme == "https" ? 443 : 80;
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    if (url.port != (entry.port == 0 ? usual : entry.port)) return false;
    if (!entry.below) return url.host == entry.host;
    return absl::EndsWith(url.host, absl::StrCat(".", entry.host));
  });
}

}  // namespace pot
