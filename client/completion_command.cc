#include <memory>
#include <string>

#include "client/commands.h"
#include "client/completion.h"

namespace pot {

void AddCompletionCommand(CLI::App* app, CommandFunction* selected) {
  auto shell = std::make_shared<std::string>();
  CLI::App* const command = app->add_subcommand(
      "completion", "Write a completion script for a shell");
  command->add_option("shell", *shell, "The shell")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->callback([app, shell, selected] {
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
