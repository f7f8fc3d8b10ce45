#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/half.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/exponent_checkpoint.h"
#include "engine/checkpoint/exponent_layout.h"
#include "engine/checkpoint/float_tensor.h"
#include "engine/checkpoint/safetensors.h"

namespace pot {
namespace {

using NamedTensors = std::vector<std::pair<std::string, TensorView>>;

template <typename T>
absl::Span<const uint8_t> BytesOf(absl::Span<const T> values) {
  return absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(values.data()),
                             values.size() * sizeof(T));
}

struct NamedMatrix {
  std::string name;
  PotMatrix matrix;
};

struct NamedFloats {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;
  std::vector<uint16_t> halves;  // instead of values when stored as F16
};

class ExponentCheckpointWriterImpl : public ExponentCheckpointWriter {
 public:
  void AddMatrix(std::string name, PotMatrix matrix) override {
    matrices_.push_back({std::move(name), std::move(matrix)});
  }
  void AddFloats(std::string name, std::vector<int64_t> shape,
                 std::vector<float> values, bool half) override;
  absl::Status Write(const std::string& path,
                     const CheckpointProvenance& provenance) override;

 private:
  // The oldest that knows all matrices.
  const char* Version() const {
    for (const NamedMatrix& each : matrices_) {
      if (each.matrix.outliers().size() != 0 ||
          each.matrix.granularity().power_of_two) {
        return kExponentFormatVersion2;
      }
    }
    return kExponentFormatVersion;
  }

  std::vector<NamedMatrix> matrices_;
  std::vector<NamedFloats> floats_;
  // The first value that cannot be stored.
  absl::Status value_error_;
};

void ExponentCheckpointWriterImpl::AddFloats(std::string name,
                                             std::vector<int64_t> shape,
                                             std::vector<float> values,
                                             bool half) {
  std::vector<uint16_t> halves;
  if (half) halves.reserve(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    float stored = values[i];
    if (half) {
      halves.push_back(FloatToHalfBits(stored));
      stored = HalfBitsToFloat(halves.back());
    }
    if (!std::isfinite(stored)) {
      value_error_.Update(absl::InvalidArgumentError(absl::StrCat(
          "tensor ", Quote(name), ": value ", values[i], " at element ", i,
          " is not finite", half ? " as F16" : "")));
    }
  }
  if (half) values.clear();
  floats_.push_back({std::move(name), std::move(shape), std::move(values),
                     std::move(halves)});
}

absl::Status ExponentCheckpointWriterImpl::Write(
    const std::string& path, const CheckpointProvenance& provenance) {
  POT_RETURN_IF_ERROR(value_error_);
  if (!IsBaseDigest(provenance.base_sha256)) {
    return absl::InvalidArgumentError(
        absl::StrCat("base_sha256 ", Quote(provenance.base_sha256),
                     " must be empty or 64 lower-case hexadecimal digits"));
  }
  std::map<std::string, std::string> metadata = {
      {kFormatKey, kExponentFormat},
      {kFormatVersionKey, Version()},
      {kToolVersionKey, provenance.tool_version},
      {kBaseSha256Key, provenance.base_sha256},
      {kQuantizerKey, provenance.quantizer},
  };
  // By descending element size, so that every tensor is aligned for its type.
  NamedTensors words, halves, bytes;
  for (const auto& [name, matrix] : matrices_) {
    const OutlierView& outliers = matrix.outliers();
    const MatrixDescription description{&matrix.format(), matrix.granularity(),
                                        matrix.rows(), matrix.cols(),
                                        outliers.size()};
    if (!metadata
             .emplace(kMatrixKeyPrefix + name,
                      MatrixDescriptionJson(description))
             .second) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": matrix ", Quote(name), " is given twice"));
    }
    metadata[absl::StrCat(kBookKeyPrefix, matrix.format().name)] =
        BookJson(matrix.format());
    words.emplace_back(
        name + kScalesSuffix,
        TensorView{TensorType::kF32,
                   {description.scale_rows(), description.scale_cols()},
                   BytesOf(matrix.scales())});
    bytes.emplace_back(
        name + kCodesSuffix,
        TensorView{TensorType::kU8,
                   {matrix.rows(), description.code_bytes_per_row()},
                   matrix.packed_codes()});
    if (matrix.granularity().power_of_two) {
      bytes.emplace_back(
          name + kFactorsSuffix,
          TensorView{TensorType::kU8,
                     {matrix.rows(), description.factor_bytes_per_row()},
                     matrix.packed_factors()});
    }
    if (outliers.size() == 0) continue;
    words.emplace_back(
        name + kOutlierScaleSuffix,
        TensorView{
            TensorType::kF32, {1}, BytesOf<float>({&outliers.scale, 1})});
    words.emplace_back(
        name + kOutlierPositionsSuffix,
        TensorView{
            TensorType::kU32, {outliers.size()}, BytesOf(outliers.positions)});
    halves.emplace_back(
        name + kOutlierValuesSuffix,
        TensorView{
            TensorType::kI16, {outliers.size()}, BytesOf(outliers.values)});
  }
  for (const NamedFloats& floats : floats_) {
    if (floats.halves.empty()) {
      words.emplace_back(floats.name,
                         TensorView{TensorType::kF32, floats.shape,
                                    BytesOf<float>(floats.values)});
    } else {
      halves.emplace_back(floats.name,
                          TensorView{TensorType::kF16, floats.shape,
                                     BytesOf<uint16_t>(floats.halves)});
    }
  }
  NamedTensors tensors = std::move(words);
  tensors.insert(tensors.end(), halves.begin(), halves.end());
  tensors.insert(tensors.end(), bytes.begin(), bytes.end());
  return WriteSafetensors(path, tensors, metadata);
}

}  // namespace

std::unique_ptr<ExponentCheckpointWriter> ExponentCheckpointWriter::Create() {
  return std::make_unique<ExponentCheckpointWriterImpl>();
}

}  // namespace pot
