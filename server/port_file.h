#ifndef POT_SERVER_PORT_FILE_H_
#define POT_SERVER_PORT_FILE_H_

#include <string>

#include "absl/status/status.h"

namespace pot {

// Writes "<port>\n" to `path`, replacing what is there in one step: a reader
// sees a whole number or nothing.
absl::Status WritePortFile(const std::string& path, int port);

}  // namespace pot

#endif  // POT_SERVER_PORT_FILE_H_
