// Names and metadata of an exponent checkpoint, shared by its writer and its
// reader; README.md of this folder explains them.
#ifndef POT_ENGINE_CHECKPOINT_EXPONENT_LAYOUT_H_
#define POT_ENGINE_CHECKPOINT_EXPONENT_LAYOUT_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/quant/granularity.h"
#include "engine/quant/pot_format.h"
#include "engine/quant/pot_matrix.h"

namespace pot {

inline constexpr char kExponentFormat[] = "pot-exponents";
// What a file has, and what one with outliers or factors needs.
inline constexpr char kExponentFormatVersion[] = "1";
inline constexpr char kExponentFormatVersion2[] = "2";

// Suffixes of a matrix's tensors; the last three where it has outliers.
inline constexpr char kCodesSuffix[] = ".codes";
inline constexpr char kScalesSuffix[] = ".scales";
// Where a row's groups have powers of two.
inline constexpr char kFactorsSuffix[] = ".factors";
inline constexpr char kOutlierPositionsSuffix[] = ".outlier_positions";
inline constexpr char kOutlierValuesSuffix[] = ".outlier_values";
inline constexpr char kOutlierScaleSuffix[] = ".outlier_scale";

// Metadata keys.
inline constexpr char kFormatKey[] = "format";
inline constexpr char kFormatVersionKey[] = "format_version";
inline constexpr char kToolVersionKey[] = "tool_version";
inline constexpr char kBaseSha256Key[] = "base_sha256";
inline constexpr char kQuantizerKey[] = "quantizer";
inline constexpr char kMatrixKeyPrefix[] = "pot.";  // and the matrix's name
inline constexpr char kBookKeyPrefix[] = "book.";   // and the format's name

struct MatrixDescription {
  const PotFormat* format = nullptr;
  Granularity granularity;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t outliers = 0;

  // Shapes of the two tensors.
  int64_t code_bytes_per_row() const {
    return PotMatrix::CodeBytesPerRow(format->bits, cols);
  }
  int64_t scale_rows() const {
    return granularity.kind == Granularity::Kind::kTensor ? 1 : rows;
  }
  int64_t scale_cols() const {
    return granularity.power_of_two ? 1 : granularity.GroupsPerRow(cols);
  }
  int64_t factor_bytes_per_row() const {
    return PotMatrix::CodeBytesPerRow(4, granularity.GroupsPerRow(cols));
  }
};

// {"cols":3,"format":"pot4","granularity":"row","group":3,"rows":2}, and
// "outliers":N where there are some.
std::string MatrixDescriptionJson(const MatrixDescription& description);
// INVALID_ARGUMENT, beginning with `what`, for anything that
// MatrixDescriptionJson does not write; unknown keys are ignored.
absl::StatusOr<MatrixDescription> ParseMatrixDescription(
    absl::string_view text, absl::string_view what);

// "[0,1,2,..]": the level of each code. Its text must be the same in the file
// as in the program that reads it.
std::string BookJson(const PotFormat& format);

// True for "" and for 64 lower-case hexadecimal digits.
bool IsBaseDigest(absl::string_view text);

}  // namespace pot

#endif  // POT_ENGINE_CHECKPOINT_EXPONENT_LAYOUT_H_
