#ifndef POT_SERVER_TRAINING_QAT_JOB_SCHEMA_H_
#define POT_SERVER_TRAINING_QAT_JOB_SCHEMA_H_

#include "absl/types/span.h"

namespace pot {

// For MigrateSqlite(). A released script never changes: a new version is a new
// script at the end.
absl::Span<const char* const> QatJobMigrations();

}  // namespace pot

#endif  // POT_SERVER_TRAINING_QAT_JOB_SCHEMA_H_
