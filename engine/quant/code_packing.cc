#include "engine/quant/code_packing.h"

namespace pot {
namespace {

// Eight codes fill exactly `bits` bytes, at most 48 bits of a word.
void PackWord(int bits, const PotCode* codes, int count, uint8_t* bytes) {
  uint64_t word = 0;
  for (int i = 0; i < count; ++i) word |= uint64_t{codes[i]} << (i * bits);
  for (int i = 0; i < (count * bits + 7) / 8; ++i) {
    bytes[i] = static_cast<uint8_t>(word >> (8 * i));
  }
}

void UnpackWord(int bits, const uint8_t* bytes, int count, PotCode* codes) {
  uint64_t word = 0;
  for (int i = 0; i < (count * bits + 7) / 8; ++i) {
    word |= uint64_t{bytes[i]} << (8 * i);
  }
  const unsigned mask = (1u << bits) - 1;
  for (int i = 0; i < count; ++i) {
    codes[i] = static_cast<PotCode>((word >> (i * bits)) & mask);
  }
}

}  // namespace

void PackCodes(int bits, const PotCode* codes, int64_t count, uint8_t* bytes) {
  int64_t k = 0;
  for (; k + 8 <= count; k += 8, bytes += bits) {
    PackWord(bits, codes + k, 8, bytes);
  }
  if (k < count) PackWord(bits, codes + k, static_cast<int>(count - k), bytes);
}

void UnpackCodes(int bits, const uint8_t* bytes, int64_t count,
                 PotCode* codes) {
  int64_t k = 0;
  if (bits == 4) {
    for (; k + 2 <= count; k += 2, ++bytes) {
      codes[k] = *bytes & 15;
      codes[k + 1] = *bytes >> 4;
    }
  } else {
    for (; k + 8 <= count; k += 8, bytes += bits) {
      UnpackWord(bits, bytes, 8, codes + k);
    }
  }
  if (k < count)
    UnpackWord(bits, bytes, static_cast<int>(count - k), codes + k);
}

}  // namespace pot
