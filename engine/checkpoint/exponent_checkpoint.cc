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

// Scales that do not lie aligned in the file, and the file for the codes.
struct CopiedScales {
  File file;
  std::vector<float> values;
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
  // Tensor `name` of the given type and shape.
  absl::StatusOr<const TensorView*> Part(const std::string& name,
                                         TensorType type, int64_t rows,
                                         int64_t cols) const;

  File file_;
  std::string what_;
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
  if (value(kFormatVersionKey) != kExponentFormatVersion) {
    return Error("format version ", Quote(value(kFormatVersionKey)),
                 "; this program reads version ", kExponentFormatVersion);
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
    const std::string& name, TensorType type, int64_t rows,
    int64_t cols) const {
  const TensorView* view = file_->Find(name);
  if (view == nullptr) return Error("tensor ", Quote(name), " is missing");
  const std::vector<int64_t> shape = {rows, cols};
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
      Part(name + kCodesSuffix, TensorType::kU8, description.rows,
           description.code_bytes_per_row()));
  POT_ASSIGN_OR_RETURN(
      const TensorView* scales,
      Part(name + kScalesSuffix, TensorType::kF32, description.scale_rows(),
           description.scale_cols()));
  absl::Span<const float> values(
      reinterpret_cast<const float*>(scales->bytes.data()),
      scales->bytes.size() / sizeof(float));
  std::shared_ptr<const void> owner = file_;
  if (reinterpret_cast<uintptr_t>(scales->bytes.data()) % alignof(float)) {
    auto copied = std::make_shared<CopiedScales>();
    copied->file = file_;
    copied->values.resize(values.size());
    std::memcpy(copied->values.data(), scales->bytes.data(),
                scales->bytes.size());
    values = copied->values;
    owner = std::move(copied);
  }
  auto matrix = PotMatrix::Create(&format, description.rows, description.cols,
                                  description.granularity, codes->bytes, values,
                                  std::move(owner));
  if (!matrix.ok()) {
    return Error("matrix ", Quote(name), ": ", matrix.status().message());
  }
  matrices_.emplace(name, *std::move(matrix));
  return absl::OkStatus();
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
    absl::string_view matrix = name;
    if ((absl::ConsumeSuffix(&matrix, kCodesSuffix) ||
         absl::ConsumeSuffix(&matrix, kScalesSuffix)) &&
        HasMatrix(matrix)) {
      continue;
    }
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
