#include <memory>
#include <string>

#include "client/commands.h"
#include "client/generation_flags.h"
#include "client/repl.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

struct Flags {
  std::string model;
  v1::GenerateRequest request;
};

absl::Status RunRepl(Session* session, Flags flags) {
  POT_ASSIGN_OR_RETURN(*flags.request.mutable_model(),
                       ResolveModel(session, flags.model));
  return Repl(session, flags.request).Run();
}

}  // namespace

void AddReplCommand(const Command& app, CommandFunction* selected) {
  auto flags = std::make_shared<Flags>();
  const Command command =
      app.AddCommand("repl", "Write a text together with a model");
  AddModelFlag(command, &flags->model);
  AddSamplingFlags(command, &flags->request);
  command.OnSelected([flags, selected] {
    *selected = [flags](Session* session) { return RunRepl(session, *flags); };
  });
}

}  // namespace pot
