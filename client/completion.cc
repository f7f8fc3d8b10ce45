#include "client/completion.h"

#include <algorithm>

#include "CLI/CLI.hpp"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace pot {
namespace {

// IsMember's description is "{a,b,c}", within the type's name.
std::vector<std::string> ChoicesOf(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t begin = type.find('{');
  const size_t end = type.find('}');
  if (begin == std::string::npos || end == std::string::npos) return {};
  return absl::StrSplit(type.substr(begin + 1, end - begin - 1), ',');
}

CompletionNode Describe(CLI::App* app, const std::string& path) {
  CompletionNode node;
  node.path = path;
  node.description = app->get_description();
  for (const CLI::Option* option : app->get_options()) {
    if (option->get_lnames().empty()) continue;
    CompletionFlag flag;
    flag.name = option->get_lnames()[0];
    if (!option->get_snames().empty()) {
      flag.short_name = option->get_snames()[0];
    }
    flag.description = option->get_description();
    flag.takes_value = option->get_expected_min() > 0;
    flag.choices = ChoicesOf(*option);
    node.flags.push_back(flag);
  }
  for (CLI::App* command :
       app->get_subcommands([](const CLI::App*) { return true; })) {
    node.commands.push_back(Describe(
        command,
        absl::StrCat(path, path.empty() ? "" : " ", command->get_name())));
  }
  return node;
}

std::string LastWord(const std::string& path) {
  return path.substr(path.rfind(' ') + 1);
}

void CollectNodes(const CompletionNode& node,
                  std::vector<const CompletionNode*>* nodes) {
  nodes->push_back(&node);
  for (const CompletionNode& command : node.commands) {
    CollectNodes(command, nodes);
  }
}

std::vector<const CompletionNode*> AllNodes(const CompletionNode& program) {
  std::vector<const CompletionNode*> nodes;
  CollectNodes(program, &nodes);
  return nodes;
}

// 'text' for any POSIX-like shell.
std::string SingleQuoted(absl::string_view text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

// fish escapes within single quotes by a backslash.
std::string FishQuoted(absl::string_view text) {
  return absl::StrCat(
      "'", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"'", "\\'"}}), "'");
}

// Patterns of a `case` over "PATH WORD" that lead from a command to one below.
std::string Transitions(const std::vector<const CompletionNode*>& nodes) {
  std::vector<std::string> patterns;
  for (const CompletionNode* node : nodes) {
    if (node->path.empty()) continue;
    const bool top = node->path.find(' ') == std::string::npos;
    patterns.push_back(SingleQuoted(absl::StrCat(top ? " " : "", node->path)));
  }
  return absl::StrJoin(patterns, " | ");
}

// Flags of every command whose value is one of few, by "--name".
std::string ChoiceCases(const std::vector<const CompletionNode*>& nodes,
                        absl::string_view line_format) {
  std::string cases;
  for (const CompletionNode* node : nodes) {
    for (const CompletionFlag& flag : node->flags) {
      if (flag.choices.empty()) continue;
      const std::string line = absl::StrCat(
          "    --", flag.name, ") ",
          absl::StrReplaceAll(line_format,
                              {{"@", absl::StrJoin(flag.choices, " ")}}),
          "\n");
      if (absl::StrContains(cases, line)) continue;
      absl::StrAppend(&cases, line);
    }
  }
  return cases;
}

// Flags, other than those of `ChoiceCases`, that are followed by a value.
std::string ValueFlags(const std::vector<const CompletionNode*>& nodes) {
  std::vector<std::string> names;
  for (const CompletionNode* node : nodes) {
    for (const CompletionFlag& flag : node->flags) {
      if (!flag.takes_value || !flag.choices.empty()) continue;
      for (const std::string& name : {absl::StrCat("--", flag.name),
                                      absl::StrCat("-", flag.short_name)}) {
        if (name == "-" ||
            std::find(names.begin(), names.end(), name) != names.end()) {
          continue;
        }
        names.push_back(name);
      }
    }
  }
  return absl::StrJoin(names, " | ");
}

}  // namespace

CompletionNode DescribeCommands(const Command& program) {
  return Describe(program.app(), "");
}

std::string BashCompletion(const CompletionNode& program) {
  const std::vector<const CompletionNode*> nodes = AllNodes(program);
  std::vector<std::string> common;
  for (const CompletionFlag& flag : program.flags) {
    common.push_back(absl::StrCat("--", flag.name));
  }
  std::string words;
  for (const CompletionNode* node : nodes) {
    std::vector<std::string> commands, flags;
    for (const CompletionNode& command : node->commands) {
      commands.push_back(LastWord(command.path));
    }
    for (const CompletionFlag& flag : node->flags) {
      if (!node->path.empty()) flags.push_back(absl::StrCat("--", flag.name));
    }
    absl::StrAppend(
        &words, "    ", SingleQuoted(node->path),
        ")\n      commands=", SingleQuoted(absl::StrJoin(commands, " ")),
        " flags=", SingleQuoted(absl::StrJoin(flags, " ")), " ;;\n");
  }
  return absl::StrCat(
      "# bash completion of pot-client. Use it with\n"
      "#   source <(pot-client completion bash)\n"
      "_pot_client() {\n"
      "  local current=${COMP_WORDS[COMP_CWORD]}\n"
      "  local previous=${COMP_WORDS[COMP_CWORD - 1]}\n"
      "  local path= commands= flags= i\n"
      "  local common=",
      SingleQuoted(absl::StrJoin(common, " ")),
      "\n"
      "  COMPREPLY=()\n"
      "  case $previous in\n",
      ChoiceCases(nodes,
                  "COMPREPLY=($(compgen -W '@' -- \"$current\")); return ;;"),
      "    ", ValueFlags(nodes),
      ") return ;;\n"
      "  esac\n"
      "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "    case \"$path ${COMP_WORDS[i]}\" in\n"
      "      ",
      Transitions(nodes),
      ")\n"
      "        path=${path:+$path }${COMP_WORDS[i]} ;;\n"
      "    esac\n"
      "  done\n"
      "  case $path in\n",
      words,
      "  esac\n"
      "  if [[ $current == -* ]]; then\n"
      "    COMPREPLY=($(compgen -W \"$flags $common\" -- \"$current\"))\n"
      "  elif [[ -n $commands ]]; then\n"
      "    COMPREPLY=($(compgen -W \"$commands\" -- \"$current\"))\n"
      "  fi\n"
      "}\n"
      "complete -o default -F _pot_client pot-client\n");
}

