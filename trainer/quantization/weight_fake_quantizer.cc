#include "trainer/quantization/weight_fake_quantizer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/kernels/float_math.h"
#include "trainer/quantization/rounding_kernels.h"

namespace pot {
namespace {

// Weights that one thread takes at a time.
constexpr int64_t kBlock = int64_t{1} << 16;

// Of log |s|: normal floats, and e^60 times the top level of any format is
// finite.
constexpr float kMinLogScale = -87.0f;
constexpr float kMaxLogScale = 60.0f;

float ClampLogScale(float log_scale) {
  return std::clamp(log_scale, kMinLogScale, kMaxLogScale);
}

}  // namespace

int64_t WeightFakeQuantizer::NumScales(int64_t rows, int64_t cols,
                                       Granularity granularity) {
  if (granularity.kind == Granularity::Kind::kTensor) return 1;
  return rows * granularity.GroupsPerRow(cols);
}

absl::StatusOr<WeightFakeQuantizer> WeightFakeQuantizer::Create(
    int64_t rows, int64_t cols, const FakeQuantizeOptions& options,
    LogScales log_scales) {
  const QuantizeOptions& quantize = options.quantize;
  POT_RETURN_IF_ERROR(CheckQuantizeOptions(quantize));
  if (quantize.granularity.power_of_two || quantize.outliers > 0) {
    return absl::InvalidArgumentError(
        "training knows no outliers and no powers of two as scales of groups");
  }
  POT_RETURN_IF_ERROR(
      CheckPotMatrixShape(quantize.format, rows, cols, quantize.granularity));
  if (options.search_interval < 1) {
    return absl::InvalidArgumentError(absl::StrCat("search_interval is ",
                                                   options.search_interval,
                                                   "; it must be at least 1"));
  }
  if (options.learned_scales &&
      (log_scales.values == nullptr || log_scales.gradients == nullptr)) {
    return absl::InvalidArgumentError(
        "learned scales need memory for values and gradients");
  }
  WeightFakeQuantizer result;
  result.rows_ = rows;
  result.cols_ = cols;
  result.options_ = options;
  result.table_ = MakeRoundingTable(quantize);
  result.log_scales_ = log_scales;
  result.scales_.resize(NumScales(rows, cols, quantize.granularity));
  return result;
}

bool WeightFakeQuantizer::one_scale() const {
  return options_.quantize.granularity.kind == Granularity::Kind::kTensor;
}

bool WeightFakeQuantizer::searches_on_one_thread() const {
  return one_scale() && options_.quantize.mode != QuantizeMode::kPaper;
}

int64_t WeightFakeQuantizer::run_length() const {
  return one_scale() ? kBlock : options_.quantize.granularity.GroupSize(cols_);
}

int64_t WeightFakeQuantizer::num_sums() const {
  return one_scale() ? (rows_ * cols_ + kBlock - 1) / kBlock : num_scales();
}

template <typename Function>
void WeightFakeQuantizer::ForEachStretch(Function function) const {
  if (one_scale()) {
    const int64_t size = rows_ * cols_;
    const int64_t blocks = num_sums();
#pragma omp parallel for schedule(static) if (blocks > 1)
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t first = b * kBlock;
      function(Stretch{first, std::min(kBlock, size - first), 0, b});
    }
    return;
  }
  const int64_t groups = options_.quantize.granularity.GroupsPerRow(cols_);
  // Runs of equal length go on from row to row; a row with a shorter last run
  // is a stretch of its own.
  const bool even = cols_ % run_length() == 0;
  const int64_t block_rows = std::max<int64_t>(1, kBlock / cols_);
  const int64_t blocks = (rows_ + block_rows - 1) / block_rows;
#pragma omp parallel for schedule(static) if (blocks > 1)
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t end = std::min(rows_, (b + 1) * block_rows);
    const int64_t step = even ? end - b * block_rows : 1;
    for (int64_t row = b * block_rows; row < end; row += step) {
      function(Stretch{row * cols_, step * cols_, row * groups, row * groups});
    }
  }
}

void WeightFakeQuantizer::ChooseScales(const float* w, bool all) {
  const QuantizeOptions& quantize = options_.quantize;
  // The papers' scale depends on the largest magnitude alone.
  const bool paper = quantize.mode == QuantizeMode::kPaper;
  const auto choose = [&](int64_t first, int64_t count) {
    if (!paper) return ChooseScale({w + first, size_t(count)}, quantize);
    const float max = MaxMagnitude(w + first, count);
    return ChooseScale({&max, 1}, quantize);
  };
  if (one_scale()) {
    if (!all && scales_[0] != 0.0f) return;
    if (!paper) {
      scales_[0] = choose(0, rows_ * cols_);
      return;
    }
    std::vector<float> maxima(num_sums());
    ForEachStretch([&](const Stretch& stretch) {
      maxima[stretch.sum] = MaxMagnitude(w + stretch.first, stretch.count);
    });
    scales_[0] = ChooseScale(maxima, quantize);
    return;
  }
  const int64_t run = run_length();
  ForEachStretch([&](const Stretch& stretch) {
    float* scale = scales_.data() + stretch.scale;
    for (int64_t i = 0; i < stretch.count; i += run, ++scale) {
      if (!all && *scale != 0.0f) continue;
      *scale = choose(stretch.first + i, std::min(run, stretch.count - i));
    }
  });
}

