#include "engine/gpt2/quantize_model.h"

#include <cmath>
#include <filesystem>
#include <set>

#include "engine/base/file.h"
#include "engine/checkpoint/exponent_checkpoint.h"
#include "engine/gpt2/engine_version.h"
#include "engine/gpt2/float_model.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/gpt2/model_testing.h"

namespace pot {
namespace {

std::string ReadAll(const std::string& path) {
  auto content = ReadFile(path, size_t{1} << 30);
  EXPECT_TRUE(content.ok()) << content.status();
  return *std::move(content);
}

std::set<std::string> FilesIn(const std::string& directory) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    names.insert(entry.path().filename());
  }
  return names;
}

TEST(QuantizeModelTest, EveryMatrixIsTheQuantizersOwn) {
  const FloatModel model = *FloatModel::Open(TinyBpeDirectory());
  QuantizeModelOptions options;
  options.layers = MakeQuantizeOptions("pot3", "g32", QuantizeMode::kNearest);
  options.embedding =
      MakeQuantizeOptions("twohot4", "row", QuantizeMode::kNearest);
  options.layers.outliers = 0.002;
  TempDirectory to;
  MustQuantize(TinyBpeDirectory(), to.path(), options);
  const auto checkpoint =
      ExponentCheckpoint::Open(to.File(kExponentCheckpointFile));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();

  for (const TensorSpec& tensor : model.tensors()) {
    const std::vector<float> values = *model.Read(tensor);
    if (!tensor.quantized()) {
      const auto stored = (*checkpoint)->ReadFloats(tensor.name, tensor.shape);
      ASSERT_TRUE(stored.ok()) << stored.status();
      // Positions were F16 to begin with: nothing is lost.
      EXPECT_EQ(*stored, values) << tensor.name;
      continue;
    }
    const bool conv1d = tensor.kind == TensorKind::kConv1d;
    const int64_t rows = tensor.rows(), cols = tensor.cols();
    const auto matrix = (*checkpoint)->Matrix(tensor.name, rows, cols);
    ASSERT_TRUE(matrix.ok()) << matrix.status();
    EXPECT_EQ(matrix->format().name, conv1d ? "pot3" : "twohot4");
    std::vector<float> weights(rows * cols);
    for (int64_t n = 0; n < rows; ++n) {
      for (int64_t k = 0; k < cols; ++k) {
        weights[n * cols + k] = values[conv1d ? k * rows + n : n * cols + k];
      }
    }
    const auto expected = QuantizePot(
        weights, rows, cols, conv1d ? options.layers : options.embedding);
    ASSERT_TRUE(expected.ok()) << expected.status();
    EXPECT_EQ(matrix->packed_codes(), expected->packed_codes()) << tensor.name;
    EXPECT_EQ(matrix->scales(), expected->scales()) << tensor.name;
    EXPECT_EQ(matrix->outliers().size(), conv1d ? rows * cols / 500 : 0);
    EXPECT_EQ(matrix->outliers().positions, expected->outliers().positions);
    EXPECT_EQ(matrix->outliers().values, expected->outliers().values);
    EXPECT_EQ(matrix->outliers().scale, expected->outliers().scale);
  }
  EXPECT_EQ((*checkpoint)->provenance().base_sha256, *model.source().Digest());
  EXPECT_EQ((*checkpoint)->provenance().quantizer, "nearest, outliers 0.2 %");
  EXPECT_EQ((*checkpoint)->provenance().tool_version, kEngineVersion);
}

TEST(QuantizeModelTest, ThreadsDoNotChangeAByte) {
  std::string first;
  for (const int threads : {1, 3}) {
    TempDirectory to;
    ThreadPool pool(threads);
    ASSERT_TRUE(
        QuantizeModel(TinyBpeDirectory(), to.path(),
                      MakeModelOptions("pot4", "g64", QuantizeMode::kNearest),
                      &pool, nullptr)
            .ok());
    const std::string bytes = ReadAll(to.File(kExponentCheckpointFile));
    if (first.empty()) first = bytes;
    EXPECT_EQ(bytes == first, true) << threads;
  }
}

