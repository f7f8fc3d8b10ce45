// The scale of least squared error. Internal to the quantizer.
#ifndef POT_ENGINE_QUANT_SCALE_SEARCH_H_
#define POT_ENGINE_QUANT_SCALE_SEARCH_H_

#include <cstdint>

#include "absl/types/span.h"
#include "engine/base/thread_pool.h"
#include "engine/quant/level_book.h"
#include "engine/quant/pot_format.h"

namespace pot {

// The best of the scales that a way of rounding is searched with, of either
// sign in a lopsided book, at least 2^-126 in magnitude: with kValue
// kScaleSteps geometric steps, with kLog2 those of arXiv 2507.11959.
// `max_magnitude` > 0 is that of `group`. The result does not depend on `pool`,
// which may be null.
float SearchScale(absl::Span<const float> group, float max_magnitude,
                  const PotFormat& format, RoundIn round, ThreadPool* pool);

// The best scale of a row whose groups of `group_size` weights have powers of
// two, and those powers' pot4 codes, factors[groups]. Searched: all scales of
// ten steps to an octave that lie, for some group, within SearchScale's range,
// and all powers of each group. 0 and codes 0 for a row of zeros.
float SearchRowScale(absl::Span<const float> row, int64_t group_size,
                     const PotFormat& format, absl::Span<PotCode> factors);

}  // namespace pot

#endif  // POT_ENGINE_QUANT_SCALE_SEARCH_H_
