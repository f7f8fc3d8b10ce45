#include "engine/quant/pot_matrix.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/quant/code_packing.h"

namespace pot {
namespace {

// The proof of the bounds in the header, for the widest level and activation.
constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();
static_assert(int64_t{128} * 127 * kMaxMatrixCols <= kInt32Max);
static_assert(int64_t{256} * 127 * kMaxMatrixCols <= kInt32Max);
static_assert(kMaxOutlierSum * 254 <= kInt32Max);
static_assert((int64_t{1} << 31) * 127 * kMaxMatrixCols < (int64_t{1} << 54));

int64_t ScaleCount(int64_t rows, int64_t cols, Granularity granularity) {
  if (granularity.kind == Granularity::Kind::kTensor) return 1;
  if (granularity.power_of_two) return rows;
  return rows * granularity.GroupsPerRow(cols);
}

// Of what groups multiply the row's scale by.
const PotFormat& FactorFormat() {
  static const PotFormat& format = **FindPotFormat("pot4");
  return format;
}

absl::Status CheckScales(const PotFormat& format, bool power_of_two,
                         absl::Span<const float> scales) {
  const float top =
      static_cast<float>(format.top()) *
      (power_of_two ? static_cast<float>(FactorFormat().top()) : 1);
  const float limit = std::numeric_limits<float>::max() / top;
  for (size_t i = 0; i < scales.size(); ++i) {
    // Negated, so that a NaN fails too.
    if (!(std::fabs(scales[i]) <= limit)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "scale ", i, " is ", scales[i], "; it must be finite and at most ",
          limit, " in magnitude, so that every weight is finite"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPadding(int bits, int64_t rows, int64_t cols,
                          absl::Span<const uint8_t> codes) {
  const int used = static_cast<int>(cols * bits % 8);
  if (used == 0) return absl::OkStatus();
  const int64_t stride = PotMatrix::CodeBytesPerRow(bits, cols);
  for (int64_t row = 0; row < rows; ++row) {
    if (codes[(row + 1) * stride - 1] >> used != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "padding bits after the codes of row ", row, " are not zero"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckOutliers(const OutlierView& outliers, int64_t rows,
                           int64_t cols) {
  if (outliers.values.size() != outliers.positions.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        outliers.values.size(), " values of ", outliers.size(), " outliers"));
  }
  // Negated, so that a NaN fails too.
  if (!(outliers.scale >= std::numeric_limits<float>::min() &&
        outliers.scale <= kMaxOutlierScale) &&
      outliers.size() != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "scale of the outliers is ", outliers.scale, "; it must be in [",
        std::numeric_limits<float>::min(), ", ", kMaxOutlierScale, "]"));
  }
  int64_t last = -1, last_row = -1, sum = 0;
  for (int64_t i = 0; i < outliers.size(); ++i) {
    const int64_t position = outliers.positions[i];
    if (position >= rows * cols) {
      return absl::InvalidArgumentError(absl::StrCat("outlier ", i, " is at ",
                                                     position, " of ", rows,
                                                     " x ", cols, " weights"));
    }
    if (position <= last) {
      return absl::InvalidArgumentError(absl::StrCat(
          "outlier ", i, " is at ", position, ", the one before at ", last,
          "; positions must ascend"));
    }
    last = position;
    if (position / cols != last_row) sum = 0;
    last_row = position / cols;
    sum += std::abs(int32_t{outliers.values[i]});
    if (sum > kMaxOutlierSum) {
      return absl::InvalidArgumentError(absl::StrCat("the outliers of row ",
                                                     last_row,
                                                     " have a sum of more "
                                                     "than ",
                                                     kMaxOutlierSum));
    }
  }
  return absl::OkStatus();
}

struct OwnedMatrix {
  std::vector<uint8_t> codes, factors;
  std::vector<float> scales;
};

}  // namespace

absl::Status CheckPotMatrixShape(const PotFormat* format, int64_t rows,
                                 int64_t cols, Granularity granularity) {
  if (format == nullptr) {
    return absl::InvalidArgumentError("quantized matrix without a format");
  }
  if (format->bits < 2 || format->bits > PotFormat::kMaxBits) {
    return absl::InvalidArgumentError(
        absl::StrCat("codes of ", format->bits, " bits; 2 to ",
                     PotFormat::kMaxBits, " are supported"));
  }
  if (rows < 1 || rows > kMaxMatrixRows) {
    return absl::InvalidArgumentError(absl::StrCat(
        "matrix of ", rows, " rows; 1 to ", kMaxMatrixRows, " are supported"));
  }
  if (cols < 1 || cols > kMaxMatrixCols) {
    return absl::InvalidArgumentError(
        absl::StrCat("matrix of ", cols, " columns; 1 to ", kMaxMatrixCols,
                     " are supported"));
  }
  const bool grouped = granularity.kind == Granularity::Kind::kGroup;
  if (granularity.power_of_two && !grouped) {
    return absl::InvalidArgumentError(
        "scales of powers of two are for groups alone");
  }
  const int size = granularity.group_size;
  if (grouped ? (size != 32 && size != 64 && size != 128) : size != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("group size ", size,
                     "; 32, 64 and 128 are supported, and 0 without "
                     "groups"));
  }
  return absl::OkStatus();
}

absl::StatusOr<PotMatrix> PotMatrix::Create(const PotFormat* format,
                                            int64_t rows, int64_t cols,
                                            Granularity granularity,
                                            absl::Span<const uint8_t> codes,
                                            absl::Span<const float> scales,
                                            std::shared_ptr<const void> owner,
                                            absl::Span<const uint8_t> factors) {
  POT_RETURN_IF_ERROR(CheckPotMatrixShape(format, rows, cols, granularity));
  // At most 2^24 * 2^16 * 6 bits: no overflow.
  const int64_t code_bytes = rows * CodeBytesPerRow(format->bits, cols);
  if (codes.size() != static_cast<uint64_t>(code_bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(codes.size(), " bytes of codes; ", rows, " x ", cols,
                     " codes of ", format->bits, " bits take ", code_bytes));
  }
  const int64_t scale_count = ScaleCount(rows, cols, granularity);
  if (scales.size() != static_cast<uint64_t>(scale_count)) {
    return absl::InvalidArgumentError(absl::StrCat(
        scales.size(), " scales; granularity ", granularity.ToString(), " of ",
        rows, " x ", cols, " needs ", scale_count));
  }
  const int64_t groups = granularity.GroupsPerRow(cols);
  const int64_t factor_bytes =
      granularity.power_of_two
          ? rows * CodeBytesPerRow(FactorFormat().bits, groups)
          : 0;
  if (factors.size() != static_cast<uint64_t>(factor_bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(factors.size(), " bytes of groups' factors; granularity ",
                     granularity.ToString(), " of ", rows, " x ", cols,
                     " needs ", factor_bytes));
  }
  POT_RETURN_IF_ERROR(CheckScales(*format, granularity.power_of_two, scales));
  POT_RETURN_IF_ERROR(CheckPadding(format->bits, rows, cols, codes));
  if (granularity.power_of_two) {
    POT_RETURN_IF_ERROR(
        CheckPadding(FactorFormat().bits, rows, groups, factors));
  }

  PotMatrix matrix;
  matrix.format_ = format;
  matrix.rows_ = rows;
  matrix.cols_ = cols;
  matrix.granularity_ = granularity;
  matrix.groups_per_row_ = groups;
  matrix.factors_ = factors;
  matrix.codes_ = codes;
  matrix.scales_ = scales;
  matrix.owner_ = std::move(owner);
  return matrix;
}

absl::StatusOr<PotMatrix> PotMatrix::FromCodes(const PotFormat* format,
                                               int64_t rows, int64_t cols,
                                               Granularity granularity,
                                               absl::Span<const PotCode> codes,
                                               std::vector<float> scales,
                                               std::vector<uint8_t> factors) {
  POT_RETURN_IF_ERROR(CheckPotMatrixShape(format, rows, cols, granularity));
  if (codes.size() != static_cast<uint64_t>(rows * cols)) {
    return absl::InvalidArgumentError(absl::StrCat(
        codes.size(), " codes for a matrix of ", rows, " x ", cols));
  }
  const int num_codes = format->num_codes();
  const auto bad = std::find_if(codes.begin(), codes.end(), [&](PotCode code) {
    return code >= num_codes;
  });
  if (bad != codes.end()) {
    const int64_t index = bad - codes.begin();
    return absl::InvalidArgumentError(absl::StrCat(
        "code ", static_cast<int>(*bad), " at row ", index / cols, ", column ",
        index % cols, "; codes of ", format->name, " are below ", num_codes));
  }
  const int64_t stride = CodeBytesPerRow(format->bits, cols);
  auto owned = std::make_shared<OwnedMatrix>();
  owned->codes.resize(static_cast<size_t>(rows * stride));
  owned->scales = std::move(scales);
  owned->factors = std::move(factors);
  for (int64_t row = 0; row < rows; ++row) {
    PackCodes(format->bits, codes.data() + row * cols, cols,
              owned->codes.data() + row * stride);
  }
  const absl::Span<const uint8_t> code_view = owned->codes;
  const absl::Span<const float> scale_view = owned->scales;
  const absl::Span<const uint8_t> factor_view = owned->factors;
  return Create(format, rows, cols, granularity, code_view, scale_view,
                std::move(owned), factor_view);
}

absl::StatusOr<PotMatrix> PotMatrix::WithOutliers(
    OutlierView outliers, std::shared_ptr<const void> owner) const {
  POT_RETURN_IF_ERROR(CheckOutliers(outliers, rows_, cols_));
  PotMatrix matrix = *this;
  matrix.outliers_ = outliers;
  matrix.outlier_owner_ = std::move(owner);
  return matrix;
}

int64_t PotMatrix::outlier_bytes() const {
  if (outliers_.size() == 0) return 0;
  return sizeof(float) +
         outliers_.size() * (sizeof(uint32_t) + sizeof(int16_t));
}

float PotMatrix::Scale(int64_t row, int64_t group) const {
  if (granularity_.kind == Granularity::Kind::kTensor) return scales_[0];
  if (granularity_.power_of_two) {
    return scales_[row] * static_cast<float>(Factor(row, group));
  }
  return scales_[row * groups_per_row_ + group];
}

int32_t PotMatrix::Factor(int64_t row, int64_t group) const {
  if (!granularity_.power_of_two) return 1;
  const uint8_t pair =
      factors_[row * CodeBytesPerRow(4, groups_per_row_) + group / 2];
  return FactorFormat().levels[group % 2 == 0 ? pair & 15 : pair >> 4];
}

void PotMatrix::UnpackRow(int64_t row, absl::Span<PotCode> codes) const {
  const int bits = format_->bits;
  UnpackCodes(bits, codes_.data() + row * CodeBytesPerRow(bits, cols_), cols_,
              codes.data());
}

void PotMatrix::DequantizeRow(int64_t row, absl::Span<float> weights) const {
  std::vector<PotCode> codes(static_cast<size_t>(cols_));
  UnpackRow(row, absl::MakeSpan(codes));
  const int64_t group_size = granularity_.GroupSize(cols_);
  for (int64_t group = 0; group < groups_per_row_; ++group) {
    const float scale = Scale(row, group);
    const int64_t end = std::min(cols_, (group + 1) * group_size);
    for (int64_t k = group * group_size; k < end; ++k) {
      weights[k] = scale * static_cast<float>(format_->levels[codes[k]]);
    }
  }
  AddRowOutliers(outliers_, row, weights);
}

void AddRowOutliers(const OutlierView& outliers, int64_t row,
                    absl::Span<float> weights) {
  const int64_t cols = static_cast<int64_t>(weights.size());
  const auto first = absl::c_lower_bound(outliers.positions, row * cols);
  for (auto at = first; at != outliers.positions.end(); ++at) {
    const int64_t k = *at - row * cols;
    if (k >= cols) break;
    const int16_t value = outliers.values[at - outliers.positions.begin()];
    weights[k] += outliers.scale * static_cast<float>(value);
  }
}

}  // namespace pot