void WeightFakeQuantizer::UpdateScales(const float* w) {
  auto& [started, since_search] = counters_;
  const bool learned = options_.learned_scales;
  const bool follow = options_.quantize.mode == QuantizeMode::kPaper ||
                      since_search >= options_.search_interval;
  const bool all = started == 0 || (!learned && follow);
  if (!frozen()) {
    std::vector<float> before;
    if (learned) before = scales_;
    ChooseScales(w, all);
    for (size_t i = 0; i < before.size(); ++i) {
      if (started != 0 && before[i] != 0.0f) continue;
      if (scales_[i] == 0.0f) continue;
      log_scales_.values[i] =
          static_cast<float>(Log(std::fabs(double{scales_[i]})));
    }
    since_search =
        all ? 1 : std::min(since_search + 1, options_.search_interval);
    started = 1;
  }
  if (!learned) return;
#pragma omp parallel for schedule(static) if (num_scales() > kBlock)
  for (int64_t i = 0; i < num_scales(); ++i) {
    if (scales_[i] == 0.0f) continue;
    log_scales_.values[i] = ClampLogScale(log_scales_.values[i]);
    scales_[i] = std::copysign(ExpF(log_scales_.values[i]), scales_[i]);
  }
}

void WeightFakeQuantizer::Round(const float* w, float* effective) const {
  const auto levels = Levels();
  ForEachStretch([&](const Stretch& stretch) {
    const float* scales = scales_.data() + stretch.scale;
    float* out = effective + stretch.first;
    if (frozen()) {
      RoundHeldRuns(levels.data(), codes_.data() + stretch.first, stretch.count,
                    run_length(), scales, out);
    } else {
      RoundRuns(table_, w + stretch.first, stretch.count, run_length(), scales,
                out);
    }
  });
}

void WeightFakeQuantizer::Forward(const float* w, float* effective) {
  UpdateScales(w);
  Round(w, effective);
}

void WeightFakeQuantizer::Backward(const float* w, float* grad) {
  const bool clip = options_.straight_through == StraightThrough::kClipped;
  const bool learned = options_.learned_scales;
  if (!clip && !learned && !frozen()) return;
  std::vector<double> sums(learned ? num_sums() : 0);
  const auto levels = Levels();
  ForEachStretch([&](const Stretch& stretch) {
    const float* scales = scales_.data() + stretch.scale;
    double* sum = learned ? sums.data() + stretch.sum : nullptr;
    float* g = grad + stretch.first;
    if (frozen()) {
      BackwardHeldRuns(levels.data(), codes_.data() + stretch.first,
                       stretch.count, run_length(), scales, sum, g);
    } else {
      BackwardRuns(table_, w + stretch.first, stretch.count, run_length(),
                   scales, clip, sum, g);
    }
  });
  if (learned) AddScaleGradients(sums);
}

void WeightFakeQuantizer::AddScaleGradients(absl::Span<const double> sums) {
  const double top = std::max(table_.limit[0], table_.limit[1]);
  const auto add = [&](int64_t scale, int64_t count, double sum) {
    log_scales_.gradients[scale] +=
        static_cast<float>(sum / std::sqrt(static_cast<double>(count) * top));
  };
  if (one_scale()) {
    double total = 0.0;
    for (const double sum : sums) total += sum;
    add(0, rows_ * cols_, total);
    return;
  }
  const int64_t run = run_length();
  const int64_t groups = options_.quantize.granularity.GroupsPerRow(cols_);
  for (int64_t i = 0; i < num_scales(); ++i) {
    add(i, std::min(run, cols_ - i % groups * run), sums[i]);
  }
}

std::array<float, 1 << PotFormat::kMaxBits> WeightFakeQuantizer::Levels()
    const {
  const PotFormat& format = *options_.quantize.format;
  std::array<float, 1 << PotFormat::kMaxBits> levels{};
  std::copy(format.levels.begin(), format.levels.end(), levels.begin());
  return levels;
}

void WeightFakeQuantizer::RequestSearch() {
  counters_[1] = options_.search_interval;
}

