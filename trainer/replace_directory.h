#ifndef POT_TRAINER_REPLACE_DIRECTORY_H_
#define POT_TRAINER_REPLACE_DIRECTORY_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace pot {

// Has `fill` write into a new directory beside `directory`, which then takes
// its place, or becomes it when there is none. Whenever the process is killed,
// one of the two is there, whole. Errors of `fill`, and PERMISSION_DENIED or
// another that names the path.
absl::Status ReplaceDirectory(
    const std::string& directory,
    absl::FunctionRef<absl::Status(const std::string&)> fill);

}  // namespace pot

#endif  // POT_TRAINER_REPLACE_DIRECTORY_H_
