#include "engine/quant/pot_quantizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/quant/code_packing.h"
#include "engine/quant/level_book.h"
#include "engine/quant/outliers.h"
#include "engine/quant/paper_rounding.h"
#include "engine/quant/scale_search.h"

namespace pot {
namespace {

float MaxMagnitude(absl::Span<const float> group) {
  float max = 0.0f;
  for (const float w : group) max = std::max(max, std::fabs(w));
  return max;
}

// The code of the formula in pot_format.h.
PotCode PaperCode(float w, float scale, const PotFormat& format) {
  const float n = w / scale;
  const float a = RoundHalfEven(std::fabs(n));
  if (a == 0.0f) return 0;
  const int exponent = std::min(RoundedLog2(a), format.paper_max_exponent);
  const int sign = n < 0.0f ? 1 : 0;
  return static_cast<PotCode>(sign << (format.bits - 1) | (exponent + 1));
}

void NearestCodes(absl::Span<const float> group, float scale,
                  const LevelBook& book, absl::Span<PotCode> codes) {
  constexpr size_t kChunk = 256;
  constexpr auto kOnes = [] {
    std::array<float, LevelBook::kMaxMagnitudes> ones{};
    ones.fill(1.0f);
    return ones;
  }();
  float x[kChunk], magnitude[kChunk], index[kChunk];
  for (size_t begin = 0; begin < group.size(); begin += kChunk) {
    const size_t n = std::min(kChunk, group.size() - begin);
    for (size_t i = 0; i < n; ++i) {
      x[i] = group[begin + i] / scale;
      magnitude[i] = std::fabs(x[i]);
    }
    RoundToBook(book, 0.0f, kOnes.data(), magnitude, static_cast<int>(n),
                index);
    for (size_t i = 0; i < n; ++i) {
      const int sign = x[i] < 0.0f ? 1 : 0;
      codes[begin + i] = book.code[sign][std::min(static_cast<int>(index[i]),
                                                  book.last[sign])];
    }
  }
}

RoundIn RoundingOf(QuantizeMode mode) {
  return mode == QuantizeMode::kNearest ? RoundIn::kValue : RoundIn::kLog2;
}

constexpr struct {
  QuantizeMode mode;
  absl::string_view name;
} kModes[] = {
    {QuantizeMode::kPaper, "paper"},
    {QuantizeMode::kNearest, "nearest"},
    {QuantizeMode::kPotPtq, "potptq"},
    {QuantizeMode::kPotPtqStart, "potptq-start"},
};

// Of a group's scale, by its code.
int32_t Factor(PotCode code) {
  static const PotFormat& format = **FindPotFormat("pot4");
  return format.levels[code];
}

absl::Status CheckWeights(absl::Span<const float> weights, int64_t cols) {
  for (size_t i = 0; i < weights.size(); ++i) {
    // Negated, so that a NaN fails too.
    if (!(std::fabs(weights[i]) <= kMaxWeight)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "weight at row ", i / cols, ", column ", i % cols, " is ", weights[i],
          "; weights must be finite and at most ", kMaxWeight,
          " in magnitude"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<QuantizeMode> ParseQuantizeMode(absl::string_view text) {
  std::string known;
  for (const auto& [mode, name] : kModes) {
    if (text == name) return mode;
    absl::StrAppend(&known, known.empty() ? "" : ", ", name);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown quantizer ", Quote(text), "; known are ", known));
}

absl::string_view QuantizeModeName(QuantizeMode mode) {
  for (const auto& [each, name] : kModes) {
    if (each == mode) return name;
  }
  return "";
}

absl::Status CheckQuantizeOptions(const QuantizeOptions& options) {
  if (options.format == nullptr) {
    return absl::InvalidArgumentError("no number format to quantize to");
  }
  if (FindLevelBook(options.format) == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("number format ", options.format->name,
                     " is not one of the known formats"));
  }
  if (options.mode == QuantizeMode::kPaper &&
      options.format->paper_max_exponent < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "paper quantizes to {0, +-2^0 .. +-2^k}; format ", options.format->name,
        " has no such levels, pot2 to pot6 have"));
  }
  if (!(options.paper_eps >= 0.0f && options.paper_eps <= kMaxWeight)) {
    return absl::InvalidArgumentError(
        absl::StrCat("paper eps ", options.paper_eps, "; it must be in [0, ",
                     kMaxWeight, "]"));
  }
  if (options.granularity.power_of_two &&
      options.mode != QuantizeMode::kNearest) {
    return absl::InvalidArgumentError(absl::StrCat(
        "granularity ", options.granularity.ToString(),
        " is for the quantizer nearest, not ", QuantizeModeName(options.mode)));
  }
  return CheckOutlierShare(options.outliers);
}

float ChooseScale(absl::Span<const float> group, const QuantizeOptions& options,
                  ThreadPool* pool) {
  const float max = MaxMagnitude(group);
  if (options.mode == QuantizeMode::kPaper) {
    const float top = std::ldexp(1.0f, options.format->paper_max_exponent);
    return std::max(max / top, options.paper_eps);
  }
  if (max == 0.0f) return 0.0f;
  if (options.mode == QuantizeMode::kPotPtqStart) {
    const double s0 = 2.0 * max / static_cast<double>(options.format->top());
    return std::max(static_cast<float>(s0), std::numeric_limits<float>::min());
  }
  return SearchScale(group, max, *options.format, RoundingOf(options.mode),
                     pool);
}

void QuantizeGroup(absl::Span<const float> group, float scale,
                   const QuantizeOptions& options, absl::Span<PotCode> codes) {
  if (scale == 0.0f) {
    std::fill(codes.begin(), codes.end(), PotCode{0});
    return;
  }
  if (options.mode != QuantizeMode::kPaper) {
    NearestCodes(group, scale,
                 *FindLevelBook(options.format, RoundingOf(options.mode)),
                 codes);
    return;
  }
  for (size_t i = 0; i < group.size(); ++i) {
    codes[i] = PaperCode(group[i], scale, *options.format);
  }
}

absl::StatusOr<PotMatrix> QuantizePot(absl::Span<const float> weights,
                                      int64_t rows, int64_t cols,
                                      const QuantizeOptions& options,
                                      ThreadPool* pool) {
  POT_RETURN_IF_ERROR(CheckQuantizeOptions(options));
  POT_RETURN_IF_ERROR(
      CheckPotMatrixShape(options.format, rows, cols, options.granularity));
  if (weights.size() != static_cast<uint64_t>(rows * cols)) {
    return absl::InvalidArgumentError(absl::StrCat(
        weights.size(), " weights for a matrix of ", rows, " x ", cols));
  }
  POT_RETURN_IF_ERROR(CheckWeights(weights, cols));
  if (options.outliers > 0) {
    std::vector<float> others(weights.begin(), weights.end());
    POT_ASSIGN_OR_RETURN(
        const ExactWeights exact,
        TakeOutliers(options.outliers, absl::MakeSpan(others)));
    QuantizeOptions dense_options = options;
    dense_options.outliers = 0;
    POT_ASSIGN_OR_RETURN(const PotMatrix dense,
                         QuantizePot(others, rows, cols, dense_options, pool));
    return AddOutliers(dense, exact);
  }

  const int64_t group_size = options.granularity.GroupSize(cols);
  const int64_t groups = options.granularity.GroupsPerRow(cols);
  const bool one_scale = options.granularity.kind == Granularity::Kind::kTensor;
  std::vector<PotCode> codes(weights.size());
  const bool power_of_two = options.granularity.power_of_two;
  std::vector<float> scales(static_cast<size_t>(one_scale ? 1
                                                : power_of_two
                                                    ? rows
                                                    : rows * groups));
  const int64_t factor_bytes =
      power_of_two ? PotMatrix::CodeBytesPerRow(4, groups) : 0;
  std::vector<uint8_t> factors(static_cast<size_t>(rows * factor_bytes));
  if (one_scale) scales[0] = ChooseScale(weights, options, pool);

  const auto quantize_rows = [&](size_t begin, size_t end) {
    std::vector<PotCode> row_factors(power_of_two ? groups : 0);
    for (int64_t row = begin; row < static_cast<int64_t>(end); ++row) {
      if (power_of_two) {
        scales[row] =
            SearchRowScale(weights.subspan(row * cols, cols), group_size,
                           *options.format, absl::MakeSpan(row_factors));
        PackCodes(4, row_factors.data(), groups,
                  factors.data() + row * factor_bytes);
      }
      for (int64_t g = 0; g < groups; ++g) {
        const size_t first = row * cols + g * group_size;
        const size_t n = std::min(group_size, cols - g * group_size);
        const absl::Span<const float> group = weights.subspan(first, n);
        float scale;
        if (power_of_two) {
          scale = scales[row] * static_cast<float>(Factor(row_factors[g]));
        } else {
          if (!one_scale)
            scales[row * groups + g] = ChooseScale(group, options);
          scale = scales[one_scale ? 0 : row * groups + g];
        }
        QuantizeGroup(group, scale, options,
                      absl::MakeSpan(codes).subspan(first, n));
      }
    }
  };
  if (pool != nullptr) {
    constexpr int64_t kGrainWeights = 1 << 14;
    const size_t grain = std::max<int64_t>(1, kGrainWeights / cols);
    pool->ParallelFor(rows, grain, quantize_rows);
  } else {
    quantize_rows(0, rows);
  }
  return PotMatrix::FromCodes(options.format, rows, cols, options.granularity,
                              codes, std::move(scales), std::move(factors));
}

double NormalizedSquaredError(absl::Span<const float> weights,
                              const PotMatrix& quantized) {
  const int64_t cols = quantized.cols();
  std::vector<float> row_weights(static_cast<size_t>(cols));
  double error = 0.0;
  double power = 0.0;
  for (int64_t row = 0; row < quantized.rows(); ++row) {
    quantized.DequantizeRow(row, absl::MakeSpan(row_weights));
    for (int64_t k = 0; k < cols; ++k) {
      const double w = weights[row * cols + k];
      const double e = w - row_weights[k];
      error += e * e;
      power += w * w;
    }
  }
  return power > 0.0 ? error / power : 0.0;
}

}  // namespace pot
