#include "client/session.h"

#include <cstddef>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/model_ref.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "google/protobuf/message.h"
#include "google/protobuf/util/json_util.h"
#include "grpcpp/grpcpp.h"
#include "pot/v1/model.grpc.pb.h"

namespace pot {
namespace {

// More than any server takes in one call.
constexpr size_t kMaxTextBytes = 16 << 20;

}  // namespace

Session::Session(CommonFlags flags, Console* console, Interrupter* interrupter,
                 std::function<absl::Time()> now, bool utf8_locale)
    : flags_(std::move(flags)),
      console_(console),
      interrupter_(interrupter),
      now_(std::move(now)),
      utf8_locale_(utf8_locale) {}

absl::Status Session::LoadSecurity() {
  POT_ASSIGN_OR_RETURN(security_,
                       LoadChannelSecurity(flags_.security, flags_.server));
  return absl::OkStatus();
}

Connection& Session::connection() {
  if (connection_ == nullptr) {
    connection_ = std::make_unique<Connection>(flags_.server, flags_.timeout,
                                               interrupter_, security_);
  }
  return *connection_;
}

absl::StatusOr<v1::ModelRef> ResolveModel(Session* session,
                                          absl::string_view flag) {
  if (!flag.empty()) return ParseModelRef(flag);
  Call call(session->connection());
  v1::ListModelsResponse response;
  POT_RETURN_IF_ERROR(call.ToStatus(
      v1::ModelService::NewStub(session->connection().channel())
          ->ListModels(call.context(), v1::ListModelsRequest(), &response)));
  std::set<std::string> names;
  for (const v1::ModelVersion& version : response.versions()) {
    names.insert(version.name());
  }
  if (names.empty()) {
    return absl::NotFoundError(absl::StrCat(
        "the server ", session->connection().server(), " has no model"));
  }
  if (names.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("name a model with --model or POT_MODEL; the server has ",
                     absl::StrJoin(names, ", ")));
  }
  v1::ModelRef model;
  model.set_name(*names.begin());
  return model;
}

absl::StatusOr<std::string> TextArgument(Session* session,
                                         const std::string* text,
                                         absl::string_view what) {
  if (text != nullptr && *text != "-") return *text;
  Console& console = session->console();
  if (text == nullptr && console.in_is_terminal()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "no ", what, ": give it as an argument, or '-' to type it"));
  }
  POT_ASSIGN_OR_RETURN(std::string read, console.ReadAll(kMaxTextBytes));
  const size_t invalid = FindInvalidUtf8(read);
  if (invalid != read.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("standard input is not UTF-8 from byte ", invalid, " on"));
  }
  return read;
}

std::string ToJson(const google::protobuf::Message& message, bool indented) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  options.add_whitespace = indented;
  std::string json;
  // Fails only for an Any of unknown type, and no answer holds any.
  (void)google::protobuf::util::MessageToJsonString(message, &json, options);
  if (json.empty() || json.back() != '\n') json += '\n';
  return json;
}

absl::Status WriteJson(Session* session,
                       const google::protobuf::Message& message) {
  return session->console().Write(
      ToJson(message, session->flags().output == OutputFormat::kJson));
}

}  // namespace pot
