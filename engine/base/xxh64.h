// XXH64 with seed 0, a fast checksum that is not cryptographic
// (github.com/Cyan4973/xxHash, doc/xxhash_spec.md, version 0.1.1).
#ifndef POT_ENGINE_BASE_XXH64_H_
#define POT_ENGINE_BASE_XXH64_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/types/span.h"

namespace pot {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "words are read as the machine orders them");

inline uint64_t Xxh64(absl::Span<const uint8_t> bytes) {
  constexpr uint64_t kPrime1 = 0x9E3779B185EBCA87;
  constexpr uint64_t kPrime2 = 0xC2B2AE3D27D4EB4F;
  constexpr uint64_t kPrime3 = 0x165667B19E3779F9;
  constexpr uint64_t kPrime4 = 0x85EBCA77C2B2AE63;
  constexpr uint64_t kPrime5 = 0x27D4EB2F165667C5;
  const auto rotate = [](uint64_t x, int bits) {
    return (x << bits) | (x >> (64 - bits));
  };
  const auto round = [&](uint64_t lane, uint64_t word) {
    return rotate(lane + word * kPrime2, 31) * kPrime1;
  };
  const uint8_t* at = bytes.data();
  size_t left = bytes.size();
  const auto next = [&at, &left](auto word) {
    std::memcpy(&word, at, sizeof(word));
    at += sizeof(word);
    left -= sizeof(word);
    return word;
  };

  uint64_t hash = kPrime5;
  if (left >= 32) {
    uint64_t lanes[4] = {kPrime1 + kPrime2, kPrime2, 0, 0 - kPrime1};
    while (left >= 32) {
      for (uint64_t& lane : lanes) lane = round(lane, next(uint64_t{}));
    }
    hash = rotate(lanes[0], 1) + rotate(lanes[1], 7) + rotate(lanes[2], 12) +
           rotate(lanes[3], 18);
    for (const uint64_t lane : lanes) {
      hash = (hash ^ round(0, lane)) * kPrime1 + kPrime4;
    }
  }
  hash += bytes.size();
  while (left >= 8) {
    hash = rotate(hash ^ round(0, next(uint64_t{})), 27) * kPrime1 + kPrime4;
  }
  if (left >= 4) {
    hash = rotate(hash ^ next(uint32_t{}) * kPrime1, 23) * kPrime2 + kPrime3;
  }
  while (left > 0) {
    hash = rotate(hash ^ next(uint8_t{}) * kPrime5, 11) * kPrime1;
  }
  hash = (hash ^ (hash >> 33)) * kPrime2;
  hash = (hash ^ (hash >> 29)) * kPrime3;
  return hash ^ (hash >> 32);
}

// Of the bits of `values`, each 4 bytes, lowest first.
inline uint64_t Xxh64(absl::Span<const float> values) {
  return Xxh64(absl::MakeConstSpan(
      reinterpret_cast<const uint8_t*>(values.data()), values.size() * 4));
}

}  // namespace pot

#endif  // POT_ENGINE_BASE_XXH64_H_
