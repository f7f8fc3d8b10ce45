#include "trainer/quantization/model_fake_quantizer.h"

#include <algorithm>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/half.h"
#include "engine/base/status_macros.h"
#include "engine/gpt2/model_files.h"
#include "trainer/base/multiversion.h"

namespace pot {
namespace {

constexpr char kStatePrefix[] = "quantizer.";

POT_MULTIVERSION
void RoundToHalf(const float* x, int64_t count, float* y) {
  for (int64_t i = 0; i < count; ++i) {
    y[i] = HalfBitsToFloat(FloatToHalfBits(x[i]));
  }
}

absl::Status InTensor(const std::string& name, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(name, ": ", status.message()));
}

// That tensors of these lengths do not overlap in a buffer of `size`.
absl::Status CheckOffsets(const std::vector<TensorSpec>& specs,
                          const std::vector<int64_t>& offsets, int64_t size) {
  if (offsets.size() != specs.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        offsets.size(), " offsets for a model of ", specs.size(), " tensors"));
  }
  std::vector<std::pair<int64_t, size_t>> order;
  for (size_t i = 0; i < offsets.size(); ++i) order.emplace_back(offsets[i], i);
  std::sort(order.begin(), order.end());
  int64_t end = 0;
  for (const auto& [offset, i] : order) {
    const int64_t length = specs[i].num_elements();
    if (offset < end || length > size || offset > size - length) {
      return absl::InvalidArgumentError(absl::StrCat(
          specs[i].name, ": ", length, " elements at ", offset,
          " overlap another tensor or do not fit a buffer of ", size));
    }
    end = offset + length;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelFakeQuantizer>> ModelFakeQuantizer::Create(
    const Gpt2Config& config, std::vector<int64_t> offsets, int64_t size,
    const ModelFakeQuantizeOptions& options) {
  const std::vector<TensorSpec> specs = Gpt2Tensors(config);
  POT_RETURN_IF_ERROR(CheckOffsets(specs, offsets, size));
  const auto options_of = [&](const TensorSpec& spec) {
    return spec.kind == TensorKind::kConv1d ? options.layers
                                            : options.embedding;
  };
  auto result = std::unique_ptr<ModelFakeQuantizer>(new ModelFakeQuantizer);
  result->half_positions_ = options.half_positions;
  int64_t learned = 0;
  for (const TensorSpec& spec : specs) {
    if (!spec.quantized() || !options_of(spec).learned_scales) continue;
    learned += WeightFakeQuantizer::NumScales(
        spec.rows(), spec.cols(), options_of(spec).quantize.granularity);
  }
  result->log_scales_.resize(learned);
  result->log_scale_gradients_.resize(learned);

  int64_t next = 0;
  for (size_t i = 0; i < specs.size(); ++i) {
    Tensor tensor{specs[i], offsets[i], -1};
    if (specs[i].quantized()) {
      const FakeQuantizeOptions& each = options_of(specs[i]);
      LogScales log_scales;
      if (each.learned_scales) {
        log_scales = {result->log_scales_.data() + next,
                      result->log_scale_gradients_.data() + next};
      }
      absl::StatusOr<WeightFakeQuantizer> quantizer =
          WeightFakeQuantizer::Create(specs[i].rows(), specs[i].cols(), each,
                                      log_scales);
      POT_RETURN_IF_ERROR(InTensor(specs[i].name, quantizer.status()));
      if (each.learned_scales) next += quantizer->num_scales();
      tensor.quantizer = static_cast<int>(result->quantizers_.size());
      result->quantizers_.push_back(*std::move(quantizer));
    }
    result->tensors_.push_back(std::move(tensor));
  }
  return result;
}

void ModelFakeQuantizer::Forward(absl::Span<const float> parameters,
                                 absl::Span<float> effective) {
  // The search for the one scale of a tensor runs on one thread: several
  // tensors at a time.
#pragma omp parallel for schedule(dynamic)
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const Tensor& tensor = tensors_[i];
    if (tensor.quantizer < 0) continue;
    WeightFakeQuantizer& quantizer = quantizers_[tensor.quantizer];
    if (!quantizer.searches_on_one_thread()) continue;
    quantizer.UpdateScales(parameters.data() + tensor.offset);
  }
  for (const Tensor& tensor : tensors_) {
    const float* w = parameters.data() + tensor.offset;
    float* out = effective.data() + tensor.offset;
    const int64_t count = tensor.spec.num_elements();
    if (tensor.quantizer >= 0) {
      WeightFakeQuantizer& quantizer = quantizers_[tensor.quantizer];
      if (!quantizer.searches_on_one_thread()) quantizer.UpdateScales(w);
      quantizer.Round(w, out);
    } else if (half_positions_ &&
               tensor.spec.kind == TensorKind::kPositionEmbedding) {
      RoundToHalf(w, count, out);
    } else {
      std::copy(w, w + count, out);
    }
  }
}

