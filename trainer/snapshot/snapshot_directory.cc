#include "trainer/snapshot/snapshot_directory.h"

#include <unistd.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/directory.h"
#include "trainer/snapshot/snapshot.h"

namespace pot {
namespace {

constexpr absl::string_view kStepPrefix = "step-";
constexpr absl::string_view kPartialSuffix = ".partial";

}  // namespace

std::string StepDirectory(const std::string& directory, int64_t step) {
  return absl::StrCat(directory, "/", kStepPrefix, step);
}

std::string SnapshotFile(const std::string& step_directory) {
  return absl::StrCat(step_directory, "/snapshot.safetensors");
}

absl::StatusOr<std::vector<int64_t>> ListSteps(const std::string& directory) {
  POT_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries,
                       ListDirectory(directory));
  std::vector<int64_t> steps;
  for (const DirectoryEntry& entry : entries) {
    absl::string_view name = entry.name;
    int64_t step = 0;
    // Only the one spelling that StepDirectory() gives.
    if (entry.kind == DirectoryEntry::Kind::kDirectory &&
        absl::ConsumePrefix(&name, kStepPrefix) &&
        absl::SimpleAtoi(name, &step) && step >= 0 &&
        name == absl::StrCat(step)) {
      steps.push_back(step);
    }
  }
  std::sort(steps.begin(), steps.end(), std::greater<>());
  return steps;
}

void RemoveIfEmpty(const std::string& step_directory) {
  rmdir(step_directory.c_str());
}

absl::StatusOr<Snapshot> LatestSnapshot(const std::string& directory,
                                        std::vector<std::string>* warnings) {
  POT_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, ListSteps(directory));
  for (const int64_t step : steps) {
    absl::StatusOr<Snapshot> snapshot =
        Snapshot::Open(StepDirectory(directory, step));
    absl::Status status = snapshot.status();
    if (status.ok() && snapshot->step() != step) {
      status = absl::DataLossError(absl::StrCat(
          "snapshot ", snapshot->path(), " is of step ", snapshot->step()));
    }
    if (status.ok()) status = snapshot->Verify();
    if (status.ok()) return snapshot;
    if (warnings != nullptr) {
      warnings->push_back(
          absl::StrCat("passed over step ", step, ": ", status.message()));
    }
  }
  return absl::NotFoundError(
      absl::StrCat("there is no whole snapshot in ", directory));
}

absl::Status PruneSnapshots(const std::string& directory, int64_t keep) {
  if (keep < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("at least 1 snapshot must be kept, not ", keep));
  }
  POT_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, ListSteps(directory));
  int64_t kept = 0;
  for (const int64_t step : steps) {
    const std::string path = StepDirectory(directory, step);
    const absl::Status status = Snapshot::Open(path).status();
    if (status.ok() && kept < keep) {
      ++kept;
      unlink(absl::StrCat(SnapshotFile(path), kPartialSuffix).c_str());
    } else if (status.ok() || absl::IsDataLoss(status) ||
               absl::IsNotFound(status)) {
      POT_RETURN_IF_ERROR(RemoveTree(path));
    }
  }
  return absl::OkStatus();
}

}  // namespace pot
