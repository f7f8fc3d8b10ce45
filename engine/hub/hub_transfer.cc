#include "engine/hub/hub_transfer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

constexpr int kMaxRedirects = 10;
constexpr int kMaxFailures = 5;
constexpr absl::Duration kFirstWait = absl::Milliseconds(250);
constexpr absl::Duration kLongestWait = absl::Seconds(60);
// Failures are counted anew once so much has come: a long download over a bad
// line ends, a server that sends a byte a time does not keep us.
constexpr int64_t kProgressBytes = 1 << 20;

constexpr char kRateLimited[] = " takes no more requests for now (429)";

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 ||
         status == 308;
}

// Ends an exchange whose body nobody wants.
absl::Status Enough() { return absl::OutOfRangeError("enough"); }

std::optional<int64_t> ReadNumber(absl::string_view text) {
  int64_t number = 0;
  if (!absl::SimpleAtoi(text, &number) || number < 0) return std::nullopt;
  return number;
}

// W/"abc" and "abc" are abc.
std::string NormalizeEtag(absl::string_view etag) {
  absl::ConsumePrefix(&etag, "W/");
  absl::ConsumePrefix(&etag, "\"");
  absl::ConsumeSuffix(&etag, "\"");
  return std::string(etag);
}

// Whether a Content-Range, "bytes FIRST-LAST/TOTAL", is what was asked for.
bool ContinuesAt(absl::string_view range, int64_t offset, int64_t size) {
  if (!absl::ConsumePrefix(&range, "bytes ")) return false;
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(range, absl::MaxSplits('/', 1));
  const absl::string_view first = parts.first.substr(0, parts.first.find('-'));
  if (ReadNumber(first) != offset) return false;
  return parts.second == "*" || ReadNumber(parts.second) == size;
}

}  // namespace

bool IsRateLimited(const absl::Status& status) {
  return absl::IsResourceExhausted(status) &&
         absl::StrContains(status.message(), kRateLimited);
}

absl::Duration ParseRetryAfter(const std::string& value, absl::Time now) {
  int64_t seconds = 0;
  if (absl::SimpleAtoi(value, &seconds)) {
    return absl::Seconds(std::clamp<int64_t>(seconds, 0, 1 << 30));
  }
  absl::Time time;
  if (absl::ParseTime("%a, %d %b %Y %H:%M:%S GMT", value, &time, nullptr)) {
    return std::max(time - now, absl::ZeroDuration());
  }
  return absl::ZeroDuration();
}

HubTransfer::HubTransfer(const HubSettings& settings, const Url& endpoint,
                         const HubId& id, Http* http,
                         const TransferHooks& hooks)
    : settings_(settings),
      endpoint_(endpoint),
      id_(id),
      http_(http),
      hooks_(hooks) {}

absl::Status HubTransfer::Sleep(absl::Duration duration) {
  if (hooks_.sleep != nullptr) {
    hooks_.sleep(duration);
    return absl::OkStatus();
  }
  const absl::Time end = absl::Now() + duration;
  while (absl::Now() < end) {
    if (hooks_.go_on != nullptr && !hooks_.go_on()) {
      return absl::CancelledError("the download was cancelled");
    }
    absl::SleepFor(std::min(absl::Milliseconds(100), end - absl::Now()));
  }
  return absl::OkStatus();
}

HubTransfer::Attempt HubTransfer::Refused(const HttpHead& head,
                                          absl::string_view what) const {
  const std::string repo = Quote(id_.repo);
  const std::string& hub = settings_.endpoint;
  const std::string& code = head.Get("x-error-code");
  const absl::string_view token_hint =
      settings_.token.empty() ? "set HF_TOKEN to a token that may read it"
                              : "the token must be one that may read it";
  switch (head.status) {
    case 401:
    case 403:
      if (code == "GatedRepo") {
        return {absl::PermissionDeniedError(absl::StrCat(
            repo, " is gated: accept its terms at ", settings_.endpoint, "/",
            id_.repo, ", and ",
            settings_.token.empty() ? "set HF_TOKEN to a token of that account"
                                    : "use a token of that account"))};
      }
      if (code == "RepoNotFound") {
        return {absl::NotFoundError(
            absl::StrCat(hub, " has no model ", repo,
                         ", or it is private: check the name; ", token_hint))};
      }
      if (head.status == 403) {
        return {absl::PermissionDeniedError(absl::StrCat(
            hub, " does not let ",
            settings_.token.empty() ? "those without a token" : "this token",
            " read ", repo, "; ", token_hint))};
      }
      return {absl::UnauthenticatedError(
          settings_.token.empty()
              ? absl::StrCat(hub, " wants a token for ", repo, "; ", token_hint)
              : absl::StrCat(hub,
                             " refuses the token that HF_TOKEN or the file "
                             "named by HF_TOKEN_PATH holds"))};
    case 404: {
      const std::string revision =
          absl::StrCat(repo, " has no revision ", Quote(id_.revision));
      if (code == "RevisionNotFound") return {absl::NotFoundError(revision)};
      if (what.empty() || code == "RepoNotFound") {
        return {absl::NotFoundError(
            absl::StrCat(hub, " has no model ", repo, " with a revision ",
                         Quote(id_.revision), ": check both"))};
      }
      return {absl::NotFoundError(absl::StrCat(repo, " has no file ",
                                               Quote(what), " at revision ",
                                               Quote(id_.revision)))};
    }
    case 416:
      return {absl::UnavailableError("the range was refused"), true, true};
    case 429:
      return {absl::ResourceExhaustedError(absl::StrCat(
                  hub, kRateLimited,
                  settings_.token.empty()
                      ? "; with a token in HF_TOKEN it may take more"
                      : "")),
              true, false,
              ParseRetryAfter(head.Get("retry-after"), absl::Now())};
    default:
      if (head.status >= 500 || head.status == 408) {
        return {absl::UnavailableError(
                    absl::StrCat(hub, " answered ", head.status)),
                true, false,
                ParseRetryAfter(head.Get("retry-after"), absl::Now())};
      }
      return {absl::FailedPreconditionError(
          absl::StrCat(hub, " answered ", head.status,
                       " where a hub of models would not: check HF_ENDPOINT "
                       "and the proxy"))};
  }
}

