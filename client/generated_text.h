#ifndef POT_CLIENT_GENERATED_TEXT_H_
#define POT_CLIENT_GENERATED_TEXT_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "client/console.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "pot/v1/common.pb.h"
#include "pot/v1/inference.pb.h"

namespace pot {

// Writes the sequences of one answer as they come: the first live, the others
// whole after it, in order. Several get a line "=== 1 of 3 ===" each.
class GeneratedText {
 public:
  GeneratedText(Console* console, int sequences);

  absl::Status Add(const v1::GenerateChunk& chunk);
  absl::Status Add(const v1::GeneratedSequence& sequence);
  // Writes what waits, and ends the last line.
  absl::Status Finish();
  // Ends the last line after an error or Ctrl-C, on a terminal only.
  void Abandon();

  // Of the first sequence so far.
  const std::string& text() const { return first_text_; }
  v1::FinishReason finish_reason() const { return finish_reason_; }

 private:
  absl::Status Write(absl::string_view text);
  absl::Status WriteSequence(uint32_t index, absl::string_view text);

  Console* const console_;
  const int sequences_;
  std::string first_text_;
  std::map<uint32_t, std::string> waiting_;
  v1::FinishReason finish_reason_ = v1::FINISH_REASON_UNSPECIFIED;
  bool began_ = false;
  bool at_line_start_ = true;
};

// One row per token: id, piece, log-probability, probability, alternatives.
std::string FormatLogprobs(
    const google::protobuf::RepeatedPtrField<v1::TokenLogprob>& tokens);

// "name@2: 12 prompt + 50 new tokens, 412 tokens/s, .., seed 7".
std::string FormatStatistics(const v1::GenerateSummary& summary, int sequences,
                             v1::FinishReason reason);

}  // namespace pot

#endif  // POT_CLIENT_GENERATED_TEXT_H_
