#include "engine/quant/pot_format.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/quote.h"

namespace pot {
namespace {

constexpr int64_t TermValue(const PotTerms& terms) {
  int64_t value = 0;
  for (int i = 0; i < 2; ++i) {
    value += terms.sign[i] * (int64_t{1} << terms.shift[i]);
  }
  return value;
}

constexpr void SetLevel(PotFormat& format, int code, PotTerms terms) {
  format.terms[code] = terms;
  format.levels[code] = static_cast<int32_t>(TermValue(terms));
}

constexpr PotTerms OneHot(bool negative, int exponent) {
  PotTerms terms;
  terms.sign[0] = negative ? -1 : 1;
  terms.shift[0] = static_cast<uint8_t>(exponent);
  return terms;
}

constexpr PotFormat MakePot(absl::string_view name, int bits) {
  PotFormat format{name, bits, {}, {}, true, (1 << (bits - 1)) - 2};
  const int sign_bit = 1 << (bits - 1);
  SetLevel(format, 0, PotTerms{});
  SetLevel(format, sign_bit, OneHot(true, sign_bit - 1));
  for (int m = 1; m < sign_bit; ++m) {
    SetLevel(format, m, OneHot(false, m - 1));
    SetLevel(format, sign_bit | m, OneHot(true, m - 1));
  }
  return format;
}

constexpr PotFormat MakeStrict(absl::string_view name, int bits) {
  PotFormat format{name, bits, {}, {}, false, -1};
  const int sign_bit = 1 << (bits - 1);
  for (int m = 0; m < sign_bit; ++m) {
    SetLevel(format, m, OneHot(false, m));
    SetLevel(format, sign_bit | m, OneHot(true, m));
  }
  return format;
}

constexpr PotFormat MakeTwoHot(absl::string_view name) {
  // 1, 2+1, 4+1, 8-1, 8+2, 16-2, 16+4, 32-4.
  constexpr PotTerms kMagnitudes[] = {
      {{1, 0}, {0, 0}}, {{1, 1}, {1, 0}},  {{1, 1}, {2, 0}}, {{1, -1}, {3, 0}},
      {{1, 1}, {3, 1}}, {{1, -1}, {4, 1}}, {{1, 1}, {4, 2}}, {{1, -1}, {5, 2}},
  };
  PotFormat format{name, 4, {}, {}, false, -1};
  for (int m = 0; m < 8; ++m) {
    PotTerms terms = kMagnitudes[m];
    SetLevel(format, m, terms);
    for (int8_t& sign : terms.sign) sign = static_cast<int8_t>(-sign);
    SetLevel(format, 8 | m, terms);
  }
  return format;
}

constexpr PotFormat MakeUniform(absl::string_view name, int bits) {
  // 0, 1, 2, 2+1, 4, 4+1, 4+2, 8-1, 8.
  constexpr PotTerms kMagnitudes[] = {
      {{0, 0}, {0, 0}}, {{1, 0}, {0, 0}},  {{1, 0}, {1, 0}},
      {{1, 1}, {1, 0}}, {{1, 0}, {2, 0}},  {{1, 1}, {2, 0}},
      {{1, 1}, {2, 1}}, {{1, -1}, {3, 0}}, {{1, 0}, {3, 0}},
  };
  PotFormat format{name, bits, {}, {}, true, -1};
  const int half = 1 << (bits - 1);
  for (int code = 0; code < 2 * half; ++code) {
    const bool negative = code >= half;
    PotTerms terms = kMagnitudes[negative ? 2 * half - code : code];
    if (negative) {
      for (int8_t& sign : terms.sign) sign = static_cast<int8_t>(-sign);
    }
    SetLevel(format, code, terms);
  }
  return format;
}

constexpr PotFormat kFormats[] = {
    MakePot("pot2", 2),           MakePot("pot3", 3),
    MakePot("pot4", 4),           MakePot("pot5", 5),
    MakePot("pot6", 6),           MakeStrict("pot2-strict", 2),
    MakeStrict("pot3-strict", 3), MakeStrict("pot4-strict", 4),
    MakeTwoHot("twohot4"),        MakeUniform("int3", 3),
    MakeUniform("int4", 4),
};

// What the header promises: levels in range, each the sum of its terms, no
// level twice.
constexpr bool IsSound(const PotFormat& format) {
  const bool narrow = format.bits <= 4;
  const int64_t low = narrow ? -128 : -(int64_t{1} << 31);
  const int64_t high = narrow ? 128 : int64_t{1} << 30;
  for (int i = 0; i < format.num_codes(); ++i) {
    const int64_t level = format.levels[i];
    if (level < low || level > high) return false;
    if (level != TermValue(format.terms[i])) return false;
    for (int j = 0; j < i; ++j) {
      if (level == format.levels[j]) return false;
    }
  }
  return true;
}

constexpr bool AllSound() {
  for (const PotFormat& format : kFormats) {
    if (!IsSound(format)) return false;
  }
  return true;
}
static_assert(AllSound());

}  // namespace

int64_t PotFormat::top() const {
  int64_t top = 0;
  for (int i = 0; i < num_codes(); ++i) {
    const int64_t level = levels[i];
    const int64_t magnitude = level < 0 ? -level : level;
    if (magnitude > top) top = magnitude;
  }
  return top;
}

absl::Span<const PotFormat> AllPotFormats() { return kFormats; }

absl::StatusOr<const PotFormat*> FindPotFormat(absl::string_view name) {
  std::string known;
  for (const PotFormat& format : kFormats) {
    if (format.name == name) return &format;
    absl::StrAppend(&known, known.empty() ? "" : ", ", format.name);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "unknown number format ", Quote(name), "; known formats are ", known));
}

}  // namespace pot
