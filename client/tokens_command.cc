#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/commands.h"
#include "client/text_format.h"
#include "client/transport/token.h"
#include "engine/base/characters.h"
#include "engine/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace pot {
namespace {

constexpr size_t kMaxNameBytes = 64;
constexpr std::array<absl::string_view, 4> kScopes = {"infer", "admin", "train",
                                                      "worker"};

struct NewTokenFlags {
  std::string name;
  std::string scopes;
  std::string append;
};

absl::Status CheckName(absl::string_view name) {
  if (IsNameText(name, kMaxNameBytes)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--name must be 1 to ", kMaxNameBytes,
                   " of [A-Za-z0-9._-], not ", Quoted(name)));
}

absl::Status CheckScopes(absl::string_view text) {
  std::set<absl::string_view> seen;
  for (const absl::string_view scope : absl::StrSplit(text, ',')) {
    if (std::find(kScopes.begin(), kScopes.end(), scope) != kScopes.end() &&
        seen.insert(scope).second) {
      continue;
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "--scopes must be some of infer,admin,train,worker, each once, not ",
        Quoted(text)));
  }
  return absl::OkStatus();
}

// In one write, so that a server that reads meanwhile sees all of the line or
// nothing.
absl::Status AppendLine(const std::string& path, const std::string& line) {
  const int file =
      open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (file < 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  }
  absl::Status status;
  if (write(file, line.data(), line.size()) !=
      static_cast<ssize_t>(line.size())) {
    status = absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
  }
  if (close(file) != 0 && status.ok()) {
    status = absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
  }
  return status;
}

absl::Status MakeToken(Session* session, const NewTokenFlags& flags) {
  POT_RETURN_IF_ERROR(CheckName(flags.name));
  POT_RETURN_IF_ERROR(CheckScopes(flags.scopes));
  const std::string token = NewToken();
  const std::string line =
      absl::StrCat(flags.name, " ", flags.scopes, " ", TokenDigestText(token));
  if (!flags.append.empty()) {
    POT_RETURN_IF_ERROR(AppendLine(flags.append, absl::StrCat(line, "\n")));
  }
  Console& console = session->console();
  if (!session->text_output()) {
    const nlohmann::json json = {{"name", flags.name},
                                 {"scopes", flags.scopes},
                                 {"token", token},
                                 {"line", line}};
    return console.Write(absl::StrCat(json.dump(), "\n"));
  }
  POT_RETURN_IF_ERROR(console.Write(absl::StrCat(token, "\n")));
  if (flags.append.empty()) {
    console.WriteError("The line for the server's --token-file:\n");
    return console.Write(absl::StrCat(line, "\n"));
  }
  console.WriteError(
      "The token is shown only now; the server keeps its digest.\n");
  return absl::OkStatus();
}

}  // namespace

void AddTokensCommand(const Command& app, CommandFunction* selected) {
  const Command tokens =
      app.AddCommand("tokens", "Make tokens for callers of a server");
  tokens.RequireCommand();
  const Command command = tokens.AddCommand(
      "new",
      "Print a new token and the line for the server's --token-file that lets "
      "it in; needs no server");
  auto flags = std::make_shared<NewTokenFlags>();
  command
      .AddFlag("--name", &flags->name,
               "Who will use it; shown in logs and histories")
      .Required();
  command
      .AddFlag("--scopes", &flags->scopes,
               "What for: some of infer,admin,train,worker")
      .Required();
  command
      .AddFlag("--append", &flags->append,
               "Append the line to this key file and print the token alone")
      .TypeName("FILE");
  command.OnSelected([flags, selected] {
    *selected = [flags](Session* session) {
      return MakeToken(session, *flags);
    };
  });
}

}  // namespace pot
