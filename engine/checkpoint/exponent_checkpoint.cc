#include "engine/checkpoint/exponent_checkpoint.h"

#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/exponent_layout.h"
#include "engine/checkpoint/float_tensor.h"
#include "engine/checkpoint/safetensors.h"

namespace pot {
namespace {

using File = std::shared_ptr<const SafetensorsFile>;

// What keeps a view alive: the file, and copies of those of its tensors that do
// not lie aligned in it.
struct ViewOwner {
  File file;
  std::vector<std::vector<uint64_t>> copies;

  template <typename T>
  absl::Span<const T> View(const TensorView& tensor) {
    const void* data = tensor.bytes.data();
    if (reinterpret_cast<uintptr_t>(data) % alignof(T) != 0) {
      copies.emplace_back((tensor.bytes.size() + 7) / 8);
      std::memcpy(copies.back().data(), data, tensor.bytes.size());
      data = copies.back().data();
    }
    return {static_cast<const T*>(data), tensor.bytes.size() / sizeof(T)};
  }
};

class ExponentCheckpointImpl : public ExponentCheckpoint {
 public:
  ExponentCheckpointImpl(File file, std::string what)
      : file_(std::move(file)), what_(std::move(what)) {}

  absl::Status Init();

  const CheckpointProvenance& provenance() const override {
    return provenance_;
  }
  std::vector<std::string> matrix_names() const override {
    std::vector<std::string> names;
    for (const auto& [name, matrix] : matrices_) names.push_back(name);
    return names;
  }
  std::vector<std::string> float_names() const override {
    std::vector<std::string> names;
    for (const auto& [name, view] : floats_) names.push_back(name);
    return names;
  }
  bool HasMatrix(absl::string_view name) const override {
    return matrices_.count(std::string(name)) != 0;
  }
  bool HasFloats(absl::string_view name) const override {
    return floats_.count(std::string(name)) != 0;
  }
  absl::StatusOr<PotMatrix> Matrix(absl::string_view name, int64_t rows,
                                   int64_t cols) const override;
  absl::StatusOr<std::vector<float>> ReadFloats(
      absl::string_view name, absl::Span<const int64_t> shape) const override;

 private:
  template <typename... Parts>
  absl::Status Error(const Parts&... parts) const {
    return absl::InvalidArgumentError(absl::StrCat(what_, ": ", parts...));
  }

  absl::Status ReadProvenance();
  absl::Status AddMatrix(const std::string& name,
                         const std::string& description);
  absl::StatusOr<PotMatrix> WithOutliers(const std::string& name,
                                         const PotMatrix& matrix,
                                         int64_t count) const;
  // Whether `name` is a tensor of a matrix.
  bool IsPart(const std::string& name) const;
  // Tensor `name` of the given type and shape.
  absl::StatusOr<const TensorView*> Part(
      const std::string& name, TensorType type,
      const std::vector<int64_t>& shape) const;