std::vector<PotCode> WeightFakeQuantizer::CodesOf(const float* w) const {
  std::vector<PotCode> codes(rows_ * cols_);
  const int64_t run = run_length();
  ForEachStretch([&](const Stretch& stretch) {
    for (int64_t i = 0; i < stretch.count; i += run) {
      const size_t n = std::min(run, stretch.count - i);
      const int64_t first = stretch.first + i;
      QuantizeGroup({w + first, n}, scales_[stretch.scale + i / run],
                    options_.quantize, {codes.data() + first, n});
    }
  });
  return codes;
}

void WeightFakeQuantizer::FreezeCodes(const float* w) {
  if (frozen()) return;
  if (counters_[0] == 0) UpdateScales(w);
  codes_ = CodesOf(w);
}

absl::StatusOr<PotMatrix> WeightFakeQuantizer::Export(const float* w) const {
  if (counters_[0] == 0) {
    return absl::FailedPreconditionError(
        "export of a matrix that no forward pass has seen");
  }
  const QuantizeOptions& quantize = options_.quantize;
  if (frozen()) {
    return PotMatrix::FromCodes(quantize.format, rows_, cols_,
                                quantize.granularity, codes_, scales_);
  }
  for (int64_t i = 0; i < rows_ * cols_; ++i) {
    // Negated, so that a NaN fails too.
    if (!(std::fabs(w[i]) <= kMaxWeight)) {
      return absl::InvalidArgumentError(
          absl::StrCat("weight at row ", i / cols_, ", column ", i % cols_,
                       " is ", w[i], "; weights must be finite and at most ",
                       kMaxWeight, " in magnitude"));
    }
  }
  return PotMatrix::FromCodes(quantize.format, rows_, cols_,
                              quantize.granularity, CodesOf(w), scales_);
}

void WeightFakeQuantizer::AppendState(const std::string& prefix,
                                      StateTensors* state) const {
  pot::AppendState<float>(prefix + "scales", TensorType::kF32, {num_scales()},
                          scales_, state);
  if (options_.learned_scales) {
    pot::AppendState<float>(
        prefix + "log_scales", TensorType::kF32, {num_scales()},
        {log_scales_.values, static_cast<size_t>(num_scales())}, state);
  }
  if (frozen()) {
    pot::AppendState<PotCode>(prefix + "codes", TensorType::kU8, {rows_, cols_},
                              codes_, state);
  }
  pot::AppendState<int64_t>(prefix + "counters", TensorType::kI64, {2},
                            counters_, state);
}

absl::Status WeightFakeQuantizer::Restore(const std::string& prefix,
                                          const TensorMap& tensors) {
  const auto bad = [&](const char* what, const char* why) {
    return absl::InvalidArgumentError(
        absl::StrCat("the snapshot's tensor ", prefix, what, " ", why));
  };
  std::array<int64_t, 2> counters;
  POT_RETURN_IF_ERROR(ReadState<int64_t>(tensors, prefix + "counters",
                                         TensorType::kI64, {2},
                                         absl::MakeSpan(counters)));
  if (counters[0] < 0 || counters[0] > 1 || counters[1] < 0) {
    return bad("counters", "holds a count that no run has");
  }
  std::vector<float> scales(scales_.size());
  POT_RETURN_IF_ERROR(ReadState<float>(tensors, prefix + "scales",
                                       TensorType::kF32, {num_scales()},
                                       absl::MakeSpan(scales)));
  std::vector<float> log_scales;
  if (options_.learned_scales) {
    log_scales.resize(scales_.size());
    POT_RETURN_IF_ERROR(ReadState<float>(tensors, prefix + "log_scales",
                                         TensorType::kF32, {num_scales()},
                                         absl::MakeSpan(log_scales)));
  }
  std::vector<PotCode> codes;
  if (tensors.count(prefix + "codes") != 0) {
    codes.resize(rows_ * cols_);
    POT_RETURN_IF_ERROR(ReadState<PotCode>(tensors, prefix + "codes",
                                           TensorType::kU8, {rows_, cols_},
                                           absl::MakeSpan(codes)));
    const int num_codes = options_.quantize.format->num_codes();
    for (const PotCode code : codes) {
      if (code >= num_codes) return bad("codes", "holds an unknown code");
    }
  }
  const auto finite = [](float x) { return std::isfinite(x); };
  if (!std::all_of(scales.begin(), scales.end(), finite)) {
    return bad("scales", "holds a value that is not finite");
  }
  if (!std::all_of(log_scales.begin(), log_scales.end(), finite)) {
    return bad("log_scales", "holds a value that is not finite");
  }
  counters_ = {counters[0], std::min(counters[1], options_.search_interval)};
  scales_ = std::move(scales);
  codes_ = std::move(codes);
  std::copy(log_scales.begin(), log_scales.end(), log_scales_.values);
  return absl::OkStatus();
}

}  // namespace pot
