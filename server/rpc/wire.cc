#include "server/rpc/wire.h"

#include <cstdint>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/utf8.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/stubs/logging.h"
#include "google/protobuf/unknown_field_set.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

using ::google::protobuf::Descriptor;
using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::UnknownField;
using ::google::protobuf::UnknownFieldSet;

constexpr int kMaxDepth = 32;

struct WrongString {
  std::string path;
  size_t offset;
};

// Walks the wire format beside the descriptor, in the order of the bytes, to
// the first string field that is not UTF-8.
std::optional<WrongString> FindWrongString(const std::string& bytes,
                                           const Descriptor& descriptor,
                                           const std::string& prefix,
                                           int depth) {
  UnknownFieldSet fields;
  if (depth > kMaxDepth || !fields.ParseFromString(bytes)) return std::nullopt;
  std::map<int, int> seen;
  for (int i = 0; i < fields.field_count(); ++i) {
    const UnknownField& field = fields.field(i);
    const FieldDescriptor* known = descriptor.FindFieldByNumber(field.number());
    if (known == nullptr ||
        field.type() != UnknownField::TYPE_LENGTH_DELIMITED) {
      continue;
    }
    std::string path = absl::StrCat(prefix, known->name());
    if (known->is_repeated()) {
      absl::StrAppend(&path, "[", seen[field.number()]++, "]");
    }
    const std::string& value = field.length_delimited();
    if (known->type() == FieldDescriptor::TYPE_STRING) {
      const size_t offset = FindInvalidUtf8(value);
      if (offset != value.size()) return WrongString{path, offset};
    } else if (known->type() == FieldDescriptor::TYPE_MESSAGE) {
      std::optional<WrongString> wrong = FindWrongString(
          value, *known->message_type(), absl::StrCat(path, "."), depth + 1);
      if (wrong.has_value()) return wrong;
    }
  }
  return std::nullopt;
}

absl::Status ParseError(const std::string& bytes,
                        const Descriptor& descriptor) {
  const std::optional<WrongString> wrong =
      FindWrongString(bytes, descriptor, "", 0);
  ErrorDetails details;
  if (!wrong.has_value()) {
    details.reason = "MALFORMED_MESSAGE";
    return WithDetails(absl::InvalidArgumentError(absl::StrCat(
                           "the ", bytes.size(), " bytes received are no ",
                           descriptor.full_name())),
                       details);
  }
  details.reason = "INVALID_UTF8";
  details.field = wrong->path;
  details.metadata["value"] = absl::StrCat(wrong->offset);
  return WithDetails(absl::InvalidArgumentError(absl::StrCat(
                         wrong->path, " is not UTF-8: byte ", wrong->offset,
                         " begins no valid sequence")),
                     details);
}

void LogButUtf8(google::protobuf::LogLevel, const char* file, int line,
                const std::string& message) {
  if (message.find("invalid UTF-8") != std::string::npos) return;
  std::fprintf(stderr, "protobuf %s:%d: %s\n", file, line, message.c_str());
}

}  // namespace

absl::Status ParseMessage(absl::string_view bytes,
                          google::protobuf::Message* message) {
  const std::string copy(bytes);
  if (message->ParseFromString(copy)) return absl::OkStatus();
  return ParseError(copy, *message->GetDescriptor());
}

absl::Status ParseMessage(const grpc::ByteBuffer& bytes,
                          google::protobuf::Message* message) {
  // Deserializing empties the buffer; a copy only counts references.
  grpc::ByteBuffer readable = bytes;
  if (grpc::GenericDeserialize<grpc::ProtoBufferReader,
                               google::protobuf::Message>(&readable, message)
          .ok()) {
    return absl::OkStatus();
  }
  std::vector<grpc::Slice> slices;
  std::string flat;
  if (bytes.Dump(&slices).ok()) {
    for (const grpc::Slice& slice : slices) {
      flat.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
  }
  return ParseError(flat, *message->GetDescriptor());
}

absl::Status SerializeMessage(const google::protobuf::Message& message,
                              grpc::ByteBuffer* bytes) {
  bool own_buffer = false;
  const grpc::Status status = grpc::GenericSerialize<grpc::ProtoBufferWriter,
                                                     google::protobuf::Message>(
      message, bytes, &own_buffer);
  if (status.ok()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cannot serialize an answer of ",
                                          message.ByteSizeLong(),
                                          " bytes: ", status.error_message()));
}

void SilenceProtobufUtf8Errors() {
  google::protobuf::SetLogHandler(&LogButUtf8);
}

}  // namespace pot
