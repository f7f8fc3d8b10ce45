#include <memory>
#include <string>

#include "client/commands.h"
#include "client/completion.h"

namespace pot {

void AddCompletionCommand(const Command& app, CommandFunction* selected) {
  auto shell = std::make_shared<std::string>();
  const Command command =
      app.AddCommand("completion", "Write a completion script for a shell");
  command.AddFlag("shell", shell.get(), "The shell")
      .Required()
      .OneOf({"bash", "zsh", "fish"});
  command.OnSelected([app, shell, selected] {
    *selected = [app, shell](Session* session) {
      const CompletionNode program = DescribeCommands(app);
      return session->console().Write(*shell == "bash" ? BashCompletion(program)
                                      : *shell == "zsh"
                                          ? ZshCompletion(program)
                                          : FishCompletion(program));
    };
  });
}

}  // namespace pot
