#include "server/training/qat_job_texts.h"

#include <algorithm>
#include <bitset>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/file.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "server/serving/field_errors.h"

namespace pot {
namespace {

struct TextFile {
  std::string field;
  ForeignFile file;
};
using Text = std::vector<TextFile>;  // joined in this order

int64_t SizeOf(const Text& text) {
  int64_t bytes = 0;
  for (const TextFile& part : text) {
    bytes += static_cast<int64_t>(part.file.size());
  }
  return bytes;
}

// The bytes [begin, begin + size) of the joined text.
absl::StatusOr<std::string> ReadRange(const Text& text, int64_t begin,
                                      int64_t size) {
  std::string bytes(static_cast<size_t>(size), '\0');
  int64_t filled = 0;
  int64_t offset = begin;
  for (const TextFile& part : text) {
    const int64_t length = static_cast<int64_t>(part.file.size());
    if (offset >= length) {
      offset -= length;
      continue;
    }
    const int64_t n = std::min(length - offset, size - filled);
    POT_RETURN_IF_ERROR(
        part.file.ReadAt(static_cast<uint64_t>(offset),
                         {reinterpret_cast<uint8_t*>(bytes.data()) + filled,
                          static_cast<size_t>(n)}));
    filled += n;
    offset = 0;
    if (filled == size) break;
  }
  return bytes;
}

// Back to the beginning of a character.
absl::StatusOr<int64_t> CharacterStart(const Text& text, int64_t offset) {
  while (offset > 0 && offset < SizeOf(text)) {
    POT_ASSIGN_OR_RETURN(const std::string byte, ReadRange(text, offset, 1));
    if ((static_cast<uint8_t>(byte[0]) & 0xc0) != 0x80) break;
    --offset;
  }
  return offset;
}

// Bytes that no token stands for; encoding fails on them.
std::bitset<256> MissingBytes(const Tokenizer& tokenizer) {
  std::bitset<256> missing;
  missing.set();
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const absl::string_view bytes = tokenizer.TokenBytes(id);
    if (bytes.size() == 1) missing.reset(static_cast<uint8_t>(bytes[0]));
  }
  // Never part of UTF-8.
  for (int byte = 0xf5; byte <= 0xff; ++byte) missing.reset(byte);
  missing.reset(0xc0);
  missing.reset(0xc1);
  return missing;
}

absl::Status MissingCharacter(const TextFile& part, int64_t offset) {
  Text text = {part};
  POT_ASSIGN_OR_RETURN(const int64_t start, CharacterStart(text, offset));
  POT_ASSIGN_OR_RETURN(
      const std::string bytes,
      ReadRange(text, start,
                std::min<int64_t>(
                    4, static_cast<int64_t>(part.file.size()) - start)));
  const Utf8Unit unit = FirstUtf8Unit(bytes);
  const std::string shown = absl::StrCat(
      Quote(absl::string_view(bytes).substr(0, unit.length)),
      unit.code_point < 0 ? "" : absl::StrFormat(" (U+%04X)", unit.code_point));
  return FieldError(
      "UNKNOWN_TOKEN", part.field,
      absl::StrCat("has the character ", shown, " at byte ", start,
                   ", which the vocabulary of the base lacks"),
      "", absl::StrCat(start));
}

absl::Status CheckVocabulary(const Text& text,
                             const std::bitset<256>& missing) {
  for (const TextFile& part : text) {
    int64_t offset = 0;
    std::optional<int64_t> found;
    POT_RETURN_IF_ERROR(
        part.file.ReadPieces([&](absl::Span<const uint8_t> piece) {
          for (size_t i = 0; i < piece.size() && !found.has_value(); ++i) {
            if (missing[piece[i]]) found = offset + static_cast<int64_t>(i);
          }
          offset += static_cast<int64_t>(piece.size());
          return absl::OkStatus();
        }));
    if (found.has_value()) return MissingCharacter(part, *found);
  }
  return absl::OkStatus();
}

// Tokens of the bytes [begin, end).
absl::StatusOr<int64_t> CountTokens(const Text& text, int64_t begin,
                                    int64_t end, const Tokenizer& tokenizer) {
  const int64_t size = end - begin;
  if (size <= 0) return 0;
  POT_ASSIGN_OR_RETURN(std::string bytes,
                       ReadRange(text, begin, std::min(size, kExactTextBytes)));
  bytes.resize(CompleteUtf8Prefix(bytes));
  std::vector<int32_t> ids;
  POT_RETURN_IF_ERROR(tokenizer.Encode(bytes, &ids));
  const int64_t tokens = static_cast<int64_t>(ids.size());
  if (size <= kExactTextBytes) return tokens;
  return static_cast<int64_t>(
      std::llround(static_cast<double>(tokens) * static_cast<double>(size) /
                   static_cast<double>(bytes.size())));
}

absl::Status CheckWindow(const std::string& field, const std::string& part,
                         int64_t tokens, int64_t window) {
  if (tokens > window) return absl::OkStatus();
  return FieldError(
      "INVALID_DATASET", field,
      absl::StrCat("has ", tokens, " tokens to ", part, ", but one window of ",
                   window, " needs at least ", window + 1),
      absl::StrCat(window + 1), absl::StrCat(tokens));
}

absl::StatusOr<TextFile> OpenText(std::string field, const std::string& path) {
  POT_ASSIGN_OR_RETURN(ForeignFile file, ForeignFile::Open(path));
  return TextFile{std::move(field), std::move(file)};
}

// Both parts of what the base will write itself.
JobTokens SelfGenerated(const v1::TrainingData& data) {
  JobTokens tokens;
  tokens.training = data.self_generated().tokens();
  if (data.validation_sha256().empty()) {
    tokens.validation = static_cast<int64_t>(
        data.holdout_ratio() * static_cast<double>(tokens.training));
    tokens.training -= tokens.validation;
  }
  return tokens;
}

}  // namespace

