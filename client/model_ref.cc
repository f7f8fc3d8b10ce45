#include "client/model_ref.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/text_format.h"
#include "engine/base/characters.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

constexpr size_t kMaxNameBytes = 64;

}  // namespace

absl::Status CheckName(absl::string_view what, absl::string_view name) {
  if (IsName(name, kMaxNameBytes)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      what, " ", Quoted(name), " is not 1-", kMaxNameBytes,
      " characters of [A-Za-z0-9._-] beginning with a letter or digit"));
}

absl::StatusOr<v1::ModelRef> ParseModelRef(absl::string_view text) {
  v1::ModelRef model;
  const size_t at = text.find('@');
  const absl::string_view name = text.substr(0, at);
  POT_RETURN_IF_ERROR(CheckName("model name", name));
  model.set_name(std::string(name));
  if (at == absl::string_view::npos) return model;
  absl::string_view selector = text.substr(at + 1);
  if (absl::ConsumePrefix(&selector, "sha256:")) {
    if (!IsSha256Hex(selector)) {
      return absl::InvalidArgumentError(
          absl::StrCat("digest ", Quoted(selector), " in model ", Quoted(text),
                       " is not 64 lower-case hexadecimal digits"));
    }
    model.set_digest(std::string(selector));
    return model;
  }
  if (!selector.empty() &&
      std::all_of(selector.begin(), selector.end(), absl::ascii_isdigit)) {
    int64_t version = 0;
    if (!absl::SimpleAtoi(selector, &version) || version < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("version ", selector, " in model ", Quoted(text),
                       " is not in [1, 9223372036854775807]"));
    }
    model.set_version(version);
    return model;
  }
  POT_RETURN_IF_ERROR(CheckName("alias", selector));
  model.set_alias(std::string(selector));
  return model;
}

std::string FormatModelRef(const v1::ModelRef& model) {
  switch (model.selector_case()) {
    case v1::ModelRef::kVersion:
      return absl::StrCat(model.name(), "@", model.version());
    case v1::ModelRef::kAlias:
      return absl::StrCat(model.name(), "@", model.alias());
    case v1::ModelRef::kDigest:
      return absl::StrCat(model.name(), "@sha256:", model.digest());
    default:
      return model.name();
  }
}

}  // namespace pot