TEST(QuantizeModelTest, ReportAddsUp) {
  TempDirectory to;
  ThreadPool pool(2);
  int64_t last_done = 0, last_total = 0;
  QuantizeModelOptions options =
      MakeModelOptions("pot4", "row", QuantizeMode::kNearest);
  options.embedding.outliers = 0.01;
  const auto report = QuantizeModel(TinyBpeDirectory(), to.path(), options,
                                    &pool, [&](int64_t done, int64_t total) {
                                      EXPECT_GT(done, last_done);
                                      last_done = done;
                                      last_total = total;
                                    });
  ASSERT_TRUE(report.ok()) << report.status();
  // From the config: V = 300, C = 96, T = 64, n_inner = 160, 3 layers.
  constexpr int64_t kLayerWeights = 96 * 288 + 96 * 96 + 2 * 96 * 160;
  constexpr int64_t kWeights = 2 * 300 * 96 + 3 * kLayerWeights;
  constexpr int64_t kRows = 2 * 300 + 3 * (288 + 96 + 160 + 96);
  constexpr int64_t kVectors = 3 * (288 + 96 + 160 + 96 + 4 * 96) + 2 * 96;
  EXPECT_EQ(report->parameters, kWeights + kVectors + 64 * 96);
  EXPECT_EQ(report->float_bytes, 4 * report->parameters);
  EXPECT_EQ(report->code_bytes, kWeights / 2);
  EXPECT_EQ(report->scale_bytes, 4 * kRows);
  EXPECT_EQ(report->other_bytes, 4 * kVectors + 2 * 64 * 96);
  // 6 bytes each, and a scale, in either of two embeddings.
  constexpr int64_t kOutlierBytes = 2 * (288 * 6 + 4);
  EXPECT_EQ(report->outlier_bytes, kOutlierBytes);
  EXPECT_DOUBLE_EQ(report->bits_per_weight,
                   8.0 * (kWeights / 2 + 4 * kRows + kOutlierBytes) / kWeights);
  EXPECT_EQ(last_done, kWeights);
  EXPECT_EQ(last_total, kWeights);
  // The file holds that and its header.
  const int64_t file_bytes =
      std::filesystem::file_size(to.File(kExponentCheckpointFile));
  EXPECT_GE(file_bytes, report->stored_bytes());
  EXPECT_LE(file_bytes, report->stored_bytes() + 32768);
}

TEST(QuantizeModelTest, TakesTheSmallFilesAlong) {
  TempDirectory to;
  MustQuantize(TinyBpeDirectory(), to.path(),
               MakeModelOptions("pot4", "row", QuantizeMode::kNearest));
  EXPECT_EQ(FilesIn(to.path()),
            (std::set<std::string>{kConfigFile, "vocab.json", "merges.txt",
                                   kExponentCheckpointFile}));
  for (const std::string name : {kConfigFile, "vocab.json", "merges.txt"}) {
    EXPECT_EQ(ReadAll(to.File(name)), ReadAll(TinyBpeDirectory() + "/" + name));
  }
}

TEST(QuantizeModelTest, LoadedModelSaysWhatItIs) {
  QuantizeModelOptions options =
      MakeModelOptions("pot4", "g64", QuantizeMode::kNearest);
  options.embedding.format = *FindPotFormat("pot6");
  TempDirectory to;
  MustQuantize(TinyBpeDirectory(), to.path(), options);
  const auto weights = MustLoad(to.path(), BestKernels());
  EXPECT_TRUE(weights->quantized);
  EXPECT_EQ(weights->format, "pot4");
  EXPECT_EQ(weights->granularity, "g64");
  EXPECT_EQ(weights->embedding_format, "pot6");
  EXPECT_EQ(weights->base_sha256.size(), 64);
  EXPECT_LT(weights->resident_bytes(), 4 * weights->config.num_parameters());
}

TEST(QuantizeModelTest, RefusesOptionsThatDoNotApply) {
  TempDirectory to;
  ThreadPool pool(1);
  const auto run = [&](const QuantizeModelOptions& options) {
    return QuantizeModel(TinyBpeDirectory(), to.path(), options, &pool, nullptr)
        .status();
  };
  EXPECT_EQ(run({}).code(), absl::StatusCode::kInvalidArgument);
  // A book without zero has no paper mode; the tensor is named.
  const absl::Status status =
      run(MakeModelOptions("pot4-strict", "tensor", QuantizeMode::kPaper));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("wte.weight"));
  EXPECT_TRUE(std::filesystem::is_empty(to.path()));
}

TEST(CopyFloatModelTest, CopiesEveryFileOfTheModelAndNothingElse) {
  TempDirectory from, to;
  EditableModel::TinyBpe().Write(from.path());
  ASSERT_TRUE(WriteFile(from.File("README.md"), "not the model's").ok());
  ASSERT_TRUE(CopyFloatModel(from.path(), to.path()).ok());
  EXPECT_EQ(FilesIn(to.path()),
            (std::set<std::string>{kConfigFile, "vocab.json", "merges.txt",
                                   "model.safetensors"}));
  for (const std::string& name : FilesIn(to.path())) {
    EXPECT_EQ(ReadAll(to.File(name)) == ReadAll(from.File(name)), true) << name;
  }
}

}  // namespace
}  // namespace pot
