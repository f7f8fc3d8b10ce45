#ifndef POT_CLIENT_GENERATION_H_
#define POT_CLIENT_GENERATION_H_

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "client/session.h"
#include "pot/v1/inference.pb.h"

namespace pot {

// Runs GenerateStream and hands over every event as it comes. An error of
// `consume` cancels the call and is returned.
absl::Status StreamGeneration(
    Session* session, const v1::GenerateRequest& request,
    absl::FunctionRef<absl::Status(const v1::GenerateStreamResponse&)> consume);

}  // namespace pot

#endif  // POT_CLIENT_GENERATION_H_
