#ifndef POT_CLIENT_QUALITY_GATE_H_
#define POT_CLIENT_QUALITY_GATE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "pot/v1/qat_job.pb.h"

namespace pot {

// Conditions with commas between them, each at most once and in any order:
//   ppl<=1.02x  perplexity over that of the base
//   ppl<=4.7    perplexity
//   kl<=0.05    mean KL divergence from the base, nats per token
//   top1>=0.9   share of equal likeliest tokens
// INVALID_ARGUMENT, quoting the condition, for anything else. Ranges are the
// server's to check.
absl::StatusOr<v1::QualityGate> ParseQualityGate(absl::string_view text);

// The inverse; empty for a gate without conditions.
std::string FormatQualityGate(const v1::QualityGate& gate);

}  // namespace pot

#endif  // POT_CLIENT_QUALITY_GATE_H_
