#ifndef POT_SERVER_SECURITY_TLS_FILES_H_
#define POT_SERVER_SECURITY_TLS_FILES_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace pot {

// Paths of PEM files. Also the messages' names for them.
struct TlsFiles {
  std::string certificate;  // the server's, with what leads to its authority
  std::string key;          // of the certificate, without a passphrase
  std::string client_ca;    // whose clients may connect; empty: all
  // The setting that named `client_ca`.
  std::string client_ca_setting = "tls-client-ca";
};

// What the files hold, checked.
struct TlsMaterial {
  std::string certificate;
  std::string key;
  std::string client_ca;
  absl::Time expires;  // the server's certificate
};

// INVALID_ARGUMENT, a line for everything that is wrong: a file that is
// missing or no PEM, a key with a passphrase or of another certificate.
absl::StatusOr<TlsMaterial> ReadTlsFiles(const TlsFiles& files);

}  // namespace pot

#endif  // POT_SERVER_SECURITY_TLS_FILES_H_
