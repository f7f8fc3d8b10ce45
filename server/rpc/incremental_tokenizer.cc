#include "server/rpc/incremental_tokenizer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "server/serving/field_errors.h"

namespace pot {

absl::StatusOr<IncrementalTokenizer> IncrementalTokenizer::Create(
    const Tokenizer* tokenizer, std::string field) {
  POT_ASSIGN_OR_RETURN(const CharClasses* classes, CharClasses::Get());
  return IncrementalTokenizer(tokenizer, classes, std::move(field));
}

absl::Status IncrementalTokenizer::Push(absl::string_view piece,
                                        std::vector<int32_t>* ids) {
  text_.append(piece.data(), piece.size());
  received_ += static_cast<int64_t>(piece.size());
  POT_RETURN_IF_ERROR(Scan());
  return Encode(safe_, ids);
}

absl::Status IncrementalTokenizer::Finish(std::vector<int32_t>* ids) {
  if (scanned_ < text_.size()) return WrongByte(scanned_);
  return Encode(text_.size(), ids);
}

absl::Status IncrementalTokenizer::Scan() {
  while (scanned_ < text_.size()) {
    const Utf8Unit unit =
        FirstUtf8Unit(absl::string_view(text_).substr(scanned_));
    if (unit.incomplete) break;
    if (unit.code_point < 0) return WrongByte(scanned_);
    const CharClass now = classes_->Of(unit.code_point);
    bool after_space = false;
    if (scanned_ > 0) {
      after_space = previous_class_ == CharClass::kSpace;
      if (!after_space && now != previous_class_ &&
          !(now == CharClass::kLetter && text_[scanned_ - 1] == '\'')) {
        safe_ = scanned_;
      } else if (after_space && two_spaces_ && now != CharClass::kSpace) {
        safe_ = previous_begin_;
      }
    }
    two_spaces_ = after_space && now == CharClass::kSpace;
    previous_class_ = now;
    previous_begin_ = scanned_;
    scanned_ += unit.length;
    if (scanned_ - safe_ > kMaxWordBytes) {
      return FieldError(
          "WORD_TOO_LONG", field_,
          absl::StrCat("has a word or a run of blanks, from byte ",
                       dropped_ + static_cast<int64_t>(safe_),
                       " on, of more than ", kMaxWordBytes, " bytes"),
          absl::StrCat(kMaxWordBytes), absl::StrCat(scanned_ - safe_));
    }
  }
  return absl::OkStatus();
}

absl::Status IncrementalTokenizer::Encode(size_t end,
                                          std::vector<int32_t>* ids) {
  if (end == 0) return absl::OkStatus();
  const absl::Status status =
      tokenizer_->Encode(absl::string_view(text_).substr(0, end), ids);
  if (!status.ok()) {
    return FieldError("UNKNOWN_TOKEN", field_,
                      absl::StrCat("cannot be tokenized, counting from byte ",
                                   dropped_, " on: ", status.message()),
                      "", "");
  }
  text_.erase(0, end);
  dropped_ += static_cast<int64_t>(end);
  scanned_ -= end;
  previous_begin_ -= end;
  safe_ = 0;
  return absl::OkStatus();
}

absl::Status IncrementalTokenizer::WrongByte(size_t offset) const {
  const int64_t in_text = dropped_ + static_cast<int64_t>(offset);
  return FieldError(
      "INVALID_UTF8", field_,
      absl::StrCat("is not UTF-8: byte ", in_text, " begins no valid sequence"),
      "", absl::StrCat(in_text));
}

}  // namespace pot
