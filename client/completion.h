// Completion scripts for shells, made from the tree of commands and flags.
#ifndef POT_CLIENT_COMPLETION_H_
#define POT_CLIENT_COMPLETION_H_

#include <string>
#include <vector>

#include "client/cli/command.h"

namespace pot {

struct CompletionFlag {
  std::string name;         // "top-k"
  std::string short_name;   // "m" or empty
  std::string description;  // first sentence, one line
  bool takes_value = false;
  std::vector<std::string> choices;  // empty: any value
};

struct CompletionNode {
  std::string path;         // "models import"; empty: the program
  std::string description;  // one line
  std::vector<CompletionNode> commands;
  std::vector<CompletionFlag> flags;  // the common ones only at the program
};

CompletionNode DescribeCommands(const Command& program);

// Scripts that define completion of the program `pot-client`.
std::string BashCompletion(const CompletionNode& program);
std::string ZshCompletion(const CompletionNode& program);
std::string FishCompletion(const CompletionNode& program);

}  // namespace pot

#endif  // POT_CLIENT_COMPLETION_H_
