#include "client/generated_text.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/enum_names.h"
#include "client/table.h"
#include "client/text_format.h"
#include "engine/base/status_macros.h"

namespace pot {

GeneratedText::GeneratedText(Console* console, int sequences)
    : console_(console), sequences_(sequences) {}

absl::Status GeneratedText::Write(absl::string_view text) {
  if (text.empty()) return absl::OkStatus();
  at_line_start_ = text.back() == '\n';
  return console_->Write(text);
}

absl::Status GeneratedText::WriteSequence(uint32_t index,
                                          absl::string_view text) {
  if (sequences_ > 1) {
    POT_RETURN_IF_ERROR(
        Write(absl::StrCat(at_line_start_ ? "" : "\n", began_ ? "\n" : "",
                           "=== ", index + 1, " of ", sequences_, " ===\n")));
  }
  began_ = true;
  return Write(text);
}

absl::Status GeneratedText::Add(const v1::GenerateChunk& chunk) {
  if (chunk.index() != 0) {
    waiting_[chunk.index()] += chunk.text();
    return absl::OkStatus();
  }
  if (chunk.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
    finish_reason_ = chunk.finish_reason();
  }
  first_text_ += chunk.text();
  if (chunk.text().empty()) return absl::OkStatus();
  return began_ ? Write(chunk.text()) : WriteSequence(0, chunk.text());
}

absl::Status GeneratedText::Add(const v1::GeneratedSequence& sequence) {
  if (sequence.index() == 0) {
    finish_reason_ = sequence.finish_reason();
    first_text_ = sequence.text();
  }
  return WriteSequence(sequence.index(), sequence.text());
}

absl::Status GeneratedText::Finish() {
  if (!began_ && sequences_ > 1) POT_RETURN_IF_ERROR(WriteSequence(0, ""));
  for (const auto& [index, text] : waiting_) {
    POT_RETURN_IF_ERROR(WriteSequence(index, text));
  }
  return at_line_start_ ? absl::OkStatus() : Write("\n");
}

void GeneratedText::Abandon() {
  if (!at_line_start_ && console_->out_is_terminal()) {
    Write("\n").IgnoreError();
  }
}

std::string FormatLogprobs(
    const google::protobuf::RepeatedPtrField<v1::TokenLogprob>& tokens) {
  const bool has_alternatives = std::any_of(
      tokens.begin(), tokens.end(),
      [](const auto& token) { return !token.alternatives().empty(); });
  Table table({{"token", Table::Align::kRight},
               {"piece"},
               {"logprob", Table::Align::kRight},
               {"p", Table::Align::kRight},
               {has_alternatives ? "alternatives" : ""}});
  for (const v1::TokenLogprob& token : tokens) {
    std::string alternatives;
    for (const v1::TokenAlternative& other : token.alternatives()) {
      absl::StrAppendFormat(&alternatives, "%s%s %.4f",
                            alternatives.empty() ? "" : "  ",
                            Quoted(other.piece()), other.logprob());
    }
    table.AddRow(
        {absl::StrCat(token.token_id()), Quoted(token.piece()),
         token.has_logprob() ? absl::StrFormat("%.4f", token.logprob()) : "-",
         token.has_logprob()
             ? absl::StrFormat("%.2f %%", 100 * std::exp(token.logprob()))
             : "-",
         alternatives});
  }
  return table.ToString();
}

std::string FormatStatistics(const v1::GenerateSummary& summary, int sequences,
                             v1::FinishReason reason) {
  const v1::Usage& usage = summary.usage();
  std::string text =
      absl::StrCat(summary.model().name(), "@", summary.model().version(), ": ",
                   FormatCount(usage.prompt_tokens()), " prompt + ",
                   FormatCount(usage.generated_tokens()), " new tokens");
  if (usage.truncated_tokens() > 0) {
    absl::StrAppend(&text, " (", FormatCount(usage.truncated_tokens()),
                    " dropped from the prompt)");
  }
  // The first token of each sequence came with the prompt.
  const double decoded =
      static_cast<double>(usage.generated_tokens()) - sequences;
  const double seconds = summary.timings().decode_seconds();
  if (decoded > 0 && seconds > 0) {
    absl::StrAppendFormat(&text, ", %.0f tokens/s", decoded / seconds);
  }
  absl::StrAppendFormat(&text, ", first after %.1f ms",
                        1e3 * summary.timings().first_token_seconds());
  if (reason != v1::FINISH_REASON_UNSPECIFIED) {
    absl::StrAppend(&text, ", ended by ", FinishReasonName(reason));
  }
  return absl::StrCat(text, ", seed ", summary.seed());
}

}  // namespace pot
