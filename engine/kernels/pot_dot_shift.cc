// What the papers describe, literally: no multiplication, each weight shifts
// its activation once per term of its level and adds or subtracts the result.
#include <algorithm>

#include "engine/kernels/kernel_sets.h"
#include "engine/kernels/packed_pot_matrix.h"

namespace pot {
namespace {

constexpr int64_t kOutputs = PackedPotMatrix::kBlockOutputs;

// sign * (a << shift), by masks: negative is ~0 where the sign is -1, present
// is 0 where the term is absent.
template <typename Int>
struct ShiftTerm {
  int shift = 0;
  Int negative = 0;
  Int present = 0;

  Int Apply(Int a) const {
    return (((a << shift) ^ negative) - negative) & present;
  }
};

// One term of every code's level.
template <typename Int>
struct ShiftBook {
  ShiftTerm<Int> terms[1 << PotFormat::kMaxBits];
  bool empty = true;

  ShiftBook(const PotFormat& format, int index) {
    for (int code = 0; code < format.num_codes(); ++code) {
      const int8_t sign = format.terms[code].sign[index];
      if (sign == 0) continue;
      terms[code].shift = format.terms[code].shift[index];
      terms[code].negative = sign < 0 ? Int{-1} : Int{0};
      terms[code].present = Int{-1};
      empty = false;
    }
  }
};

void AddTerms(const ShiftBook<int32_t>& book, const uint8_t* codes,
              const int8_t* a, int64_t steps, int32_t* acc) {
  for (int64_t step = 0; step < steps; ++step) {
    for (int64_t n = 0; n < kOutputs; ++n) {
      int32_t sum = acc[n];
      for (int64_t j = 0; j < 4; ++j) {
        sum += book.terms[codes[4 * n + j] & 15].Apply(a[j]);
        sum += book.terms[codes[4 * n + j] >> 4].Apply(a[4 + j]);
      }
      acc[n] = sum;
    }
    codes += PackedPotMatrix::kStepBytes;
    a += PackedPotMatrix::kStepInputs;
  }
}

void AddWideTerms(const ShiftBook<int64_t>& book, const uint8_t* codes,
                  const int8_t* a, int64_t count, int64_t* acc) {
  for (int64_t k = 0; k < count; ++k, codes += kOutputs) {
    for (int64_t n = 0; n < kOutputs; ++n) {
      acc[n] += book.terms[codes[n]].Apply(a[k]);
    }
  }
}

}  // namespace

void ShiftPotDot(const uint8_t* codes, const PotFormat& format, const int8_t* a,
                 int64_t a_stride, int num_rows, int64_t steps, int32_t* acc) {
  std::fill_n(acc, num_rows * kOutputs, 0);
  for (int index = 0; index < 2; ++index) {
    const ShiftBook<int32_t> book(format, index);
    if (book.empty) continue;
    for (int row = 0; row < num_rows; ++row) {
      AddTerms(book, codes, a + row * a_stride, steps, acc + row * kOutputs);
    }
  }
}

void WidePotDot(const uint8_t* codes, const PotFormat& format, const int8_t* a,
                int64_t count, int64_t* acc) {
  std::fill_n(acc, kOutputs, 0);
  for (int index = 0; index < 2; ++index) {
    const ShiftBook<int64_t> book(format, index);
    if (!book.empty) AddWideTerms(book, codes, a, count, acc);
  }
}

}  // namespace pot