void ModelFakeQuantizer::Backward(absl::Span<const float> parameters,
                                  absl::Span<float> gradients) {
  for (const Tensor& tensor : tensors_) {
    if (tensor.quantizer < 0) continue;
    quantizers_[tensor.quantizer].Backward(parameters.data() + tensor.offset,
                                           gradients.data() + tensor.offset);
  }
}

void ModelFakeQuantizer::RequestSearch() {
  for (WeightFakeQuantizer& quantizer : quantizers_) quantizer.RequestSearch();
}

void ModelFakeQuantizer::FreezeCodes(absl::Span<const float> parameters) {
  for (const Tensor& tensor : tensors_) {
    if (tensor.quantizer < 0) continue;
    quantizers_[tensor.quantizer].FreezeCodes(parameters.data() +
                                              tensor.offset);
  }
}

bool ModelFakeQuantizer::frozen() const { return quantizers_[0].frozen(); }

absl::Status ModelFakeQuantizer::Export(
    absl::Span<const float> parameters,
    const std::map<std::string, std::string>& files,
    const CheckpointProvenance& provenance,
    const std::string& directory) const {
  try {
    const std::unique_ptr<ExponentCheckpointWriter> writer =
        ExponentCheckpointWriter::Create();
    for (const Tensor& tensor : tensors_) {
      const float* w = parameters.data() + tensor.offset;
      const TensorSpec& spec = tensor.spec;
      if (tensor.quantizer < 0) {
        writer->AddFloats(
            spec.name, spec.shape,
            std::vector<float>(w, w + spec.num_elements()),
            half_positions_ && spec.kind == TensorKind::kPositionEmbedding);
        continue;
      }
      absl::StatusOr<PotMatrix> matrix =
          quantizers_[tensor.quantizer].Export(w);
      POT_RETURN_IF_ERROR(InTensor(spec.name, matrix.status()));
      writer->AddMatrix(spec.name, *std::move(matrix));
    }
    POT_RETURN_IF_ERROR(writer->Write(
        absl::StrCat(directory, "/", kExponentCheckpointFile), provenance));
    return WriteModelFiles(files, directory);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory to export to ", directory));
  }
}

StateTensors ModelFakeQuantizer::State() const {
  StateTensors state;
  for (const Tensor& tensor : tensors_) {
    if (tensor.quantizer < 0) continue;
    quantizers_[tensor.quantizer].AppendState(
        absl::StrCat(kStatePrefix, tensor.spec.name, "."), &state);
  }
  return state;
}

absl::Status ModelFakeQuantizer::Restore(const TensorMap& tensors) {
  for (const Tensor& tensor : tensors_) {
    if (tensor.quantizer < 0) continue;
    POT_RETURN_IF_ERROR(quantizers_[tensor.quantizer].Restore(
        absl::StrCat(kStatePrefix, tensor.spec.name, "."), tensors));
  }
  return absl::OkStatus();
}

const WeightFakeQuantizer* ModelFakeQuantizer::quantizer(int tensor) const {
  const int index = tensors_[tensor].quantizer;
  return index < 0 ? nullptr : &quantizers_[index];
}

}  // namespace pot
