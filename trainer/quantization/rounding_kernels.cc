#include "trainer/quantization/rounding_kernels.h"

#include <algorithm>
#include <cmath>

#include "trainer/base/multiversion.h"

// Inlined into each version of its caller, and compiled for that CPU.
#define POT_INLINE inline __attribute__((always_inline))

namespace pot {
namespace {

constexpr int kLanes = 16;
// Weights handled together: their buffers stay in the L1 cache. A multiple of
// every group size, so that short runs are not cut.
constexpr int kChunk = 1024;

// Calls piece(begin, end, scale index) for the runs within chunk [begin, end).
template <typename Piece>
POT_INLINE void ForEachPiece(int64_t begin, int64_t end, int64_t run,
                             Piece piece) {
  for (int64_t i = begin; i < end;) {
    const int64_t index = i / run;
    const int64_t last = std::min(end, (index + 1) * run);
    piece(i, last, index);
    i = last;
  }
}

// x[0 .. n) = w / scale, and 0 under scale 0.
POT_INLINE void Divide(const float* w, int n, float scale, float* x) {
  if (scale == 0.0f) {
    std::fill(x, x + n, 0.0f);
    return;
  }
  for (int i = 0; i < n; ++i) x[i] = w[i] / scale;
}

// Magnitudes, before the limit.
POT_INLINE void FindMagnitudes(const RoundingTable& table, const float* x,
                               int n, float* magnitude) {
  static_assert(RoundingTable::kStepBlock == 4);
  std::fill(magnitude, magnitude + n, table.first);
  for (int j = 0; j < table.steps; j += 4) {
    const float t0 = table.threshold[j], t1 = table.threshold[j + 1];
    const float t2 = table.threshold[j + 2], t3 = table.threshold[j + 3];
    const float r0 = table.rise[j], r1 = table.rise[j + 1];
    const float r2 = table.rise[j + 2], r3 = table.rise[j + 3];
    // Every partial sum is a magnitude of the book, so that sums are exact.
    for (int i = 0; i < n; ++i) {
      const float a = std::fabs(x[i]);
      float sum = magnitude[i];
      sum += a > t0 ? r0 : 0.0f;
      sum += a > t1 ? r1 : 0.0f;
      sum += a > t2 ? r2 : 0.0f;
      sum += a > t3 ? r3 : 0.0f;
      magnitude[i] = sum;
    }
  }
}

POT_INLINE float Effective(float x, float magnitude, float limit, float scale) {
  const float level = magnitude < limit ? magnitude : limit;
  // 0 - level, for level 0 has no sign.
  return scale * (x < 0.0f ? 0.0f - level : level);
}

POT_INLINE double SumOf(const float* product, int n) {
  float sum[kLanes] = {};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) sum[lane] += product[i + lane];
  }
  for (int lane = 0; i < n; ++i, ++lane) sum[lane] += product[i];
  double total = 0.0;
  for (const float each : sum) total += each;
  return total;
}

}  // namespace

POT_MULTIVERSION
float MaxMagnitude(const float* w, int64_t count) {
  float max[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const float a = std::fabs(w[i + lane]);
      max[lane] = a > max[lane] ? a : max[lane];
    }
  }
  for (; i < count; ++i) max[0] = std::max(max[0], std::fabs(w[i]));
  return *std::max_element(max, max + kLanes);
}

POT_MULTIVERSION
void RoundRuns(const RoundingTable& table, const float* w, int64_t count,
               int64_t run, const float* scales, float* effective) {
  const float positive = table.limit[0], negative = table.limit[1];
  float x[kChunk], magnitude[kChunk];
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    const int64_t end = std::min<int64_t>(count, begin + kChunk);
    ForEachPiece(begin, end, run, [&](int64_t i, int64_t last, int64_t index) {
      Divide(w + i, static_cast<int>(last - i), scales[index], x + (i - begin));
    });
    FindMagnitudes(table, x, static_cast<int>(end - begin), magnitude);
    ForEachPiece(begin, end, run, [&](int64_t i, int64_t last, int64_t index) {
      const float scale = scales[index];
      const float* px = x + (i - begin);
      const float* pm = magnitude + (i - begin);
      float* out = effective + i;
      const int n = static_cast<int>(last - i);
      for (int k = 0; k < n; ++k) {
        const float limit = px[k] < 0.0f ? negative : positive;
        out[k] = Effective(px[k], pm[k], limit, scale);
      }
    });
  }
}

POT_MULTIVERSION
void BackwardRuns(const RoundingTable& table, const float* w, int64_t count,
                  int64_t run, const float* scales, bool clip, double* sums,
                  float* grad) {
  const float positive = table.limit[0], negative = table.limit[1];
  float x[kChunk], magnitude[kChunk], product[kChunk];
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    const int64_t end = std::min<int64_t>(count, begin + kChunk);
    ForEachPiece(begin, end, run, [&](int64_t i, int64_t last, int64_t index) {
      Divide(w + i, static_cast<int>(last - i), scales[index], x + (i - begin));
    });
    if (sums != nullptr) {
      FindMagnitudes(table, x, static_cast<int>(end - begin), magnitude);
    }
    ForEachPiece(begin, end, run, [&](int64_t i, int64_t last, int64_t index) {
      const float scale = scales[index];
      if (scale == 0.0f) return;
      const float* px = x + (i - begin);
      const float* pm = magnitude + (i - begin);
      const float* pw = w + i;
      float* g = grad + i;
      const int n = static_cast<int>(last - i);
      if (sums != nullptr) {
        for (int k = 0; k < n; ++k) {
          const float limit = px[k] < 0.0f ? negative : positive;
          const float q = Effective(px[k], pm[k], limit, scale);
          const float inside = std::fabs(px[k]) > limit ? 0.0f : pw[k];
          product[k] = g[k] * (q - inside);
        }
        sums[index] += SumOf(product, n);
      }
      if (clip) {
        for (int k = 0; k < n; ++k) {
          const float limit = px[k] < 0.0f ? negative : positive;
          g[k] = std::fabs(px[k]) > limit ? 0.0f : g[k];
        }
      }
    });
  }
}

POT_MULTIVERSION
void RoundHeldRuns(const float* levels, const PotCode* codes, int64_t count,
                   int64_t run, const float* scales, float* effective) {
  ForEachPiece(0, count, run, [&](int64_t i, int64_t last, int64_t index) {
    const float scale = scales[index];
    for (int64_t k = i; k < last; ++k) effective[k] = scale * levels[codes[k]];
  });
}

POT_MULTIVERSION
void BackwardHeldRuns(const float* levels, const PotCode* codes, int64_t count,
                      int64_t run, const float* scales, double* sums,
                      float* grad) {
  float product[kChunk];
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    const int64_t end = std::min<int64_t>(count, begin + kChunk);
    ForEachPiece(begin, end, run, [&](int64_t i, int64_t last, int64_t index) {
      const float scale = scales[index];
      const int n = static_cast<int>(last - i);
      for (int k = 0; k < n; ++k) {
        product[k] = grad[i + k] * (scale * levels[codes[i + k]]);
      }
      if (sums != nullptr) sums[index] += SumOf(product, n);
      std::fill(grad + i, grad + last, 0.0f);
    });
  }
}

}  // namespace pot
