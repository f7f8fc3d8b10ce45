// Lines of aliases.jsonl; server/serving/README.md documents them.
#ifndef POT_SERVER_SERVING_ALIAS_RECORD_H_
#define POT_SERVER_SERVING_ALIAS_RECORD_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/serving/alias_store.h"

namespace pot {

// "SET", "ROLLBACK", "PUBLISH", "AUTO_ROLLBACK".
absl::string_view AliasChangeCauseName(AliasChangeCause cause);

// One JSON object without a line break; AliasChange::model is not part of it.
// Text that is not UTF-8 is replaced.
std::string AliasChangeToJson(const AliasChange& change);

// INVALID_ARGUMENT, beginning with `what`, for anything that
// AliasChangeToJson() would not write, but for further keys, which are
// ignored.
absl::StatusOr<AliasChange> ParseAliasChange(absl::string_view line,
                                             absl::string_view what);

}  // namespace pot

#endif  // POT_SERVER_SERVING_ALIAS_RECORD_H_
