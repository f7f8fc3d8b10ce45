#ifndef POT_CLIENT_PERPLEXITY_CALL_H_
#define POT_CLIENT_PERPLEXITY_CALL_H_

#include "absl/status/statusor.h"
#include "client/progress_bar.h"
#include "client/session.h"
#include "client/text_file.h"
#include "pot/v1/inference.pb.h"

namespace pot {

// Streams the rest of `file` to the server, in constant memory, and returns
// its result.
absl::StatusOr<v1::PerplexityResult> MeasurePerplexity(
    Session* session, const v1::PerplexityOptions& options,
    const TextFile& file, ProgressBar* bar);

}  // namespace pot

#endif  // POT_CLIENT_PERPLEXITY_CALL_H_
