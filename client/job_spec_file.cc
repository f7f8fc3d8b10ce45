#include "client/job_spec_file.h"

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/text_format.h"
#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/status_macros.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/util/json_util.h"
#include "nlohmann/json.hpp"

namespace pot {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using nlohmann::json;

constexpr size_t kMaxSpecBytes = 1 << 20;

const FieldDescriptor* FindField(const Descriptor& message,
                                 const std::string& name) {
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor* const field = message.field(i);
    if (field->name() == name || field->json_name() == name) return field;
  }
  return nullptr;
}

std::string FieldNames(const Descriptor& message) {
  std::vector<std::string> names;
  for (int i = 0; i < message.field_count(); ++i) {
    names.push_back(message.field(i)->name());
  }
  return absl::StrJoin(names, ", ");
}

// What JSON must hold for one value of `field`; empty when `value` does.
// Whether a number fits is left to protobuf.
std::string WrongType(const FieldDescriptor& field, const json& value) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return value.is_object() ? "" : "an object";
    case FieldDescriptor::CPPTYPE_STRING:
      return value.is_string() ? "" : "a string";
    case FieldDescriptor::CPPTYPE_BOOL:
      return value.is_boolean() ? "" : "true or false";
    case FieldDescriptor::CPPTYPE_ENUM: {
      const auto& type = *field.enum_type();
      if (value.is_string() &&
          type.FindValueByName(value.get_ref<const std::string&>()) !=
              nullptr) {
        return "";
      }
      std::vector<std::string> names;
      // The first says that nothing was said.
      for (int i = 1; i < type.value_count(); ++i) {
        names.push_back(type.value(i)->name());
      }
      return absl::StrCat("one of ", absl::StrJoin(names, ", "));
    }
    default:
      // 64-bit numbers may be strings.
      return value.is_number() || value.is_string() ? "" : "a number";
  }
}

absl::Status CheckFields(const json& object, const Descriptor& message,
                         const std::string& path, absl::string_view what) {
  for (const auto& [name, value] : object.items()) {
    const std::string inner =
        absl::StrCat(path, path.empty() ? "" : ".", Printable(name));
    const FieldDescriptor* const field = FindField(message, name);
    if (field == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(
          what, ": no field ", inner, "; ", path.empty() ? "a job" : path,
          " has ", FieldNames(message)));
    }
    if (value.is_null()) continue;
    std::vector<const json*> values = {&value};
    if (field->is_repeated()) {
      if (!value.is_array()) {
        return absl::InvalidArgumentError(absl::StrCat(
            what, ": ", inner, " must be an array, not ", ShowJson(value)));
      }
      values.clear();
      for (const json& element : value) values.push_back(&element);
    }
    for (const json* const one : values) {
      const std::string wanted = WrongType(*field, *one);
      if (!wanted.empty()) {
        return absl::InvalidArgumentError(absl::StrCat(
            what, ": ", inner, " must be ", wanted, ", not ", ShowJson(*one)));
      }
      if (field->message_type() != nullptr) {
        POT_RETURN_IF_ERROR(
            CheckFields(*one, *field->message_type(), inner, what));
      }
    }
  }
  return absl::OkStatus();
}

// "(schedule.steps): invalid value ..." as "schedule.steps: invalid value ..",
// on one line.
std::string CleanError(absl::string_view error) {
  std::string text(error.substr(0, error.find('\n')));
  if (absl::StartsWith(text, "(")) {
    const size_t end = text.find(')');
    if (end != std::string::npos) text.erase(end, 1);
    text.erase(0, 1);
  }
  // The type's name in the implementation of protobuf.
  const size_t type = text.find(" for type TYPE_");
  if (type != std::string::npos) {
    text = absl::StrCat(text.substr(0, type), " for ",
                        absl::AsciiStrToLower(
                            text.substr(type + sizeof(" for type TYPE_") - 1)));
  }
  return Printable(text);
}

}  // namespace

absl::StatusOr<v1::QatJobSpec> ParseJobSpec(absl::string_view json_text,
                                            absl::string_view what) {
  POT_ASSIGN_OR_RETURN(const json document, ParseJson(json_text, what));
  if (!document.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": a job is an object, not ", ShowJson(document)));
  }
  POT_RETURN_IF_ERROR(
      CheckFields(document, *v1::QatJobSpec::descriptor(), "", what));
  v1::QatJobSpec spec;
  const auto status = google::protobuf::util::JsonStringToMessage(
      std::string(json_text), &spec);
  if (!status.ok()) {
    const auto message = status.message();
    return absl::InvalidArgumentError(absl::StrCat(
        what, ": ",
        CleanError(absl::string_view(message.data(), message.size()))));
  }
  return spec;
}

absl::StatusOr<v1::QatJobSpec> ReadJobSpec(const std::string& path) {
  const std::string what = Printable(path);
  absl::StatusOr<std::string> text = ReadFile(path, kMaxSpecBytes);
  if (!text.ok()) {
    return absl::Status(text.status().code(),
                        absl::StrCat("--config: ", text.status().message()));
  }
  absl::StatusOr<v1::QatJobSpec> spec = ParseJobSpec(*text, what);
  // Before the command, --config is another file.
  if (!spec.ok() &&
      !absl::StartsWith(absl::StripLeadingAsciiWhitespace(*text), "{")) {
    return absl::InvalidArgumentError(absl::StrCat(
        what,
        ": a job is a JSON object; values for flags are read from the file of "
        "--config before the command: pot-client --config ",
        what, " submit-qat"));
  }
  return spec;
}

}  // namespace pot
