#include "engine/base/json.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/base/quote.h"
#include "engine/base/utf8.h"
#include "nlohmann/json.hpp"

namespace pot {
namespace {

using nlohmann::json;

// The library's message quotes what it last read: any length, any bytes.
constexpr size_t kMaxErrorBytes = 200;

// Builds the document from the parser's events. Each handler's false stops the
// parse; error() then says why.
class DocumentBuilder : public nlohmann::json_sax<json> {
 public:
  const std::string& error() const { return error_; }
  json TakeDocument() { return std::move(document_); }

  bool null() override { return Add(nullptr) != nullptr; }
  bool boolean(bool value) override { return Add(value) != nullptr; }
  bool number_integer(number_integer_t value) override {
    return Add(value) != nullptr;
  }
  bool number_unsigned(number_unsigned_t value) override {
    return Add(value) != nullptr;
  }
  bool number_float(number_float_t value, const string_t&) override {
    return Add(value) != nullptr;
  }
  bool string(string_t& value) override {
    return Add(std::move(value)) != nullptr;
  }
  bool binary(binary_t&) override { return Fail("binary value"); }
  bool start_object(size_t) override { return Open(json::object()); }
  bool start_array(size_t) override { return Open(json::array()); }
  bool end_object() override { return CloseInnermost(); }
  bool end_array() override { return CloseInnermost(); }

  bool key(string_t& name) override {
    const auto [member, added] = open_.back()->emplace(name, nullptr);
    if (!added) {
      return Fail(
          absl::StrCat("duplicate key ", Quote(name), " in one object"));
    }
    member_ = &*member;
    return true;
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& exception) override {
    return Fail(absl::StrCat("not JSON at byte ", position, ": ",
                             Printable(exception.what())));
  }

 private:
  static std::string Printable(absl::string_view text) {
    std::string result(text.substr(0, kMaxErrorBytes));
    for (char& c : result) {
      if (!absl::ascii_isprint(static_cast<unsigned char>(c))) c = '?';
    }
    if (text.size() > kMaxErrorBytes) result += "...";
    return result;
  }

  bool Fail(std::string error) {
    error_ = std::move(error);
    return false;
  }

  // Puts `value` where the document stands and returns its address. Containers
  // never move while open: their parent gets its next value only after.
  json* Add(json value) {
    if (open_.empty()) {
      document_ = std::move(value);
      return &document_;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    *member_ = std::move(value);
    return member_;
  }

  bool Open(json container) {
    if (open_.size() == kMaxJsonDepth) {
      return Fail(
          absl::StrCat("nesting deeper than the limit of ", kMaxJsonDepth));
    }
    open_.push_back(Add(std::move(container)));
    return true;
  }

  bool CloseInnermost() {
    open_.pop_back();
    return true;
  }

  json document_;
  std::vector<json*> open_;  // the containers we are in, outermost first
  json* member_ = nullptr;   // of the innermost object, awaiting its value
  std::string error_;
};

}  // namespace

absl::StatusOr<json> ParseJson(absl::string_view text, absl::string_view what) {
  const size_t invalid = FindInvalidUtf8(text);
  if (invalid != text.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": invalid UTF-8 at byte ", invalid));
  }
  // The library takes a NUL for the end of the text.
  const size_t nul = text.find('\0');
  if (nul != absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": NUL at byte ", nul));
  }
  DocumentBuilder builder;
  try {
    if (json::sax_parse(text.begin(), text.end(), &builder)) {
      return builder.TakeDocument();
    }
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat(what, ": ", e.what()));
  }
  return absl::InvalidArgumentError(absl::StrCat(what, ": ", builder.error()));
}

std::string ShowJson(const json& value) {
  constexpr size_t kMaxShown = 60;
  std::string text = value.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/true,
                                json::error_handler_t::replace);
  if (text.size() > kMaxShown) text.replace(kMaxShown, std::string::npos, "..");
  return text;
}

}  // namespace pot
