// ModelFakeQuantizer against QuantizeModel and the engine's loader.
#include "trainer/quantization/model_fake_quantizer.h"

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/file.h"
#include "engine/checkpoint/exponent_checkpoint.h"
#include "engine/gpt2/engine_version.h"
#include "engine/gpt2/float_model.h"
#include "engine/gpt2/model_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/gpt2/model_testing.h"
#include "tests/trainer/quantization/fake_quantizer_testing.h"

namespace pot {
namespace {

// A model in a flat buffer, with gaps that hold kGap.
class ModelFakeQuantizerTest : public testing::Test {
 protected:
  static constexpr float kGap = 123.0f;

  void SetUp() override {
    auto model = FloatModel::Open(TinyBpeDirectory());
    ASSERT_TRUE(model.ok()) << model.status();
    config_ = model->config();
    specs_ = model->tensors();
    base_sha256_ = *model->source().Digest();
    int64_t size = 0;
    for (const TensorSpec& spec : specs_) {
      offsets_.push_back(size);
      size += spec.num_elements() + 5;
    }
    parameters_.assign(size, kGap);
    for (size_t i = 0; i < specs_.size(); ++i) {
      const TensorSpec& spec = specs_[i];
      const std::vector<float> values = *model->Read(spec);
      float* out = parameters_.data() + offsets_[i];
      for (int64_t k = 0; k < spec.num_elements(); ++k) {
        if (spec.kind == TensorKind::kConv1d) {
          const int64_t in = k / spec.rows(), row = k % spec.rows();
          out[row * spec.cols() + in] = values[k];
        } else {
          out[k] = values[k];
        }
      }
    }
  }

  static ModelFakeQuantizeOptions ModelOptions(bool learned) {
    ModelFakeQuantizeOptions options;
    options.layers.quantize =
        MakeQuantizeOptions("pot4", "g32", QuantizeMode::kNearest);
    options.layers.learned_scales = learned;
    options.embedding.quantize =
        MakeQuantizeOptions("twohot4", "tensor", QuantizeMode::kNearest);
    options.embedding.learned_scales = learned;
    return options;
  }

  std::unique_ptr<ModelFakeQuantizer> Create(bool learned) {
    return *ModelFakeQuantizer::Create(config_, offsets_, parameters_.size(),
                                       ModelOptions(learned));
  }

  // What the exported file holds, tensor by tensor, must be `effective`.
  void ExpectFileHolds(const std::string& directory,
                       const std::vector<float>& effective) {
    const auto file =
        ExponentCheckpoint::Open(directory + "/" + kExponentCheckpointFile);
    ASSERT_TRUE(file.ok()) << file.status();
    for (size_t i = 0; i < specs_.size(); ++i) {
      const TensorSpec& spec = specs_[i];
      SCOPED_TRACE(spec.name);
      const auto expected = absl::MakeConstSpan(effective).subspan(
          offsets_[i], spec.num_elements());
      if (spec.quantized()) {
        const auto matrix =
            (*file)->Matrix(spec.name, spec.rows(), spec.cols());
        ASSERT_TRUE(matrix.ok()) << matrix.status();
        ExpectSameBits(Dequantize(*matrix), expected);
      } else {
        const auto values = (*file)->ReadFloats(spec.name, spec.shape);
        ASSERT_TRUE(values.ok()) << values.status();
        ExpectSameBits(*values, expected);
      }
    }
  }

  absl::Status Export(const ModelFakeQuantizer& quantizer,
                      const std::string& directory) {
    return quantizer.Export(parameters_, *ReadModelFiles(TinyBpeDirectory()),
                            {base_sha256_, "nearest", kEngineVersion},
                            directory);
  }

