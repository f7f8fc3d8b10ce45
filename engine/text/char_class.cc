#include "engine/text/char_class.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"

namespace pot {
namespace {

// ECMA-262 WhiteSpace and LineTerminator, as inclusive ranges.
constexpr int32_t kSpaceRanges[][2] = {
    {0x09, 0x0D},     {0x20, 0x20},     {0xA0, 0xA0},     {0x1680, 0x1680},
    {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F},
    {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};

std::string Pcre2Error(int code) {
  PCRE2_UCHAR message[256];
  if (pcre2_get_error_message(code, message, sizeof(message)) < 0) {
    return absl::StrCat("error ", code);
  }
  return reinterpret_cast<const char*>(message);
}

struct Pcre2Deleter {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
};

// Finds runs of letters and of numbers in UTF-8.
class RunFinder {
 public:
  struct Run {
    size_t begin, end;  // bytes; empty when there is none
    CharClass char_class;
  };

  static absl::StatusOr<RunFinder> Create() {
    constexpr char kPattern[] = R"((\p{L}+)|\p{N}+)";
    int error = 0;
    PCRE2_SIZE offset = 0;
    RunFinder finder;
    finder.code_.reset(pcre2_compile(
        reinterpret_cast<PCRE2_SPTR>(kPattern), PCRE2_ZERO_TERMINATED,
        PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr));
    if (finder.code_ == nullptr) {
      return absl::FailedPreconditionError(
          absl::StrCat("PCRE2 cannot tell Unicode's letters and numbers: ",
                       Pcre2Error(error)));
    }
    // Faster where the system allows it; matching works without.
    pcre2_jit_compile(finder.code_.get(), PCRE2_JIT_COMPLETE);
    finder.match_.reset(
        pcre2_match_data_create_from_pattern(finder.code_.get(), nullptr));
    if (finder.match_ == nullptr) {
      return absl::ResourceExhaustedError("PCRE2: out of memory");
    }
    return finder;
  }

  absl::StatusOr<Run> Next(const std::string& text, size_t start) const {
    const int count =
        pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                    text.size(), start, 0, match_.get(), nullptr);
    if (count == PCRE2_ERROR_NOMATCH) {
      return Run{text.size(), text.size(), CharClass::kOther};
    }
    if (count < 0) {
      return absl::InternalError(absl::StrCat("PCRE2: ", Pcre2Error(count)));
    }
    // Group 1, the letters, is set exactly when more than group 0 is.
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(match_.get());
    return Run{offsets[0], offsets[1],
               count > 1 ? CharClass::kLetter : CharClass::kNumber};
  }

 private:
  std::unique_ptr<pcre2_code, Pcre2Deleter> code_;
  std::unique_ptr<pcre2_match_data, Pcre2Deleter> match_;
};

}  // namespace

absl::StatusOr<CharClasses> CharClasses::Build() {
  POT_ASSIGN_OR_RETURN(const RunFinder finder, RunFinder::Create());
  CharClasses classes;
  for (int32_t page_index = 0; page_index < kNumPages; ++page_index) {
    const int32_t first = page_index * kPageSize;
    Page page;
    page.fill(CharClass::kOther);
    // UTF-8 has no surrogates; they stay kOther.
    if (first < 0xD800 || first > 0xDFFF) {
      std::string text;
      std::array<size_t, kPageSize> offset_of;
      for (int32_t i = 0; i < kPageSize; ++i) {
        offset_of[i] = text.size();
        AppendUtf8(first + i, &text);
      }
      for (size_t start = 0; start < text.size();) {
        POT_ASSIGN_OR_RETURN(const RunFinder::Run run,
                             finder.Next(text, start));
        for (int32_t i = 0; i < kPageSize; ++i) {
          if (offset_of[i] >= run.begin && offset_of[i] < run.end) {
            page[i] = run.char_class;
          }
        }
        start = run.end;
      }
    }
    for (const auto& [low, high] : kSpaceRanges) {
      const int32_t end = std::min(high + 1, first + kPageSize);
      for (int32_t c = std::max(low, first); c < end; ++c) {
        page[c - first] = CharClass::kSpace;
      }
    }
    const auto same =
        std::find(classes.pages_.begin(), classes.pages_.end(), page);
    classes.page_of_[page_index] =
        static_cast<uint16_t>(same - classes.pages_.begin());
    if (same == classes.pages_.end()) classes.pages_.push_back(page);
  }
  return classes;
}

absl::StatusOr<const CharClasses*> CharClasses::Get() {
  static const auto* const classes = new absl::StatusOr<CharClasses>(Build());
  if (!classes->ok()) return classes->status();
  return &**classes;
}

}  // namespace pot
