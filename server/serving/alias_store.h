// Aliases of a model, and who moved them when and why; on disk, so that they
// survive the server.
#ifndef POT_SERVER_SERVING_ALIAS_STORE_H_
#define POT_SERVER_SERVING_ALIAS_STORE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"

namespace pot {

enum class AliasChangeCause { kSet, kRollback, kPublish, kAutoRollback };

struct AliasChange {
  int64_t sequence = 0;  // of the model, from 1
  std::string model;
  std::string alias;
  int64_t from_version = 0;  // 0: none
  int64_t to_version = 0;    // 0: none
  AliasChangeCause cause = AliasChangeCause::kSet;
  std::string actor;
  std::string comment;
  absl::Time time;
};

// 1 to 64 of [A-Za-z0-9._-], beginning with a letter or digit, not digits
// alone.
absl::Status ValidateAlias(absl::string_view alias);

// Thread-safe. Each change is appended, and fsynced, to
// <root>/<model>/aliases.jsonl before it is visible; a line that a crash cut
// off is dropped when the file is read.
class AliasStore {
 public:
  explicit AliasStore(std::string root) : root_(std::move(root)) {}

  // Current aliases of a model; empty when it has none.
  absl::StatusOr<std::map<std::string, int64_t>> Aliases(
      absl::string_view model);

  // Fills `sequence`, `from_version` and applies. ABORTED (ALIAS_MISMATCH,
  // naming both versions) when `expected` is given and is not the present
  // target, 0 standing for none; NOT_FOUND when removing one that is not there.
  absl::StatusOr<AliasChange> Apply(AliasChange change,
                                    std::optional<int64_t> expected);

  // Newest first.
  absl::StatusOr<std::vector<AliasChange>> History(absl::string_view model,
                                                   absl::string_view alias,
                                                   int64_t limit);

 private:
  absl::Status ReadLocked(const std::string& model)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string root_;
  Mutex mutex_;
  std::map<std::string, std::vector<AliasChange>> changes_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_ALIAS_STORE_H_
