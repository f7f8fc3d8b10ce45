#include "trainer/worker/uploader.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/directory.h"

namespace pot {
namespace {

constexpr char kFiles[] = "/files";
constexpr char kEvaluation[] = "/evaluation";
constexpr char kStaging[] = "/staging";
constexpr size_t kMaxEvaluationBytes = 4096;

}  // namespace

Uploader::Uploader(WorkerService* service, LeaseKeeper* keeper,
                   std::string directory)
    : service_(service),
      keeper_(keeper),
      directory_(std::move(directory)),
      thread_([this] { Run(); }) {}

Uploader::~Uploader() {
  {
    MutexLock lock(&mutex_);
    ended_ = true;
    items_.clear();
    changed_.NotifyAll();
  }
  thread_.join();
}

std::string Uploader::ItemDirectory(const Item& item) const {
  return absl::StrCat(directory_, "/", UploadId(item.kind, item.step));
}

absl::Status Uploader::Recover(int64_t step) {
  POT_RETURN_IF_ERROR(MakeDirectory(directory_).status());
  POT_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries,
                       ListDirectory(directory_));
  std::vector<Item> items;
  for (const DirectoryEntry& entry : entries) {
    const std::string path = absl::StrCat(directory_, "/", entry.name);
    absl::string_view number = entry.name;
    Item item;
    item.kind = OutgoingKind::kCheckpoint;
    const absl::StatusOr<std::string> evaluation =
        ReadFile(path + kEvaluation, kMaxEvaluationBytes);
    if (absl::ConsumePrefix(&number, "checkpoint-") &&
        absl::SimpleAtoi(number, &item.step) && item.step <= step &&
        evaluation.ok() && item.evaluation.ParseFromString(*evaluation)) {
      items.push_back(std::move(item));
    } else {
      POT_RETURN_IF_ERROR(RemoveTree(path));
    }
  }
  std::sort(items.begin(), items.end(),
            [](const Item& a, const Item& b) { return a.step < b.step; });
  for (Item& item : items) Push(std::move(item));
  return absl::OkStatus();
}

absl::StatusOr<std::string> Uploader::StageCheckpoint() {
  const std::string staging = directory_ + kStaging;
  POT_RETURN_IF_ERROR(RemoveTree(staging));
  POT_RETURN_IF_ERROR(MakeDirectory(staging).status());
  POT_RETURN_IF_ERROR(MakeDirectory(staging + kFiles).status());
  return staging + kFiles;
}

absl::Status Uploader::AddCheckpoint(
    const v1::CheckpointEvaluation& evaluation) {
  Item item{OutgoingKind::kCheckpoint, evaluation.step(), evaluation};
  const std::string staging = directory_ + kStaging;
  POT_RETURN_IF_ERROR(
      WriteFile(staging + kEvaluation, evaluation.SerializeAsString()));
  // It waits already: a run that went on from an earlier snapshot makes the
  // same checkpoint again.
  if (IsDirectory(ItemDirectory(item))) return absl::OkStatus();
  POT_RETURN_IF_ERROR(RenameDirectory(staging, ItemDirectory(item)));
  Push(std::move(item));
  return absl::OkStatus();
}

absl::Status Uploader::AddSnapshot(int64_t step, const std::string& path) {
  Item item{OutgoingKind::kSnapshot, step, {}};
  const std::string directory = ItemDirectory(item);
  if (IsDirectory(directory)) return absl::OkStatus();  // it waits already
  POT_RETURN_IF_ERROR(MakeDirectory(directory).status());
  POT_RETURN_IF_ERROR(MakeDirectory(directory + kFiles).status());
  const std::string to =
      absl::StrCat(directory, kFiles, path.substr(path.rfind('/')));
  // The training replaces and removes its snapshots, but never writes to one.
  if (link(path.c_str(), to.c_str()) != 0) {
    return absl::ErrnoToStatus(errno,
                               absl::StrCat("cannot link ", path, " to ", to));
  }
  std::vector<Item> replaced;
  {
    MutexLock lock(&mutex_);
    for (auto other = items_.begin(); other != items_.end();) {
      if (other->kind == OutgoingKind::kSnapshot) {
        replaced.push_back(std::move(*other));
        other = items_.erase(other);
      } else {
        ++other;
      }
    }
  }
  for (const Item& other : replaced) {
    POT_RETURN_IF_ERROR(RemoveTree(ItemDirectory(other)));
  }
  Push(std::move(item));
  return absl::OkStatus();
}

void Uploader::Push(Item item) {
  MutexLock lock(&mutex_);
  items_.push_back(std::move(item));
  changed_.NotifyAll();
}

absl::Status Uploader::status() const {
  MutexLock lock(&mutex_);
  return status_;
}

absl::Status Uploader::Finish() {
  MutexLock lock(&mutex_);
  while (sending_ || !items_.empty()) changed_.Wait(&mutex_);
  return status_;
}

absl::Status Uploader::Send(const Item& item) {
  const std::string files = ItemDirectory(item) + kFiles;
  POT_ASSIGN_OR_RETURN(
      const v1::UploadHeader header,
      DescribeUpload(keeper_->key(), item.kind, item.step, files));
  const absl::Status status =
      UploadFiles(service_, keeper_, item.kind, header, item.evaluation, files);
  if (!absl::IsAlreadyExists(status)) return status;
  keeper_->Log(v1::LOG_SEVERITY_WARNING,
               absl::StrCat("there is another checkpoint of step ", item.step,
                            " already, from an attempt on another kind of "
                            "CPU or with other threads; that one stays"));
  return absl::OkStatus();
}

void Uploader::Run() {
  while (true) {
    Item item;
    {
      MutexLock lock(&mutex_);
      while (!ended_ && items_.empty()) changed_.Wait(&mutex_);
      if (ended_) return;
      item = std::move(items_.front());
      items_.pop_front();
      sending_ = true;
    }
    const absl::Status status = Send(item);
    if (status.ok() || item.kind == OutgoingKind::kSnapshot) {
      RemoveTree(ItemDirectory(item)).IgnoreError();
    }
    if (!status.ok() && keeper_->command() < JobCommand::kCancel) {
      keeper_->Log(v1::LOG_SEVERITY_WARNING,
                   absl::StrCat(UploadId(item.kind, item.step),
                                " could not be sent: ", status.message()));
    }
    MutexLock lock(&mutex_);
    sending_ = false;
    if (item.kind == OutgoingKind::kCheckpoint) status_.Update(status);
    changed_.NotifyAll();
  }
}

}  // namespace pot
