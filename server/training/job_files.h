// Where the files of jobs lie, and how they go.
//
// <root>/jobs.sqlite           QatJobStore's database
// <root>/datasets/<sha256>     uploaded texts
// <root>/jobs/<job_id>/        all files of one job
#ifndef POT_SERVER_TRAINING_JOB_FILES_H_
#define POT_SERVER_TRAINING_JOB_FILES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace pot {

class QatJobStore;

std::string JobDatabasePath(const std::string& root);
std::string DatasetsDirectory(const std::string& root);
// Of all jobs; what QatJobStore's directories are relative to.
std::string JobsDirectory(const std::string& root);
// `directory` as QatJobStore names it.
std::string JobDirectory(const std::string& root, absl::string_view directory);

// Makes the directories that are missing.
absl::Status MakeJobDirectories(const std::string& root);

// Removes what QatJobStore::Garbage() lists. What cannot be removed stays
// listed; the first such error is returned when the rest is done.
absl::Status SweepJobGarbage(QatJobStore* store, const std::string& root);

}  // namespace pot

#endif  // POT_SERVER_TRAINING_JOB_FILES_H_
