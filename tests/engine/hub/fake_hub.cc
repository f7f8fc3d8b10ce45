#include "tests/engine/hub/fake_hub.h"

#include <openssl/sha.h>

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"

namespace pot {
namespace {

absl::Status Answer(const HttpHandler& handler, int status,
                    std::map<std::string, std::string> headers,
                    absl::string_view body) {
  const absl::Status head = handler.on_head({status, std::move(headers)});
  if (!head.ok()) return head;
  return body.empty() ? absl::OkStatus() : handler.on_body(body);
}

}  // namespace

std::string FakeDigest(const std::string& content, bool large) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  size_t length = SHA256_DIGEST_LENGTH;
  if (large) {
    SHA256(reinterpret_cast<const unsigned char*>(content.data()),
           content.size(), digest);
  } else {
    std::string blob = absl::StrCat("blob ", content.size());
    blob += '\0';
    blob += content;
    SHA1(reinterpret_cast<const unsigned char*>(blob.data()), blob.size(),
         digest);
    length = SHA_DIGEST_LENGTH;
  }
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest), length));
}

std::vector<HttpRequest> FakeHub::Gets(const std::string& file) const {
  std::vector<HttpRequest> gets;
  for (const HttpRequest& request : requests) {
    if (!request.head && absl::StrContains(request.url, file)) {
      gets.push_back(request);
    }
  }
  return gets;
}

absl::Status FakeHub::Do(const HttpRequest& request,
                         const HttpHandler& handler) {
  requests.push_back(request);
  absl::string_view url = request.url;
  std::string name;
  std::string body;
  std::map<std::string, std::string> headers;
  const bool cdn = absl::ConsumePrefix(&url, kFakeCdnUrl);
  if (absl::ConsumePrefix(&url, kFakeHubUrl) &&
      absl::StartsWith(url, "/api/models/owner/tiny/revision/")) {
    nlohmann::json description = {{"sha", kFakeCommit},
                                  {"lastModified", "2024-02-19T10:57:45.000Z"},
                                  {"siblings", nlohmann::json::array()}};
    for (const auto& [file, content] : files) {
      description["siblings"].push_back({{"rfilename", file}});
    }
    body = description.dump();
  } else {
    const std::string prefix =
        cdn ? "/" : absl::StrCat("/owner/tiny/resolve/", kFakeCommit, "/");
    if (!absl::ConsumePrefix(&url, prefix)) {
      return Answer(handler, 404, {{"x-error-code", "RepoNotFound"}}, "");
    }
    name = std::string(url.substr(0, url.find('?')));
    if (files.count(name) == 0) {
      return Answer(handler, 404, {{"x-error-code", "EntryNotFound"}}, "");
    }
    body = files[name];
    headers["x-repo-commit"] = kFakeCommit;
    const std::string etag =
        absl::StrCat("\"", FakeDigest(body, large.count(name) != 0), "\"");
    if (large.count(name) != 0 && !cdn) {
      headers["x-linked-etag"] = etag;
      headers["x-linked-size"] = absl::StrCat(body.size());
      headers["location"] =
          absl::StrCat(kFakeCdnUrl, "/", name, "?signature=secret");
      return Answer(handler, 302, headers, "redirected");
    }
    headers["etag"] = cdn ? "\"of-the-cdn\"" : etag;
  }
  Fault fault;
  if (!request.head && !faults[name].empty()) {
    fault = faults[name].front();
    faults[name].pop_front();
  }
  if (fault.refuse_connection) return absl::UnavailableError("refused");
  if (fault.status != 0) {
    return Answer(handler, fault.status, fault.headers, fault.body);
  }
  if (!fault.body.empty()) body = fault.body;
  int status = 200;
  if (request.offset > 0) {
    if (request.offset >= static_cast<int64_t>(body.size())) {
      return Answer(handler, 416, {}, "");
    }
    headers["content-range"] = absl::StrCat("bytes ", request.offset, "-",
                                            body.size() - 1, "/", body.size());
    body = body.substr(static_cast<size_t>(request.offset));
    status = 206;
  }
  headers["content-length"] = absl::StrCat(body.size());
  for (const auto& [key, value] : fault.headers) headers[key] = value;
  if (request.head) return Answer(handler, status, headers, "");
  if (fault.cut_after < 0) return Answer(handler, status, headers, body);
  const absl::Status begun =
      Answer(handler, status, headers,
             body.substr(0, static_cast<size_t>(fault.cut_after)));
  return begun.ok() ? absl::UnavailableError("cut") : begun;
}

}  // namespace pot
