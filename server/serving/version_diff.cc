#include "server/serving/version_diff.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <new>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/exponent_checkpoint.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/gpt2/float_model.h"
#include "engine/gpt2/tensor_table.h"
#include "server/serving/error_details.h"
#include "server/serving/version_description.h"

namespace pot {
namespace {

// A tensor of one side, row by row: rows are outputs for matrices, and for all
// else there is one.
class WeightRows {
 public:
  explicit WeightRows(PotMatrix matrix) : matrix_(std::move(matrix)) {}
  // `transposed`: values are (in, out).
  WeightRows(std::vector<float> values, int64_t rows, bool transposed)
      : values_(std::move(values)), rows_(rows), transposed_(transposed) {}

  const std::optional<PotMatrix>& matrix() const { return matrix_; }

  void Row(int64_t row, absl::Span<float> weights) const {
    if (matrix_.has_value()) {
      matrix_->DequantizeRow(row, weights);
      return;
    }
    const int64_t cols = static_cast<int64_t>(weights.size());
    for (int64_t k = 0; k < cols; ++k) {
      weights[k] = values_[transposed_ ? k * rows_ + row : row * cols + k];
    }
  }

 private:
  std::optional<PotMatrix> matrix_;
  std::vector<float> values_;
  int64_t rows_ = 0;
  bool transposed_ = false;
};

class WeightSource {
 public:
  static absl::StatusOr<WeightSource> Open(const std::string& directory) {
    WeightSource source;
    const std::string file =
        absl::StrCat(directory, "/", kExponentCheckpointFile);
    std::error_code error;
    if (std::filesystem::exists(std::filesystem::symlink_status(file, error))) {
      POT_ASSIGN_OR_RETURN(source.config_, ReadGpt2Config(directory));
      POT_ASSIGN_OR_RETURN(source.pot_, ExponentCheckpoint::Open(file));
      return source;
    }
    POT_ASSIGN_OR_RETURN(FloatModel model, FloatModel::Open(directory));
    source.config_ = model.config();
    source.float_ = std::make_unique<FloatModel>(std::move(model));
    return source;
  }

  const Gpt2Config& config() const { return config_; }

  absl::StatusOr<WeightRows> Read(const TensorSpec& tensor) const {
    if (pot_ == nullptr) {
      POT_ASSIGN_OR_RETURN(std::vector<float> values, float_->Read(tensor));
      return WeightRows(std::move(values),
                        tensor.quantized() ? tensor.rows() : 1,
                        tensor.kind == TensorKind::kConv1d);
    }
    if (tensor.quantized()) {
      POT_ASSIGN_OR_RETURN(
          PotMatrix matrix,
          pot_->Matrix(tensor.name, tensor.rows(), tensor.cols()));
      return WeightRows(std::move(matrix));
    }
    POT_ASSIGN_OR_RETURN(std::vector<float> values,
                         pot_->ReadFloats(tensor.name, tensor.shape));
    return WeightRows(std::move(values), 1, false);
  }

