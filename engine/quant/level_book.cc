#include "engine/quant/level_book.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <vector>

namespace pot {
namespace {

LevelBook MakeBook(const PotFormat& format, RoundIn round) {
  // Codes by magnitude and sign.
  std::map<int64_t, std::array<int, 2>> magnitudes;
  for (int code = format.num_codes() - 1; code >= 0; --code) {
    const int64_t level = format.levels[code];
    auto& codes =
        magnitudes.try_emplace(level < 0 ? -level : level, std::array{-1, -1})
            .first->second;
    if (level >= 0) codes[0] = code;
    if (level <= 0) codes[1] = code;
  }
  LevelBook book;
  for (const auto& [magnitude, codes] : magnitudes) {
    const int j = book.count++;
    book.magnitude[j] = static_cast<float>(magnitude);
    for (int sign = 0; sign < 2; ++sign) {
      if (codes[sign] < 0) continue;
      book.code[sign][j] = static_cast<PotCode>(codes[sign]);
      book.last[sign] = j;
    }
  }
  for (int j = 0; j + 1 < book.count; ++j) {
    const double low = book.magnitude[j], high = book.magnitude[j + 1];
    const bool mean = round == RoundIn::kValue || low == 0;
    book.threshold[j] =
        static_cast<float>(mean ? 0.5 * (low + high) : std::sqrt(low * high));
  }
  return book;
}

}  // namespace

const LevelBook* FindLevelBook(const PotFormat* format, RoundIn round) {
  static const std::vector<std::array<LevelBook, 2>>* const books = [] {
    auto* all = new std::vector<std::array<LevelBook, 2>>;
    for (const PotFormat& each : AllPotFormats()) {
      all->push_back(
          {MakeBook(each, RoundIn::kValue), MakeBook(each, RoundIn::kLog2)});
    }
    return all;
  }();
  for (size_t i = 0; i < books->size(); ++i) {
    if (format == &AllPotFormats()[i]) {
      return &(*books)[i][round == RoundIn::kValue ? 0 : 1];
    }
  }
  return nullptr;
}

void RoundToBook(const LevelBook& book, float first, const float* rise,
                 const float* x, int n, float* out) {
  std::fill(out, out + n, first);
  for (int j = 0; j + 1 < book.count; ++j) {
    const float threshold = book.threshold[j];
    const float step = rise[j];
    for (int i = 0; i < n; ++i) out[i] += x[i] > threshold ? step : 0.0f;
  }
}

}  // namespace pot
