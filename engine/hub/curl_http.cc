#include <curl/curl.h>

#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/hub/http.h"

namespace pot {
namespace {

// libcurl limits a header, not their number.
constexpr size_t kMaxHeaderBytes = 256 << 10;
constexpr long kConnectSeconds = 15;
constexpr long kStallBytesPerSecond = 1024;

struct FreeEasy {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

// One exchange, as libcurl's callbacks see it.
class Exchange {
 public:
  explicit Exchange(const HttpHandler& handler) : handler_(handler) {}

  // The handler's error, if it had one.
  const absl::Status& status() const { return status_; }

  // For a response without a body.
  absl::Status Finish() {
    DeliverHead();
    return status_;
  }

  static size_t OnHeader(char* data, size_t, size_t size, void* self) {
    return static_cast<Exchange*>(self)->AddHeader({data, size}) ? size : 0;
  }
  static size_t OnBody(char* data, size_t, size_t size, void* self) {
    return static_cast<Exchange*>(self)->AddBody({data, size}) ? size : 0;
  }
  static int OnProgress(void* self, curl_off_t, curl_off_t, curl_off_t,
                        curl_off_t) {
    return static_cast<Exchange*>(self)->AskToGoOn() ? 0 : 1;
  }

 private:
  bool AddHeader(absl::string_view line) {
    header_bytes_ += line.size();
    if (header_bytes_ > kMaxHeaderBytes) {
      status_ = absl::UnavailableError(
          absl::StrCat("the answer's headers exceed the limit of ",
                       kMaxHeaderBytes, " bytes"));
      return false;
    }
    if (delivered_) return true;  // trailers
    line = absl::StripAsciiWhitespace(line);
    if (absl::StartsWith(line, "HTTP/")) {
      // What came before was an interim answer.
      head_ = {};
      const size_t blank = line.find(' ');
      for (const char c : line.substr(std::min(blank, line.size()))) {
        if (c == ' ' && head_.status == 0) continue;
        if (!absl::ascii_isdigit(static_cast<unsigned char>(c)) ||
            head_.status > 999) {
          break;
        }
        head_.status = 10 * head_.status + (c - '0');
      }
      return true;
    }
    const size_t colon = line.find(':');
    if (colon == absl::string_view::npos) return true;
    head_.headers[absl::AsciiStrToLower(line.substr(0, colon))] =
        std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
    return true;
  }

  bool AddBody(absl::string_view bytes) {
    DeliverHead();
    if (status_.ok()) status_ = handler_.on_body(bytes);
    return status_.ok();
  }

  void DeliverHead() {
    if (delivered_) return;
    delivered_ = true;
    status_ = handler_.on_head(head_);
  }

  bool AskToGoOn() {
    if (handler_.go_on != nullptr && !handler_.go_on()) {
      status_ = absl::CancelledError("the download was cancelled");
      return false;
    }
    return true;
  }

  const HttpHandler& handler_;
  absl::Status status_;
  HttpHead head_;
  bool delivered_ = false;
  size_t header_bytes_ = 0;
};

// libcurl's words may quote what came from outside.
std::string Printable(absl::string_view text) {
  constexpr size_t kMaxShown = 200;
  std::string shown(text.substr(0, kMaxShown));
  for (char& c : shown) {
    if (!absl::ascii_isprint(static_cast<unsigned char>(c))) c = '?';
  }
  return shown;
}

absl::Status StatusOf(CURLcode code, const char* details) {
  const std::string shown =
      Printable(*details == '\0' ? curl_easy_strerror(code) : details);
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_ISSUER_ERROR:
      return absl::FailedPreconditionError(absl::StrCat(
          "TLS: ", shown,
          "; SSL_CERT_FILE can name a PEM file of authorities to trust"));
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      return absl::InvalidArgumentError(shown);
    case CURLE_OUT_OF_MEMORY:
      return absl::ResourceExhaustedError("no memory");
    default:
      return absl::UnavailableError(shown);
  }
}

class CurlHttp : public Http {
 public:
  explicit CurlHttp(CurlOptions options) : options_(std::move(options)) {
    // Thread-safe and repeatable since libcurl 7.84.
    curl_global_init(CURL_GLOBAL_DEFAULT);
    easy_.reset(curl_easy_init());
  }

  absl::Status Do(const HttpRequest& request,
                  const HttpHandler& handler) override {
    if (easy_ == nullptr) return absl::ResourceExhaustedError("no memory");
    CURL* const easy = easy_.get();
    // Keeps the connections.
    curl_easy_reset(easy);
    char details[CURL_ERROR_SIZE] = "";
    Exchange exchange(handler);
    // No compression: offsets and digests are of the file's own bytes.
    curl_slist* list = curl_slist_append(nullptr, "Accept-Encoding: identity");
    const std::string authorization =
        absl::StrCat("Authorization: Bearer ", request.token);
    const std::string range = absl::StrCat(request.offset, "-");
    if (!request.token.empty()) {
      list = curl_slist_append(list, authorization.c_str());
    }
    const std::unique_ptr<curl_slist, FreeList> headers(list);
    curl_easy_setopt(easy, CURLOPT_URL, request.url.c_str());
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NOBODY, request.head ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers.get());
    if (request.offset > 0) {
      curl_easy_setopt(easy, CURLOPT_RANGE, range.c_str());
    }
    curl_easy_setopt(easy, CURLOPT_USERAGENT, options_.user_agent.c_str());
    if (!options_.ca_file.empty()) {
      curl_easy_setopt(easy, CURLOPT_CAINFO, options_.ca_file.c_str());
    }
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, kStallBytesPerSecond);
    curl_easy_setopt(
        easy, CURLOPT_LOW_SPEED_TIME,
        static_cast<long>(absl::ToInt64Seconds(options_.stall_timeout)));
    // No signals: other threads run.
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 256L << 10);
    // What a proxy answers to CONNECT is not the hub's.
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, details);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &Exchange::OnHeader);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, &exchange);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Exchange::OnBody);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &exchange);
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, &Exchange::OnProgress);
    curl_easy_setopt(easy, CURLOPT_XFERINFODATA, &exchange);
    const CURLcode code = curl_easy_perform(easy);
    // Neither the token nor what is on the stack outlives the exchange.
    curl_easy_reset(easy);
    if (!exchange.status().ok()) return exchange.status();
    if (code != CURLE_OK) return StatusOf(code, details);
    return exchange.Finish();
  }

 private:
  const CurlOptions options_;
  std::unique_ptr<CURL, FreeEasy> easy_;
};

}  // namespace

const std::string& HttpHead::Get(const std::string& name) const {
  static const std::string* const kNone = new std::string();
  const auto found = headers.find(name);
  return found == headers.end() ? *kNone : found->second;
}

std::unique_ptr<Http> NewCurlHttp(const CurlOptions& options) {
  return std::make_unique<CurlHttp>(options);
}

}  // namespace pot
