// What a command runs with.
#ifndef POT_CLIENT_SESSION_H_
#define POT_CLIENT_SESSION_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/connection.h"
#include "client/console.h"
#include "client/exit_code.h"
#include "client/flags.h"
#include "client/interrupter.h"
#include "pot/v1/common.pb.h"

namespace google::protobuf {
class Message;
}

namespace pot {

class Session {
 public:
  Session(CommonFlags flags, Console* console, Interrupter* interrupter,
          std::function<absl::Time()> now, bool utf8_locale = false);

  const CommonFlags& flags() const { return flags_; }
  Console& console() { return *console_; }
  Interrupter& interrupter() { return *interrupter_; }
  absl::Time Now() const { return now_(); }
  // Whether the person's terminal shows more than ASCII.
  bool utf8_locale() const { return utf8_locale_; }
  // Of a command that ran without an error; kExitOk unless set.
  int exit_code() const { return exit_code_; }
  void set_exit_code(int exit_code) { exit_code_ = exit_code; }
  // Reads what --tls-.. and --token-file name; before connection().
  absl::Status LoadSecurity();
  // Made at the first use.
  Connection& connection();

  bool text_output() const { return flags_.output == OutputFormat::kText; }
  // Whether to write figures beside the data.
  bool shows_statistics() const {
    return flags_.verbose || console_->err_is_terminal();
  }

 private:
  const CommonFlags flags_;
  Console* const console_;
  Interrupter* const interrupter_;
  const std::function<absl::Time()> now_;
  const bool utf8_locale_;
  int exit_code_ = kExitOk;
  ChannelSecurity security_;
  std::unique_ptr<Connection> connection_;
};

// The model that the flag --model names, or, when it is empty, the only model
// that the server has. INVALID_ARGUMENT, listing them, when it has several;
// NOT_FOUND when it has none.
absl::StatusOr<v1::ModelRef> ResolveModel(Session* session,
                                          absl::string_view flag);

// `text`, or standard input when it is "-" or, unless that is a terminal,
// missing. INVALID_ARGUMENT when it is not UTF-8, too long or not there.
absl::StatusOr<std::string> TextArgument(Session* session,
                                         const std::string* text,
                                         absl::string_view what);

// The whole message as JSON, with the names of the .proto files: on one line
// for --output jsonl, indented otherwise.
absl::Status WriteJson(Session* session,
                       const google::protobuf::Message& message);
std::string ToJson(const google::protobuf::Message& message, bool indented);

}  // namespace pot

#endif  // POT_CLIENT_SESSION_H_
