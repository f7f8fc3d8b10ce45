// Aliases of a model, and who moved them when and why; on disk, so that they
// survive the server.
#ifndef POT_SERVER_SERVING_ALIAS_STORE_H_
#define POT_SERVER_SERVING_ALIAS_STORE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
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
// alone: INVALID_ARGUMENT otherwise.
absl::Status ValidateAlias(absl::string_view alias);

// Thread-safe. Each change is appended, and fsynced, to
// <root>/<model>/aliases.jsonl before it is visible; a line that a crash cut
// off is dropped when the file is read. The file is read once: one AliasStore
// at a time may write below a root.
//
// Everything is DATA_LOSS (CORRUPT_CHECKPOINT), naming the line, while a file
// is not what it should be.
class AliasStore {
 public:
  static constexpr int64_t kMaxFileBytes = int64_t{64} << 20;

  explicit AliasStore(std::string root) : root_(std::move(root)) {}

  // Current aliases of a model; empty when it has none.
  absl::StatusOr<std::map<std::string, int64_t>> Aliases(
      absl::string_view model);

  // ABORTED (ALIAS_MISMATCH), naming both versions, when `expected` is given
  // and is not the alias's present target, 0 standing for none.
  absl::Status CheckExpected(absl::string_view model, absl::string_view alias,
                             std::optional<int64_t> expected);

  // Fills `sequence` and `from_version` and applies, if CheckExpected() says
  // so. NOT_FOUND when removing an alias that is not there. The model's
  // directory must exist.
  absl::StatusOr<AliasChange> Apply(AliasChange change,
                                    std::optional<int64_t> expected);

  // At most `limit`, newest first; of all aliases when `alias` is empty.
  absl::StatusOr<std::vector<AliasChange>> History(absl::string_view model,
                                                   absl::string_view alias,
                                                   int64_t limit);

 private:
  // The aliases of one model.
  struct File {
    std::vector<AliasChange> changes;
    std::map<std::string, int64_t> targets;
    int64_t bytes = 0;  // of whole lines
  };

  absl::StatusOr<File*> ReadLocked(absl::string_view model)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string Path(absl::string_view model) const;

  const std::string root_;
  Mutex mutex_;
  std::map<std::string, File, std::less<>> files_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_ALIAS_STORE_H_