  File file_;
  std::string what_;
  std::string version_;
  CheckpointProvenance provenance_;
  std::map<std::string, PotMatrix> matrices_;
  std::map<std::string, const TensorView*> floats_;
};

absl::Status ExponentCheckpointImpl::ReadProvenance() {
  const auto& metadata = file_->metadata();
  const auto value = [&](const char* key) {
    const auto found = metadata.find(key);
    return found == metadata.end() ? std::string() : found->second;
  };
  if (value(kFormatKey) != kExponentFormat) {
    return Error("metadata \"", kFormatKey, "\" is ", Quote(value(kFormatKey)),
                 ", not \"", kExponentFormat, "\": no exponent checkpoint");
  }
  version_ = value(kFormatVersionKey);
  if (version_ != kExponentFormatVersion &&
      version_ != kExponentFormatVersion2) {
    return Error("format version ", Quote(version_),
                 "; this program reads versions ", kExponentFormatVersion,
                 " and ", kExponentFormatVersion2);
  }
  provenance_ = {value(kBaseSha256Key), value(kQuantizerKey),
                 value(kToolVersionKey)};
  if (!IsBaseDigest(provenance_.base_sha256)) {
    return Error("metadata \"", kBaseSha256Key, "\" is ",
                 Quote(provenance_.base_sha256),
                 "; it must be empty or 64 lower-case hexadecimal digits");
  }
  return absl::OkStatus();
}

absl::StatusOr<const TensorView*> ExponentCheckpointImpl::Part(
    const std::string& name, TensorType type,
    const std::vector<int64_t>& shape) const {
  const TensorView* view = file_->Find(name);
  if (view == nullptr) return Error("tensor ", Quote(name), " is missing");
  if (view->type != type || view->shape != shape) {
    return Error("tensor ", Quote(name), " is ", TensorTypeName(view->type),
                 " ", ShapeString(view->shape), ", its description needs ",
                 TensorTypeName(type), " ", ShapeString(shape));
  }
  return view;
}

absl::Status ExponentCheckpointImpl::AddMatrix(const std::string& name,
                                               const std::string& text) {
  POT_ASSIGN_OR_RETURN(const MatrixDescription description,
                       ParseMatrixDescription(
                           text, absl::StrCat(what_, ": metadata ",
                                              Quote(kMatrixKeyPrefix + name))));
  const PotFormat& format = *description.format;
  const std::string book_key = absl::StrCat(kBookKeyPrefix, format.name);
  const auto book = file_->metadata().find(book_key);
  if (book == file_->metadata().end()) {
    return Error("metadata ", Quote(book_key), " is missing");
  }
  if (book->second != BookJson(format)) {
    return Error("metadata ", Quote(book_key), " is ", Quote(book->second),
                 ", but this program's levels are ", BookJson(format));
  }
  POT_ASSIGN_OR_RETURN(
      const TensorView* codes,
      Part(name + kCodesSuffix, TensorType::kU8,
           {description.rows, description.code_bytes_per_row()}));
  POT_ASSIGN_OR_RETURN(
      const TensorView* scales,
      Part(name + kScalesSuffix, TensorType::kF32,
           {description.scale_rows(), description.scale_cols()}));
  absl::Span<const uint8_t> factors;
  if (description.granularity.power_of_two) {
    if (version_ == kExponentFormatVersion) {
      return Error("matrix ", Quote(name), " has granularity ",
                   description.granularity.ToString(),
                   ", which format version ", version_, " does not know");
    }
    POT_ASSIGN_OR_RETURN(
        const TensorView* view,
        Part(name + kFactorsSuffix, TensorType::kU8,
             {description.rows, description.factor_bytes_per_row()}));
    factors = view->bytes;
  }
  auto owner = std::make_shared<ViewOwner>();
  owner->file = file_;
  const absl::Span<const float> values = owner->View<float>(*scales);
  auto matrix = PotMatrix::Create(&format, description.rows, description.cols,
                                  description.granularity, codes->bytes, values,
                                  std::move(owner), factors);
  if (!matrix.ok()) {
    return Error("matrix ", Quote(name), ": ", matrix.status().message());
  }
  if (description.outliers != 0) {
    if (version_ == kExponentFormatVersion) {
      return Error("matrix ", Quote(name),
                   " has outliers, which format version ", version_,
                   " does not know");
    }
    POT_ASSIGN_OR_RETURN(matrix,
                         WithOutliers(name, *matrix, description.outliers));
  }
  matrices_.emplace(name, *std::move(matrix));
  return absl::OkStatus();
}

absl::StatusOr<PotMatrix> ExponentCheckpointImpl::WithOutliers(
    const std::string& name, const PotMatrix& matrix, int64_t count) const {
  POT_ASSIGN_OR_RETURN(
      const TensorView* positions,
      Part(name + kOutlierPositionsSuffix, TensorType::kU32, {count}));
  POT_ASSIGN_OR_RETURN(
      const TensorView* values,
      Part(name + kOutlierValuesSuffix, TensorType::kI16, {count}));
  POT_ASSIGN_OR_RETURN(const TensorView* scale,
                       Part(name + kOutlierScaleSuffix, TensorType::kF32, {1}));
  auto owner = std::make_shared<ViewOwner>();
  owner->file = file_;
  const OutlierView outliers{owner->View<float>(*scale)[0],
                             owner->View<uint32_t>(*positions),
                             owner->View<int16_t>(*values)};
  auto with_outliers = matrix.WithOutliers(outliers, std::move(owner));
  if (with_outliers.ok()) return with_outliers;
  return Error("matrix ", Quote(name), ": ", with_outliers.status().message());
}

bool ExponentCheckpointImpl::IsPart(const std::string& name) const {
  for (const char* suffix :
       {kCodesSuffix, kScalesSuffix, kFactorsSuffix, kOutlierPositionsSuffix,
        kOutlierValuesSuffix, kOutlierScaleSuffix}) {
    absl::string_view matrix_name = name;
    if (!absl::ConsumeSuffix(&matrix_name, suffix)) continue;
    const auto found = matrices_.find(std::string(matrix_name));
    if (found == matrices_.end()) return false;
    if (suffix == kFactorsSuffix) {
      return found->second.granularity().power_of_two;
    }
    return suffix == kCodesSuffix || suffix == kScalesSuffix ||
           found->second.outliers().size() != 0;
  }
  return false;
}

absl::Status ExponentCheckpointImpl::Init() {
  POT_RETURN_IF_ERROR(ReadProvenance());
  for (const auto& [key, value] : file_->metadata()) {
    absl::string_view name = key;
    if (absl::ConsumePrefix(&name, kMatrixKeyPrefix)) {
      POT_RETURN_IF_ERROR(AddMatrix(std::string(name), value));
    }
  }
  for (const auto& [name, view] : file_->tensors()) {
    if (IsPart(name)) continue;
    if (view.type != TensorType::kF32 && view.type != TensorType::kF16) {
      return Error("tensor ", Quote(name), " is ", TensorTypeName(view.type),
                   ", but belongs to no matrix that the metadata describes; ",
                   "other tensors must be F32 or F16");
    }
    floats_.emplace(name, &view);
  }
  return absl::OkStatus();
}

absl::StatusOr<PotMatrix> ExponentCheckpointImpl::Matrix(absl::string_view name,
                                                         int64_t rows,
                                                         int64_t cols) const {
  const auto found = matrices_.find(std::string(name));
  if (found == matrices_.end()) {
    return absl::NotFoundError(
        absl::StrCat(what_, ": no matrix ", Quote(name)));
  }
  const PotMatrix& matrix = found->second;
  if (matrix.rows() != rows || matrix.cols() != cols) {
    return Error("matrix ", Quote(name), ": shape ",
                 ShapeString({matrix.rows(), matrix.cols()}), ", expected ",
                 ShapeString({rows, cols}));
  }
  return matrix;
}

absl::StatusOr<std::vector<float>> ExponentCheckpointImpl::ReadFloats(
    absl::string_view name, absl::Span<const int64_t> shape) const {
  const auto found = floats_.find(std::string(name));
  if (found == floats_.end()) {
    return absl::NotFoundError(
        absl::StrCat(what_, ": no float tensor ", Quote(name)));
  }
  return WidenToFloats(*found->second, shape,
                       absl::StrCat(what_, ": tensor ", Quote(name)));
}

absl::StatusOr<std::shared_ptr<const ExponentCheckpoint>> Make(
    File file, absl::string_view what) {
  auto checkpoint = std::make_shared<ExponentCheckpointImpl>(std::move(file),
                                                             std::string(what));
  POT_RETURN_IF_ERROR(checkpoint->Init());
  return std::shared_ptr<const ExponentCheckpoint>(std::move(checkpoint));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const ExponentCheckpoint>>
ExponentCheckpoint::Open(const std::string& path) {
  POT_ASSIGN_OR_RETURN(File file, SafetensorsFile::Open(path));
  return Make(std::move(file), path);
}

absl::StatusOr<std::shared_ptr<const ExponentCheckpoint>>
ExponentCheckpoint::Parse(absl::Span<const uint8_t> bytes,
                          absl::string_view what) {
  POT_ASSIGN_OR_RETURN(File file, SafetensorsFile::Parse(bytes, what));
  return Make(std::move(file), what);
}

}  // namespace pot