std::string ZshCompletion(const CompletionNode& program) {
  const std::vector<const CompletionNode*> nodes = AllNodes(program);
  // _describe splits at the first colon that no backslash precedes.
  const auto item = [](const std::string& name, const std::string& text) {
    return SingleQuoted(
        absl::StrCat(absl::StrReplaceAll(name, {{":", "\\:"}}), ":", text));
  };
  std::string common, words;
  for (const CompletionNode* node : nodes) {
    std::string commands, flags;
    for (const CompletionNode& command : node->commands) {
      absl::StrAppend(&commands, "        ",
                      item(LastWord(command.path), command.description), "\n");
    }
    for (const CompletionFlag& flag : node->flags) {
      absl::StrAppend(&flags, "        ",
                      item(absl::StrCat("--", flag.name), flag.description),
                      "\n");
    }
    if (node->path.empty()) {
      common = flags;
      flags.clear();
    }
    absl::StrAppend(&words, "    ", SingleQuoted(node->path),
                    ")\n      commands=(\n", commands,
                    "      )\n      flags=(\n", flags, "      ) ;;\n");
  }
  return absl::StrCat(
      "#compdef pot-client\n"
      "# zsh completion of pot-client. Save it as _pot-client in a directory\n"
      "# of $fpath, or use it with\n"
      "#   source <(pot-client completion zsh)\n"
      "_pot_client() {\n"
      "  local current=${words[CURRENT]} previous=${words[CURRENT-1]}\n"
      "  local path_so_far= i\n"
      "  local -a commands flags common\n"
      "  common=(\n",
      common,
      "  )\n"
      "  case $previous in\n",
      ChoiceCases(nodes, "compadd -- @; return ;;"), "    ", ValueFlags(nodes),
      ") _files; return ;;\n"
      "  esac\n"
      "  for ((i = 2; i < CURRENT; i++)); do\n"
      "    case \"$path_so_far ${words[i]}\" in\n"
      "      ",
      Transitions(nodes),
      ")\n"
      "        path_so_far=${path_so_far:+$path_so_far }${words[i]} ;;\n"
      "    esac\n"
      "  done\n"
      "  case $path_so_far in\n",
      words,
      "  esac\n"
      "  if [[ $current == -* ]]; then\n"
      "    flags+=($common)\n"
      "    _describe 'flag' flags\n"
      "  elif (( $#commands )); then\n"
      "    _describe 'command' commands\n"
      "  else\n"
      "    _files\n"
      "  fi\n"
      "}\n"
      "if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then\n"
      "  _pot_client \"$@\"\n"
      "else\n"
      "  compdef _pot_client pot-client\n"
      "fi\n");
}

std::string FishCompletion(const CompletionNode& program) {
  const std::vector<const CompletionNode*> nodes = AllNodes(program);
  std::string script = absl::StrCat(
      "# fish completion of pot-client. Use it with\n"
      "#   pot-client completion fish | source\n"
      "function __pot_client_at\n"
      "  set -l path ''\n"
      "  for word in (commandline -opc)[2..-1]\n"
      "    switch \"$path $word\"\n"
      "      case ",
      absl::StrReplaceAll(Transitions(nodes), {{" | ", " "}}),
      "\n"
      "        set path (string trim -- \"$path $word\")\n"
      "    end\n"
      "  end\n"
      "  test \"$path\" = \"$argv[1]\"\n"
      "end\n");
  for (const CompletionNode* node : nodes) {
    const std::string at =
        FishQuoted(absl::StrCat("__pot_client_at ", FishQuoted(node->path)));
    for (const CompletionNode& command : node->commands) {
      absl::StrAppend(&script, "complete -c pot-client -f -n ", at, " -a ",
                      LastWord(command.path), " -d ",
                      FishQuoted(command.description), "\n");
    }
    for (const CompletionFlag& flag : node->flags) {
      absl::StrAppend(&script, "complete -c pot-client");
      if (!node->path.empty()) absl::StrAppend(&script, " -n ", at);
      absl::StrAppend(&script, " -l ", flag.name);
      if (!flag.short_name.empty()) {
        absl::StrAppend(&script, " -s ", flag.short_name);
      }
      if (flag.takes_value) absl::StrAppend(&script, " -r");
      if (!flag.choices.empty()) {
        absl::StrAppend(&script, " -f -a ",
                        FishQuoted(absl::StrJoin(flag.choices, " ")));
      }
      absl::StrAppend(&script, " -d ", FishQuoted(flag.description), "\n");
    }
  }
  return script;
}

}  // namespace pot