HubTransfer::Attempt HubTransfer::Once(const Exchange& exchange,
                                       absl::string_view what) {
  absl::StatusOr<Url> at = ParseUrl(exchange.request.url);
  for (int hop = 0;; ++hop) {
    if (!at.ok()) return {at.status()};
    const absl::Status allowed = CheckHubUrl(settings_, endpoint_, *at);
    if (!allowed.ok()) {
      return {absl::Status(allowed.code(),
                           hop == 0
                               ? std::string(allowed.message())
                               : absl::StrCat("a redirect leads elsewhere: ",
                                              allowed.message()))};
    }
    if (hop > kMaxRedirects) {
      return {absl::FailedPreconditionError(
          absl::StrCat(settings_.endpoint, " redirects more than ",
                       kMaxRedirects, " times: check HF_ENDPOINT"))};
    }
    const bool home = at->SameOrigin(endpoint_);
    HttpRequest request = exchange.request;
    request.url = at->text;
    if (home) request.token = settings_.token;
    HttpHead head;
    HttpHandler handler;
    handler.on_head = [&](const HttpHead& got) -> absl::Status {
      head = got;
      return head.status / 100 == 2 ? exchange.on_answer(head) : Enough();
    };
    handler.on_body = exchange.on_body;
    handler.go_on = hooks_.go_on;
    const absl::Status status = http_->Do(request, handler);
    if (head.status == 0) {
      const absl::Status named(status.code(),
                               absl::StrCat(at->host, ": ", status.message()));
      return {status.ok() ? absl::UnavailableError("no answer") : named,
              status.ok() || absl::IsUnavailable(status)};
    }
    if (home && exchange.on_hop != nullptr) exchange.on_hop(head);
    if (head.status / 100 == 2) {
      return {status, absl::IsUnavailable(status)};
    }
    if (!IsRedirect(head.status) || head.Get("location").empty()) {
      return Refused(head, what);
    }
    at = ResolveUrl(*at, head.Get("location"));
    if (exchange.within_origin && at.ok() && !at->SameOrigin(endpoint_)) {
      return {};
    }
  }
}

absl::Status HubTransfer::Retry(absl::string_view what,
                                const std::function<int64_t()>& progress,
                                const std::function<Attempt()>& attempt) {
  int failures = 0;
  int64_t mark = progress();
  absl::Duration wait = kFirstWait;
  while (true) {
    const Attempt result = attempt();
    if (result.status.ok()) return absl::OkStatus();
    // Some messages name the model themselves.
    std::string name;
    if (!absl::StrContains(result.status.message(), Quote(id_.repo))) {
      name = absl::StrCat(Quote(id_.repo), what.empty() ? "" : ", ",
                          what.empty() ? "" : Quote(what), ": ");
    }
    const auto failed = [&](const auto&... more) {
      return absl::Status(result.status.code(),
                          absl::StrCat(name, result.status.message(), more...));
    };
    if (absl::IsCancelled(result.status)) return result.status;
    if (!result.again) return failed();
    if (progress() - mark >= kProgressBytes) {
      mark = progress();
      failures = 0;
      wait = kFirstWait;
    }
    if (++failures >= kMaxFailures) {
      return failed("; gave up after ", failures, " attempts",
                    progress() > 0 ? ", but what came is kept: the same "
                                     "command goes on from there"
                                   : "");
    }
    if (result.after > kLongestWait) {
      return failed("; it asks to wait ", absl::FormatDuration(result.after),
                    ": try again then");
    }
    const absl::Duration pause = std::max(wait, result.after);
    if (hooks_.note != nullptr) {
      hooks_.note(std::string(
          failed("; again in ", absl::FormatDuration(pause)).message()));
    }
    POT_RETURN_IF_ERROR(Sleep(pause));
    wait = std::min(2 * wait, kLongestWait);
  }
}

