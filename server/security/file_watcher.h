#ifndef POT_SERVER_SECURITY_FILE_WATCHER_H_
#define POT_SERVER_SECURITY_FILE_WATCHER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "engine/base/mutex.h"

namespace pot {

// Tells when files changed, by asking for their times, sizes and inodes again
// and again: works for files that are written, renamed, reached through
// symbolic links that move (Kubernetes), or on network disks.
class FileWatcher {
 public:
  FileWatcher() = default;
  // Ends the thread.
  ~FileWatcher();
  FileWatcher(const FileWatcher&) = delete;
  FileWatcher& operator=(const FileWatcher&) = delete;

  // Before Start(). `changed` runs on the watcher's thread once any of `paths`
  // is another file than before and stayed the same from one poll to the next:
  // a file that is being written is left alone.
  void Watch(const std::vector<std::string>& paths,
             std::function<void()> changed);

  // Looks once.
  void Poll();

  // Looks every `interval`, on a thread of its own.
  void Start(absl::Duration interval);

 private:
  struct Stamp {
    int64_t seconds = 0;
    int64_t nanoseconds = 0;
    int64_t size = -1;  // -1: there is none
    uint64_t inode = 0;
    uint64_t device = 0;

    bool operator==(const Stamp&) const = default;
  };
  struct Group {
    std::vector<std::string> paths;
    std::function<void()> changed;
    std::vector<Stamp> told;    // as of the last `changed`
    std::vector<Stamp> polled;  // as of the last Poll()
  };

  static std::vector<Stamp> StampsOf(const std::vector<std::string>& paths);

  std::vector<Group> groups_;
  std::thread thread_;
  Mutex mutex_;
  CondVar stop_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace pot

#endif  // POT_SERVER_SECURITY_FILE_WATCHER_H_