 private:
  Gpt2Config config_;
  std::shared_ptr<const ExponentCheckpoint> pot_;
  std::unique_ptr<const FloatModel> float_;
};

void Describe(const WeightRows& rows, std::string* format,
              std::string* granularity) {
  *format = "f32";
  if (!rows.matrix().has_value()) return;
  *format = std::string(rows.matrix()->format().name);
  *granularity = rows.matrix()->granularity().ToString();
}

int64_t ChangedCodes(const PotMatrix& left, const PotMatrix& right) {
  std::vector<PotCode> left_codes(left.cols());
  std::vector<PotCode> right_codes(left.cols());
  int64_t changed = 0;
  for (int64_t row = 0; row < left.rows(); ++row) {
    left.UnpackRow(row, absl::MakeSpan(left_codes));
    right.UnpackRow(row, absl::MakeSpan(right_codes));
    for (size_t k = 0; k < left_codes.size(); ++k) {
      changed += left_codes[k] != right_codes[k];
    }
  }
  return changed;
}

void Compare(const TensorSpec& tensor, const WeightRows& left,
             const WeightRows& right, VersionDiff::Tensor* diff) {
  const int64_t rows = tensor.quantized() ? tensor.rows() : 1;
  std::vector<float> a(tensor.num_elements() / rows);
  std::vector<float> b(a.size());
  double difference = 0;
  double norm = 0;
  for (int64_t row = 0; row < rows; ++row) {
    left.Row(row, absl::MakeSpan(a));
    right.Row(row, absl::MakeSpan(b));
    for (size_t k = 0; k < a.size(); ++k) {
      const double d = static_cast<double>(a[k]) - b[k];
      difference += d * d;
      norm += static_cast<double>(a[k]) * a[k];
      diff->max_absolute_difference =
          std::max(diff->max_absolute_difference, std::abs(d));
    }
  }
  if (difference > 0) {
    diff->relative_squared_error =
        norm > 0 ? difference / norm : std::numeric_limits<double>::infinity();
  }
}

absl::Status CheckSameShapes(const std::vector<TensorSpec>& left,
                             const std::vector<TensorSpec>& right) {
  const auto mismatch = [](absl::string_view what, const std::string& a,
                           const std::string& b) {
    return WithDetails(
        absl::InvalidArgumentError(absl::StrCat(
            "the two versions have different architectures: ", what, " is ", a,
            " on the left and ", b, " on the right")),
        {.reason = "SHAPE_MISMATCH",
         .metadata = {{"limit", a}, {"value", b}},
         .field = "right"});
  };
  if (left.size() != right.size()) {
    return mismatch("the number of tensors", absl::StrCat(left.size()),
                    absl::StrCat(right.size()));
  }
  for (size_t i = 0; i < left.size(); ++i) {
    if (left[i].name != right[i].name) {
      return mismatch(absl::StrCat("tensor ", i), left[i].name, right[i].name);
    }
    if (left[i].shape != right[i].shape) {
      return mismatch(left[i].name, ShapeString(left[i].shape),
                      ShapeString(right[i].shape));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<VersionDiff::Tensor> DiffTensor(const WeightSource& left,
                                               const WeightSource& right,
                                               const TensorSpec& tensor) {
  VersionDiff::Tensor diff;
  diff.name = tensor.name;
  diff.shape = tensor.shape;
  POT_ASSIGN_OR_RETURN(const WeightRows a, left.Read(tensor));
  POT_ASSIGN_OR_RETURN(const WeightRows b, right.Read(tensor));
  Describe(a, &diff.left_format, &diff.left_granularity);
  Describe(b, &diff.right_format, &diff.right_granularity);
  if (a.matrix().has_value() && b.matrix().has_value() &&
      diff.left_format == diff.right_format) {
    diff.changed_codes = ChangedCodes(*a.matrix(), *b.matrix());
  }
  Compare(tensor, a, b, &diff);
  return diff;
}

}  // namespace

absl::StatusOr<std::vector<VersionDiff::Tensor>> DiffDirectories(
    const std::string& left, const std::string& right) {
  try {
    const absl::StatusOr<WeightSource> a = WeightSource::Open(left);
    if (!a.ok()) return CheckpointError(a.status());
    const absl::StatusOr<WeightSource> b = WeightSource::Open(right);
    if (!b.ok()) return CheckpointError(b.status());
    const std::vector<TensorSpec> tensors = Gpt2Tensors(a->config());
    POT_RETURN_IF_ERROR(CheckSameShapes(tensors, Gpt2Tensors(b->config())));
    std::vector<VersionDiff::Tensor> diffs;
    for (const TensorSpec& tensor : tensors) {
      absl::StatusOr<VersionDiff::Tensor> diff = DiffTensor(*a, *b, tensor);
      if (!diff.ok()) return CheckpointError(diff.status());
      diffs.push_back(*std::move(diff));
    }
    return diffs;
  } catch (const std::bad_alloc&) {
    return CheckpointError(absl::ResourceExhaustedError(
        absl::StrCat("no memory to compare ", left, " and ", right)));
  }
}

}  // namespace pot