absl::StatusOr<std::string> HubTransfer::ReadText(const std::string& url,
                                                  absl::string_view what,
                                                  size_t max_bytes) {
  std::string text;
  Exchange exchange;
  exchange.request.url = url;
  exchange.on_answer = [](const HttpHead&) { return absl::OkStatus(); };
  exchange.on_body = [&](absl::string_view bytes) -> absl::Status {
    if (bytes.size() > max_bytes - text.size()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the hub's answer exceeds the limit of ", max_bytes, " bytes"));
    }
    text.append(bytes.data(), bytes.size());
    return absl::OkStatus();
  };
  POT_RETURN_IF_ERROR(Retry(
      what, [] { return int64_t{0}; },
      [&] {
        text.clear();
        return Once(exchange, what);
      }));
  return text;
}

absl::StatusOr<HubFileInfo> HubTransfer::Inspect(const std::string& url,
                                                 absl::string_view what) {
  HubFileInfo info;
  Exchange exchange;
  exchange.request.url = url;
  exchange.request.head = true;
  exchange.within_origin = true;
  exchange.on_hop = [&info](const HttpHead& head) {
    const std::string& linked = head.Get("x-linked-etag");
    if (!linked.empty()) {
      info.etag = NormalizeEtag(linked);
    } else if (head.status == 200 && info.etag.empty()) {
      info.etag = NormalizeEtag(head.Get("etag"));
    }
    const std::optional<int64_t> size = ReadNumber(head.Get("x-linked-size"));
    if (size.has_value()) {
      info.size = *size;
    } else if (head.status == 200 && info.size < 0) {
      info.size = ReadNumber(head.Get("content-length")).value_or(-1);
    }
    if (!head.Get("x-repo-commit").empty()) {
      info.commit = head.Get("x-repo-commit");
    }
  };
  exchange.on_answer = [](const HttpHead&) { return absl::OkStatus(); };
  exchange.on_body = [](absl::string_view) { return absl::OkStatus(); };
  POT_RETURN_IF_ERROR(Retry(
      what, [] { return int64_t{0}; },
      [&] {
        info = {};
        return Once(exchange, what);
      }));
  return info;
}

absl::Status HubTransfer::Fetch(const std::string& url, absl::string_view what,
                                int64_t size, PartialFile* file) {
  const auto attempt = [&]() -> Attempt {
    if (file->size() > size) {
      const absl::Status status = file->Restart();
      if (!status.ok()) return {status};
    }
    if (file->size() == size) return {};
    const int64_t offset = file->size();
    bool misplaced = false;
    Exchange exchange;
    exchange.request.url = url;
    exchange.request.offset = offset;
    exchange.on_answer = [&](const HttpHead& head) -> absl::Status {
      int64_t left = size - offset;
      if (head.status == 206) {
        misplaced = !ContinuesAt(head.Get("content-range"), offset, size);
        if (misplaced) return Enough();
      } else if (offset > 0) {
        // The whole file instead of its rest.
        POT_RETURN_IF_ERROR(file->Restart());
        left = size;
      }
      const auto length = ReadNumber(head.Get("content-length"));
      if (length.has_value() && *length != left) {
        return absl::DataLossError(
            absl::StrCat("the answer has ", *length,
                         " bytes where the hub announced ", left));
      }
      return absl::OkStatus();
    };
    exchange.on_body = [&](absl::string_view bytes) -> absl::Status {
      if (static_cast<int64_t>(bytes.size()) > size - file->size()) {
        return absl::DataLossError(absl::StrCat("the answer goes on after the ",
                                                size, " bytes announced"));
      }
      return file->Append(bytes);
    };
    Attempt result = Once(exchange, what);
    if (result.range_refused || misplaced || absl::IsDataLoss(result.status)) {
      // What is there, or came now, belongs to something else.
      const absl::Status restarted = file->Restart();
      if (!restarted.ok()) return {restarted};
      if (misplaced) {
        result = {absl::UnavailableError("the hub sent another part of the "
                                         "file than it was asked for"),
                  true};
      }
      return result;
    }
    if (result.status.ok() && file->size() < size) {
      return {
          absl::UnavailableError(absl::StrCat(
              "the answer ended after ", file->size(), " of ", size, " bytes")),
          true};
    }
    return result;
  };
  return Retry(
      what, [file] { return file->size(); }, attempt);
}

}  // namespace pot