  Gpt2Config config_;
  std::vector<TensorSpec> specs_;
  std::vector<int64_t> offsets_;
  std::vector<float> parameters_;
  std::string base_sha256_;
};

TEST_F(ModelFakeQuantizerTest, ExportsTheBytesThatQuantizeModelWrites) {
  const TempDirectory trained, converted;
  const auto quantizer = Create(false);
  std::vector<float> effective(parameters_.size(), kGap);
  quantizer->Forward(parameters_, absl::MakeSpan(effective));
  const absl::Status status = Export(*quantizer, trained.path());
  ASSERT_TRUE(status.ok()) << status;
  ExpectFileHolds(trained.path(), effective);
  EXPECT_EQ(effective.back(), kGap);

  QuantizeModelOptions options;
  options.layers = ModelOptions(false).layers.quantize;
  options.embedding = ModelOptions(false).embedding.quantize;
  MustQuantize(TinyBpeDirectory(), converted.path(), options);
  for (const char* name :
       {kExponentCheckpointFile, "config.json", "vocab.json", "merges.txt"}) {
    const auto a = ReadFile(trained.File(name), size_t{1} << 24);
    const auto b = ReadFile(converted.File(name), size_t{1} << 24);
    ASSERT_TRUE(a.ok() && b.ok()) << a.status() << b.status();
    EXPECT_TRUE(*a == *b) << name;
  }
}

TEST_F(ModelFakeQuantizerTest, TrainsFreezesExportsAndResumes) {
  const auto quantizer = Create(true);
  std::vector<float> effective(parameters_.size(), kGap);
  quantizer->Forward(parameters_, absl::MakeSpan(effective));

  std::vector<float> gradients = Gauss(parameters_.size(), 1.0f, 14);
  const std::vector<float> upstream = gradients;
  quantizer->Backward(parameters_, absl::MakeSpan(gradients));
  ASSERT_FALSE(quantizer->log_scales().empty());
  ASSERT_EQ(quantizer->log_scales().size(),
            quantizer->log_scale_gradients().size());
  for (const float gradient : quantizer->log_scale_gradients()) {
    EXPECT_TRUE(gradient != 0.0f && std::isfinite(gradient));
  }
  for (size_t i = 0; i < specs_.size(); ++i) {
    if (specs_[i].quantized()) continue;
    EXPECT_EQ(quantizer->quantizer(static_cast<int>(i)), nullptr);
    const size_t n = specs_[i].num_elements();
    ExpectSameBits(absl::MakeConstSpan(gradients).subspan(offsets_[i], n),
                   absl::MakeConstSpan(upstream).subspan(offsets_[i], n));
  }

  // A step, then frozen codes, a snapshot, and a step of the scales.
  for (size_t i = 0; i < parameters_.size(); ++i) {
    parameters_[i] -= 1e-3f * gradients[i];
  }
  quantizer->Forward(parameters_, absl::MakeSpan(effective));
  quantizer->FreezeCodes(parameters_);
  EXPECT_TRUE(quantizer->frozen());
  StoredState stored(quantizer->State());
  const auto restored = Create(true);
  const absl::Status status = restored->Restore(stored.tensors());
  ASSERT_TRUE(status.ok()) << status;
  for (ModelFakeQuantizer* each : {quantizer.get(), restored.get()}) {
    for (float& log_scale : each->log_scales()) log_scale += 0.01f;
    std::vector<float> after(parameters_.size());
    each->Forward(parameters_, absl::MakeSpan(after));
    EXPECT_NE(after, effective);
    const TempDirectory directory;
    const absl::Status exported = Export(*each, directory.path());
    ASSERT_TRUE(exported.ok()) << exported;
    ExpectFileHolds(directory.path(), after);
    MustLoad(directory.path(), BestKernels());
  }
  stored.tensors().erase("quantizer.wte.weight.scales");
  EXPECT_EQ(restored->Restore(stored.tensors()).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(ModelFakeQuantizerTest, BadArgumentsNameTheTensor) {
  const auto create = [&](const std::vector<int64_t>& offsets, int64_t size) {
    return ModelFakeQuantizer::Create(config_, offsets, size,
                                      ModelOptions(false))
        .status();
  };
  const int64_t size = parameters_.size();
  EXPECT_TRUE(create(offsets_, size).ok());
  EXPECT_THAT(std::string(create(offsets_, size - 6).message()),
              testing::HasSubstr(specs_.back().name));
  std::vector<int64_t> overlapping = offsets_;
  overlapping[1] = offsets_[2] - 1;
  EXPECT_FALSE(create(overlapping, size).ok());
  EXPECT_FALSE(create({0}, size).ok());

  // A weight that no file may hold is refused before anything is written.
  const auto quantizer = Create(false);
  std::vector<float> effective(parameters_.size());
  quantizer->Forward(parameters_, absl::MakeSpan(effective));
  parameters_[offsets_[0] + 1] = INFINITY;
  const TempDirectory directory;
  const absl::Status status = Export(*quantizer, directory.path());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr("wte.weight: weight at row 0, column 1"));
  EXPECT_FALSE(
      ReadFile(directory.File(kExponentCheckpointFile), size_t{1} << 24).ok());
}

}  // namespace
}  // namespace pot
