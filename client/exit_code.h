#ifndef POT_CLIENT_EXIT_CODE_H_
#define POT_CLIENT_EXIT_CODE_H_

#include "absl/status/status.h"

namespace pot {

inline constexpr int kExitOk = 0;
inline constexpr int kExitInternal = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitNotFound = 3;
inline constexpr int kExitUnavailable = 4;
inline constexpr int kExitDeadline = 5;
inline constexpr int kExitExhausted = 6;
inline constexpr int kExitAuthorization = 7;
inline constexpr int kExitPrecondition = 8;
// How a watched job ended.
inline constexpr int kExitJobFailed = 9;
inline constexpr int kExitJobCancelled = 10;
inline constexpr int kExitGateRejected = 11;
inline constexpr int kExitInterrupted = 130;

// Of a status, whether it came from the server or from the command line.
// CANCELLED is kExitInterrupted.
int ExitCodeOf(absl::StatusCode code);

}  // namespace pot

#endif  // POT_CLIENT_EXIT_CODE_H_
