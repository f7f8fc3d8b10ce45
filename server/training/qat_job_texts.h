// The texts of a job against its base.
#ifndef POT_SERVER_TRAINING_QAT_JOB_TEXTS_H_
#define POT_SERVER_TRAINING_QAT_JOB_TEXTS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/text/tokenizer.h"
#include "pot/v1/qat_job.pb.h"

namespace pot {

// Of all training files of a job together; the trainer's limit.
inline constexpr int64_t kMaxJobTextBytes = int64_t{4} << 30;

// Exact for texts of up to kExactTextBytes, beyond that as many tokens per byte
// as in their beginning.
inline constexpr int64_t kExactTextBytes = int64_t{1} << 20;
struct JobTokens {
  int64_t training = 0;
  int64_t validation = 0;
};

// Checks that the base can be trained on the texts of `spec`, which
// FillQatJobSpec() filled: every character is in the vocabulary, and either
// part has the tokens of one window and one more. `path` says where the text
// with a digest lies. INVALID_ARGUMENT: UNKNOWN_TOKEN with character, byte and
// field; INVALID_DATASET with what is there and what is needed. Reads all of
// the texts only when the vocabulary lacks a byte.
absl::StatusOr<JobTokens> CheckJobTexts(
    const v1::QatJobSpec& spec, const Tokenizer& tokenizer,
    const std::function<std::string(absl::string_view sha256)>& path);

}  // namespace pot

#endif  // POT_SERVER_TRAINING_QAT_JOB_TEXTS_H_
