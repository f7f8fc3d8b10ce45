// What a worker keeps on its disk.
//
//   <directory>/lock                       held by the one worker that runs
//   <directory>/name                       its name, unless one is given
//   <directory>/cache/<sha256>             input files, shared by jobs
//   <directory>/jobs/<job_id>-<digest>/    of the job that was leased last
//
// The digest is that of the job's specification and base: two servers may both
// have a job "qat-1".
#ifndef POT_TRAINER_WORKER_WORK_DIRECTORY_H_
#define POT_TRAINER_WORKER_WORK_DIRECTORY_H_

#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pot/v1/worker.pb.h"

namespace pot {

class WorkDirectory {
 public:
  // Makes it, and its parents, when it is not there. FAILED_PRECONDITION,
  // naming the process, while another worker has it.
  static absl::StatusOr<std::unique_ptr<WorkDirectory>> Open(
      const std::string& path, int64_t max_cache_bytes);
  ~WorkDirectory();
  WorkDirectory(const WorkDirectory&) = delete;
  WorkDirectory& operator=(const WorkDirectory&) = delete;

  const std::string& path() const { return path_; }

  // The host's name and some random digits, the same ever after.
  absl::StatusOr<std::string> DefaultName() const;

  // The job's directory, made when it is not there. Those of other jobs go.
  absl::StatusOr<std::string> OpenJob(const v1::Lease& lease) const;

  // --- Input files by their digests ---

  std::string CachePath(const std::string& sha256) const;
  // Whether the file is there and has the digest still; a damaged one goes.
  bool HasCached(const v1::StoredFile& file) const;
  // Removes files that were used longest ago, but none of `keep`, until `bytes`
  // more fit into the limit. RESOURCE_EXHAUSTED when the disk has not so many.
  absl::Status MakeRoom(int64_t bytes, const std::set<std::string>& keep) const;

 private:
  WorkDirectory(std::string path, int lock, int64_t max_cache_bytes);

  const std::string path_;
  const int lock_;
  const int64_t max_cache_bytes_;
};

}  // namespace pot

#endif  // POT_TRAINER_WORKER_WORK_DIRECTORY_H_
