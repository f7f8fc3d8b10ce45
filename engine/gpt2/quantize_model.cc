#include "engine/gpt2/quantize_model.h"

#include <algorithm>
#include <map>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/base/transpose.h"
#include "engine/checkpoint/exponent_checkpoint.h"
#include "engine/gpt2/engine_version.h"
#include "engine/gpt2/float_model.h"
#include "engine/gpt2/model_files.h"
#include "engine/quant/outliers.h"

namespace pot {
namespace {

// Weights that one thread quantizes at a time.
constexpr int64_t kSlabWeights = int64_t{1} << 18;

// Called with the number of weights just done. CANCELLED ends the work.
using Advance = std::function<absl::Status(int64_t)>;

// codes and scales of a matrix put together from slabs of rows.
struct MatrixStorage {
  std::vector<uint8_t> codes, factors;
  std::vector<float> scales;
};

// QuantizePot on all threads. Rows do not share a scale, so quantizing slabs
// of them gives the same codes.
absl::StatusOr<PotMatrix> QuantizeRows(const std::vector<float>& weights,
                                       int64_t rows, int64_t cols,
                                       const QuantizeOptions& options,
                                       ThreadPool* pool,
                                       const Advance& advance) {
  const int64_t slab_rows = std::max<int64_t>(1, kSlabWeights / cols);
  auto storage = std::make_shared<MatrixStorage>();
  for (int64_t first = 0; first < rows;) {
    const int64_t last =
        std::min(rows, first + slab_rows * pool->num_threads());
    const int64_t count = (last - first + slab_rows - 1) / slab_rows;
    std::vector<absl::StatusOr<PotMatrix>> slabs(
        count, absl::InternalError("not quantized"));
    pool->ParallelFor(count, 1, [&](size_t begin, size_t end) {
      for (size_t s = begin; s < end; ++s) {
        const int64_t row = first + s * slab_rows;
        const int64_t n = std::min(slab_rows, last - row);
        try {
          slabs[s] = QuantizePot(
              absl::MakeConstSpan(weights).subspan(row * cols, n * cols), n,
              cols, options);
        } catch (const std::bad_alloc&) {
          slabs[s] = absl::ResourceExhaustedError("no memory to quantize");
        }
      }
    });
    for (const absl::StatusOr<PotMatrix>& slab : slabs) {
      POT_RETURN_IF_ERROR(slab.status());
      storage->codes.insert(storage->codes.end(), slab->packed_codes().begin(),
                            slab->packed_codes().end());
      storage->scales.insert(storage->scales.end(), slab->scales().begin(),
                             slab->scales().end());
      storage->factors.insert(storage->factors.end(),
                              slab->packed_factors().begin(),
                              slab->packed_factors().end());
    }
    POT_RETURN_IF_ERROR(advance((last - first) * cols));
    first = last;
  }
  return PotMatrix::Create(options.format, rows, cols, options.granularity,
                           storage->codes, storage->scales, storage,
                           storage->factors);
}

// `weights` may be changed.
absl::StatusOr<PotMatrix> QuantizeTensor(std::vector<float>& weights,
                                         const TensorSpec& tensor,
                                         const QuantizeOptions& options,
                                         ThreadPool* pool,
                                         const Advance& advance) {
  if (options.outliers > 0) {
    POT_ASSIGN_OR_RETURN(
        const ExactWeights exact,
        TakeOutliers(options.outliers, absl::MakeSpan(weights)));
    QuantizeOptions dense_options = options;
    dense_options.outliers = 0;
    POT_ASSIGN_OR_RETURN(
        const PotMatrix dense,
        QuantizeTensor(weights, tensor, dense_options, pool, advance));
    return AddOutliers(dense, exact);
  }
  if (options.granularity.kind != Granularity::Kind::kTensor) {
    return QuantizeRows(weights, tensor.rows(), tensor.cols(), options, pool,
                        advance);
  }
  POT_ASSIGN_OR_RETURN(PotMatrix matrix, QuantizePot(weights, tensor.rows(),
                                                     tensor.cols(), options));
  POT_RETURN_IF_ERROR(advance(tensor.num_elements()));
  return matrix;
}

// nullptr when there is none.
template <typename Map>
const typename Map::mapped_type* FindIn(const Map* map,
                                        const std::string& name) {
  if (map == nullptr) return nullptr;
  const auto found = map->find(name);
  return found == map->end() ? nullptr : &found->second;
}

absl::StatusOr<PotMatrix> UseQuantized(const PotMatrix& matrix,
                                       const TensorSpec& tensor,
                                       const QuantizeOptions& options,
                                       const Advance& advance) {
  if (matrix.rows() != tensor.rows() || matrix.cols() != tensor.cols() ||
      matrix.format().name != options.format->name ||
      matrix.granularity() != options.granularity) {
    return absl::InternalError(
        "what was quantized has another shape or format");
  }
  POT_RETURN_IF_ERROR(advance(tensor.num_elements()));
  return matrix;
}

std::string QuantizerName(const QuantizeModelOptions& options) {
  const absl::string_view layers = QuantizeModeName(options.layers.mode);
  const absl::string_view embedding = QuantizeModeName(options.embedding.mode);
  std::string name = options.quantizer;
  if (name.empty()) {
    name = std::string(layers);
    if (layers != embedding) absl::StrAppend(&name, ", embedding ", embedding);
  }
  if (options.layers.outliers > 0) {
    absl::StrAppend(&name, ", outliers ", 100 * options.layers.outliers, " %");
  }
  return name;
}

absl::StatusOr<QuantizeModelReport> QuantizeOpenModel(
    const FloatModel& model, const std::string& path,
    const QuantizeModelOptions& options, ThreadPool* pool,
    const std::function<void(int64_t, int64_t)>& progress) {
  QuantizeModelReport report;
  int64_t quantized_weights = 0;
  for (const TensorSpec& tensor : model.tensors()) {
    report.parameters += tensor.num_elements();
    if (tensor.quantized()) quantized_weights += tensor.num_elements();
  }
  report.float_bytes = report.parameters * sizeof(float);

  int64_t done = 0;
  const Advance advance = [&](int64_t weights) {
    done += weights;
    if (progress != nullptr) progress(done, quantized_weights);
    return options.cancelled != nullptr && options.cancelled()
               ? absl::CancelledError("quantizing was cancelled")
               : absl::OkStatus();
  };
  const std::unique_ptr<ExponentCheckpointWriter> writer =
      ExponentCheckpointWriter::Create();
  for (const TensorSpec& tensor : model.tensors()) {
    POT_ASSIGN_OR_RETURN(std::vector<float> values, model.Read(tensor));
    if (!tensor.quantized()) {
      const bool half = tensor.kind == TensorKind::kPositionEmbedding &&
                        options.half_positions;
      if (const auto* given = FindIn(options.floats, tensor.name)) {
        if (given->size() != values.size()) {
          return absl::InternalError(
              absl::StrCat(tensor.name, ": ", given->size(),
                           " values are given for ", values.size()));
        }
        values = *given;
      }
      report.other_bytes += values.size() * (half ? 2 : 4);
      writer->AddFloats(tensor.name, tensor.shape, std::move(values), half);
      continue;
    }
    const bool is_layer = tensor.kind == TensorKind::kConv1d;
    if (is_layer) {
      std::vector<float> transposed(values.size());
      Transpose(values.data(), tensor.cols(), tensor.rows(), transposed.data());
      values = std::move(transposed);
    }
    const QuantizeOptions quantize = options.For(tensor);
    const PotMatrix* const given = FindIn(options.matrices, tensor.name);
    absl::StatusOr<PotMatrix> matrix =
        given == nullptr
            ? QuantizeTensor(values, tensor, quantize, pool, advance)
            : UseQuantized(*given, tensor, quantize, advance);
    if (!matrix.ok()) {
      return absl::Status(
          matrix.status().code(),
          absl::StrCat(tensor.name, ": ", matrix.status().message()));
    }
    report.code_bytes += matrix->packed_codes().size();
    report.scale_bytes += matrix->scale_bytes();
    report.outlier_bytes += matrix->outlier_bytes();
    writer->AddMatrix(tensor.name, *std::move(matrix));
  }
  report.bits_per_weight =
      8.0 * (report.code_bytes + report.scale_bytes + report.outlier_bytes) /
      static_cast<double>(quantized_weights);

  CheckpointProvenance provenance;
  POT_ASSIGN_OR_RETURN(provenance.base_sha256, model.source().Digest());
  provenance.quantizer = QuantizerName(options);
  provenance.tool_version = kEngineVersion;
  POT_RETURN_IF_ERROR(writer->Write(path, provenance));
  return report;
}

absl::Status CheckFormat(const char* what, const QuantizeOptions& options) {
  if (options.format != nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "QuantizeModelOptions: the format of ", what, " must be set"));
}

}  // namespace

