// Hugging Face models into staged versions.
#ifndef POT_SERVER_SERVING_MODEL_IMPORT_H_
#define POT_SERVER_SERVING_MODEL_IMPORT_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/gpt2/quantize_model.h"

namespace pot {

// The directory that `given` names, absolute and without links; it, and every
// file in it, lie below `import_root`. Errors as ModelRepository::Import.
absl::StatusOr<std::string> ResolveImport(const std::string& import_root,
                                          const std::string& given);

// Of the files in a directory, links followed; at most 2^60.
int64_t DirectoryBytes(const std::string& directory);

// Quantizes, or copies without `options`, the model in `from` into the
// directory `to`; `progress` as for ModelRepository::Import. Uses half of the
// machine's threads, so that serving goes on beside it.
absl::Status ImportInto(const std::string& from, const std::string& to,
                        const std::optional<QuantizeModelOptions>& options,
                        const std::function<bool(int64_t, int64_t)>& progress);

}  // namespace pot

#endif  // POT_SERVER_SERVING_MODEL_IMPORT_H_
