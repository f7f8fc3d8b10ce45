#ifndef POT_CLIENT_REPL_H_
#define POT_CLIENT_REPL_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cli/command.h"
#include "client/session.h"
#include "pot/v1/inference.pb.h"

namespace pot {

// A conversation with a model that continues text: each line is appended to
// the transcript, and so is what the model writes. Lines that begin with '/'
// are commands.
class Repl {
 public:
  // `request` holds the settings and the model; its prompt is not used.
  Repl(Session* session, const v1::GenerateRequest& request);
  ~Repl();

  // Until /quit or the end of the input. Errors of single lines are shown and
  // do not end it.
  absl::Status Run();

 private:
  absl::StatusOr<bool> HandleCommand(absl::string_view line);
  absl::Status Set(absl::string_view arguments);
  absl::Status SelectModel(absl::string_view name);
  absl::Status Generate(absl::string_view line);
  void Say(absl::string_view text);
  void Report(const absl::Status& status);
  // Forgets the oldest text beyond what any context could hold.
  void TrimTranscript();

  Session* const session_;
  v1::GenerateRequest request_;
  // The sampling flags of `generate`, for /set.
  std::unique_ptr<CLI::App> settings_;
  std::string transcript_;
  // Of the selected model; bounds the transcript.
  int context_length_ = 1024;
};

}  // namespace pot

#endif  // POT_CLIENT_REPL_H_
