#include "client/plot/gnuplot.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "client/text_format.h"
#include "engine/base/status_macros.h"

extern char** environ;

namespace pot {
namespace {

// A figure of a few thousand points is far smaller.
constexpr size_t kMaxOutputBytes = 64 << 20;
constexpr size_t kMaxErrorBytes = 500;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

absl::Status SystemError(absl::string_view what, int error) {
  return absl::InternalError(absl::StrCat(what, ": ", std::strerror(error)));
}

// An unnamed temporary file: unlike a pipe it is never full.
absl::StatusOr<File> MakeFile() {
  File file(std::tmpfile());
  if (file == nullptr) return SystemError("no temporary file", errno);
  return file;
}

absl::StatusOr<std::string> ReadBack(std::FILE* file) {
  std::rewind(file);
  std::string text;
  char piece[4096];
  for (size_t n; (n = std::fread(piece, 1, sizeof(piece), file)) > 0;) {
    text.append(piece, n);
    if (text.size() > kMaxOutputBytes) {
      return absl::InternalError(
          absl::StrCat("gnuplot wrote more than ", kMaxOutputBytes, " bytes"));
    }
  }
  return text;
}

// The exit code of gnuplot with these three streams.
absl::StatusOr<int> Spawn(int in, int out, int err) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
  // Ctrl-C, which this program blocks, ends gnuplot as usual.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, defaults;
  sigemptyset(&none);
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  char name[] = "gnuplot";
  char no_settings[] = "-d";
  char* const arguments[] = {name, no_settings, nullptr};
  pid_t child = 0;
  const int error =
      posix_spawnp(&child, name, &actions, &attributes, arguments, environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT) {
    return absl::FailedPreconditionError(
        "gnuplot is not installed; it is in the Debian package gnuplot-nox");
  }
  if (error != 0) return SystemError("cannot start gnuplot", error);
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return SystemError("waiting for gnuplot", errno);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

absl::StatusOr<std::string> RunGnuplot(const std::string& script) {
  POT_ASSIGN_OR_RETURN(const File in, MakeFile());
  POT_ASSIGN_OR_RETURN(const File out, MakeFile());
  POT_ASSIGN_OR_RETURN(const File err, MakeFile());
  if (std::fwrite(script.data(), 1, script.size(), in.get()) != script.size() ||
      std::fflush(in.get()) != 0) {
    return SystemError("cannot write a temporary file", errno);
  }
  std::rewind(in.get());
  POT_ASSIGN_OR_RETURN(
      const int exit_code,
      Spawn(fileno(in.get()), fileno(out.get()), fileno(err.get())));
  POT_ASSIGN_OR_RETURN(std::string output, ReadBack(out.get()));
  if (exit_code != 0 || output.empty()) {
    POT_ASSIGN_OR_RETURN(std::string words, ReadBack(err.get()));
    words.resize(std::min(words.size(), kMaxErrorBytes));
    return absl::InternalError(
        absl::StrCat("gnuplot ended with ", exit_code, ": ", Printable(words)));
  }
  return output;
}

}  // namespace pot
