#ifndef POT_SERVER_LISTEN_ADDRESS_H_
#define POT_SERVER_LISTEN_ADDRESS_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace pot {

// INVALID_ARGUMENT when `address` is not HOST:PORT, [V6]:PORT or unix:PATH, or
// when other hosts can reach it (anything but localhost, 127.0.0.0/8, ::1 and
// unix sockets) without `open_to_all`, as the server with TLS is.
absl::Status CheckListenAddress(absl::string_view address, bool open_to_all);

}  // namespace pot

#endif  // POT_SERVER_LISTEN_ADDRESS_H_
