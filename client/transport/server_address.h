#ifndef POT_CLIENT_TRANSPORT_SERVER_ADDRESS_H_
#define POT_CLIENT_TRANSPORT_SERVER_ADDRESS_H_

#include "absl/strings/string_view.h"

namespace pot {

// Whether `server`, HOST:PORT, [V6]:PORT or unix:PATH, is on this machine
// whatever a name server says: localhost, 127.0.0.0/8, ::1, a unix socket.
bool IsLocalServer(absl::string_view server);

}  // namespace pot

#endif  // POT_CLIENT_TRANSPORT_SERVER_ADDRESS_H_