absl::StatusOr<JobTokens> CheckJobTexts(
    const v1::QatJobSpec& spec, const Tokenizer& tokenizer,
    const std::function<std::string(absl::string_view sha256)>& path) {
  const v1::TrainingData& data = spec.data();
  const std::bitset<256> missing = MissingBytes(tokenizer);
  JobTokens tokens =
      data.has_self_generated() ? SelfGenerated(data) : JobTokens();
  std::string training_field = "spec.data.self_generated.tokens";
  std::string validation_field = training_field;
  if (data.has_datasets()) {
    training_field = validation_field = "spec.data.datasets";
    Text text;
    for (int i = 0; i < data.datasets().sha256_size(); ++i) {
      POT_ASSIGN_OR_RETURN(
          TextFile part,
          OpenText(absl::StrCat("spec.data.datasets.sha256[", i, "]"),
                   path(data.datasets().sha256(i))));
      text.push_back(std::move(part));
    }
    const int64_t size = SizeOf(text);
    if (size > kMaxJobTextBytes) {
      return FieldError("INVALID_DATASET", training_field,
                        absl::StrCat("have ", size,
                                     " bytes together, more than the limit of ",
                                     kMaxJobTextBytes),
                        absl::StrCat(kMaxJobTextBytes), absl::StrCat(size));
    }
    if (missing.any()) POT_RETURN_IF_ERROR(CheckVocabulary(text, missing));
    // As the trainer cuts it: rounded down, then back to a character.
    int64_t cut = size;
    if (data.validation_sha256().empty()) {
      POT_ASSIGN_OR_RETURN(
          cut, CharacterStart(
                   text, static_cast<int64_t>((1.0 - data.holdout_ratio()) *
                                              static_cast<double>(size))));
    }
    POT_ASSIGN_OR_RETURN(tokens.training, CountTokens(text, 0, cut, tokenizer));
    POT_ASSIGN_OR_RETURN(tokens.validation,
                         CountTokens(text, cut, size, tokenizer));
  }
  if (!data.validation_sha256().empty()) {
    validation_field = "spec.data.validation_sha256";
    POT_ASSIGN_OR_RETURN(
        TextFile part,
        OpenText(validation_field, path(data.validation_sha256())));
    const Text text = {std::move(part)};
    if (missing.any()) POT_RETURN_IF_ERROR(CheckVocabulary(text, missing));
    POT_ASSIGN_OR_RETURN(tokens.validation,
                         CountTokens(text, 0, SizeOf(text), tokenizer));
  }
  POT_RETURN_IF_ERROR(CheckWindow(training_field, "train on", tokens.training,
                                  spec.batch().context()));
  POT_RETURN_IF_ERROR(CheckWindow(validation_field, "validate on",
                                  tokens.validation,
                                  spec.evaluation().window()));
  return tokens;
}

}  // namespace pot