QuantizeOptions QuantizeModelOptions::For(const TensorSpec& tensor) const {
  QuantizeOptions quantize =
      tensor.kind == TensorKind::kConv1d ? layers : embedding;
  const auto format = formats.find(tensor.name);
  if (format != formats.end()) quantize.format = format->second;
  return quantize;
}

absl::StatusOr<QuantizeModelReport> QuantizeModel(
    const std::string& from, const std::string& to,
    const QuantizeModelOptions& options, ThreadPool* pool,
    const std::function<void(int64_t, int64_t)>& progress) {
  POT_RETURN_IF_ERROR(CheckFormat("the layers", options.layers));
  POT_RETURN_IF_ERROR(CheckFormat("the embedding", options.embedding));
  try {
    POT_ASSIGN_OR_RETURN(const FloatModel model, FloatModel::Open(from));
    POT_RETURN_IF_ERROR(LoadTokenizer(from, model.config()).status());
    POT_ASSIGN_OR_RETURN(const auto files, ReadModelFiles(from));
    POT_ASSIGN_OR_RETURN(
        const QuantizeModelReport report,
        QuantizeOpenModel(model, absl::StrCat(to, "/", kExponentCheckpointFile),
                          options, pool, progress));
    POT_RETURN_IF_ERROR(WriteModelFiles(files, to));
    return report;
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory to quantize ", from));
  }
}

absl::Status CopyFloatModel(const std::string& from, const std::string& to) {
  try {
    POT_ASSIGN_OR_RETURN(const FloatModel model, FloatModel::Open(from));
    POT_RETURN_IF_ERROR(LoadTokenizer(from, model.config()).status());
    for (const TensorSpec& tensor : model.tensors()) {
      POT_RETURN_IF_ERROR(model.Read(tensor).status());
    }
    POT_ASSIGN_OR_RETURN(const auto files, ReadModelFiles(from));
    POT_RETURN_IF_ERROR(model.source().CopyFiles(to));
    return WriteModelFiles(files, to);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory to copy ", from));
  }
}

}  // namespace pot
