// The number format: a weight is scale * level, and a level is picked from a
// small book of sums of powers of two by an n-bit code.
//
// potN, N = 2..6 bits (15 levels of arXiv 2506.00315 at N = 4, and one more):
//   code = s m, one sign bit s and an (N-1)-bit field m
//   m > 0        (-1)^s * 2^(m-1)          +-2^0 .. +-2^(2^(N-1)-2)
//   s = 0, m = 0   0
//   s = 1, m = 0  -2^(2^(N-1)-1)           the slot of minus zero
//   N = 4: {0, +-1, +-2, .. +-64, -128}. The scale may be negative, so either
//   end can have the longer arm.
// potN-strict, N = 2..4 (arXiv 2507.11959: no zero):
//   (-1)^s * 2^m                           N = 4: {+-1, +-2, .. +-128}
// twohot4 (n-hot PoT, arXiv 2103.11704): (-1)^s * {1,3,5,7,10,14,20,28}[m],
//   each of them 2^a or 2^a +- 2^b.
// intN, N = 3, 4: -2^(N-1) .. 2^(N-1) - 1, the code in two's complement. Uniform
//   levels, to compare with; up to 8 in magnitude each is 2^a or 2^a +- 2^b too.
//
// Every level of a format of at most 4 bits lies in [-128, 128], every one of
// the wider formats in [-2^31, 2^30].
#ifndef POT_ENGINE_QUANT_POT_FORMAT_H_
#define POT_ENGINE_QUANT_POT_FORMAT_H_

#include <array>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace pot {

// The code of one weight, right-aligned: only the low `bits` bits are set.
using PotCode = uint8_t;

// A level as at most two shifted ones: sign[0] * 2^shift[0] +
// sign[1] * 2^shift[1]. A sign of 0 means that the term is absent.
struct PotTerms {
  std::array<int8_t, 2> sign{};
  std::array<uint8_t, 2> shift{};
};

struct PotFormat {
  static constexpr int kMaxBits = 6;

  absl::string_view name;
  int bits;  // of a code
  // Level of each code, `1 << bits` entries in use.
  std::array<int32_t, 1 << kMaxBits> levels;
  // The same levels as shifts.
  std::array<PotTerms, 1 << kMaxBits> terms;
  // The book is not symmetric about 0: a negative scale can fit better.
  bool lopsided;
  // Exponent of the largest level that the papers' quantizer uses: levels
  // {0, +-2^0 .. +-2^paper_max_exponent}; -1 when the book lacks a zero or is
  // not one-hot, so that `paper` mode does not apply.
  int paper_max_exponent;

  constexpr int num_codes() const { return 1 << bits; }
  // max |level|.
  int64_t top() const;
};

// All formats, in the order of the comment above.
absl::Span<const PotFormat> AllPotFormats();

// INVALID_ARGUMENT, listing the known names, for any other.
absl::StatusOr<const PotFormat*> FindPotFormat(absl::string_view name);

}  // namespace pot

#endif  // POT_ENGINE_QUANT_POT_FORMAT_H_
