#include <filesystem>
#include <memory>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "trainer/commands.h"
#include "trainer/progress_bar.h"
#include "trainer/random_model.h"

namespace pot {
namespace {

struct Flags {
  std::string size = "gpt2";
  uint64_t seed = 1;
  std::string out;
};

// Fills a directory beside `out` and renames it, so that `out` is whole or
// absent.
absl::Status Run(const Flags& flags) {
  POT_ASSIGN_OR_RETURN(const Gpt2Config config, NamedGpt2Config(flags.size));
  std::error_code error;
  if (std::filesystem::exists(flags.out, error)) {
    return absl::AlreadyExistsError(
        absl::StrCat("--out: '", flags.out, "' is there already"));
  }
  const std::string staging = flags.out + ".partial";
  std::filesystem::remove_all(staging, error);
  if (!std::filesystem::create_directories(staging, error)) {
    return absl::UnavailableError(absl::StrCat(
        "--out: cannot create '", staging, "': ", error.message()));
  }
  absl::Status status;
  {
    ProgressBar bar("weights");
    status = WriteRandomModel(
        config, flags.seed, staging,
        [&](int64_t done, int64_t total) { bar.Update(done, total); });
  }
  if (status.ok()) status = RenameDirectory(staging, flags.out);
  if (!status.ok()) {
    std::filesystem::remove_all(staging, error);
    return status;
  }
  absl::PrintF("%s: %s, %d parameters, seed %u\n", flags.out, flags.size,
               config.num_parameters(), flags.seed);
  return absl::OkStatus();
}

}  // namespace

void AddInitCommand(const Command& app, absl::Status* result) {
  auto flags = std::make_shared<Flags>();
  const Command command = app.AddCommand(
      "init", "Write a GPT-2 with random weights as a Hugging Face directory");
  command
      .AddFlag("--size", &flags->size,
               "gpt2, gpt2-medium, gpt2-large, gpt2-xl or nano")
      .ShowDefault();
  // CLI11 takes "-1" for a uint64 and wraps it.
  command.AddFlag("--seed", &flags->seed, "Seed of the weights")
      .AtLeastZero()
      .ShowDefault();
  command.AddFlag("--out", &flags->out, "Directory to create").Required();
  command.OnSelected([flags, result] { *result = Run(*flags); });
}

}  // namespace pot
