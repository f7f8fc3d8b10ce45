#include "server/security/file_watcher.h"

#include <sys/stat.h>

#include <chrono>
#include <utility>

namespace pot {

FileWatcher::~FileWatcher() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  stop_.NotifyAll();
  if (thread_.joinable()) thread_.join();
}

std::vector<FileWatcher::Stamp> FileWatcher::StampsOf(
    const std::vector<std::string>& paths) {
  std::vector<Stamp> stamps;
  for (const std::string& path : paths) {
    Stamp stamp;
    struct stat info;
    if (stat(path.c_str(), &info) == 0) {
      stamp = {info.st_mtim.tv_sec, info.st_mtim.tv_nsec, info.st_size,
               info.st_ino, info.st_dev};
    }
    stamps.push_back(stamp);
  }
  return stamps;
}

void FileWatcher::Watch(const std::vector<std::string>& paths,
                        std::function<void()> changed) {
  Group group;
  group.paths = paths;
  group.changed = std::move(changed);
  group.told = group.polled = StampsOf(paths);
  groups_.push_back(std::move(group));
}

void FileWatcher::Poll() {
  for (Group& group : groups_) {
    std::vector<Stamp> stamps = StampsOf(group.paths);
    const bool settled = stamps == group.polled;
    group.polled = std::move(stamps);
    if (!settled || group.polled == group.told) continue;
    group.told = group.polled;
    group.changed();
  }
}

void FileWatcher::Start(absl::Duration interval) {
  thread_ = std::thread([this, interval] {
    while (true) {
      {
        const auto until = std::chrono::steady_clock::now() +
                           absl::ToChronoNanoseconds(interval);
        MutexLock lock(&mutex_);
        while (!stopping_ && stop_.WaitUntil(&mutex_, until)) {
        }
        if (stopping_) return;
      }
      Poll();
    }
  });
}

}  // namespace pot
