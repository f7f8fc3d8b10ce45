// Squared error of every format on genuine GPT-2 weights: c_attn and c_proj of
// layers 0, 5 and 11, every 4th output. The expected figures come from an
// independent NumPy search over the same 64 scales.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/thread_pool.h"
#include "engine/quant/pot_quantizer.h"
#include "gtest/gtest.h"
#include "test_paths.h"

namespace pot {
namespace {

constexpr int64_t kInputs = 768;
constexpr int64_t kOutputStride = 4;

// The bytes of `path`; empty when it cannot be read.
std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// Every kOutputStride-th output of the [inputs, outputs] tensors of a
// safetensors file that holds nothing but float32 tensors of kInputs rows:
// one matrix [outputs / kOutputStride][inputs] per tensor, in file order.
std::vector<std::vector<float>> ReadOutputs(const std::string& bytes) {
  uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), sizeof(header_size));
  const std::string header = bytes.substr(8, header_size);
  const char* data = bytes.data() + 8 + header_size;
  std::vector<std::vector<float>> matrices;
  const std::string kOffsets = "\"data_offsets\": [";
  for (size_t at = header.find(kOffsets); at != std::string::npos;
       at = header.find(kOffsets, at + 1)) {
    unsigned long long begin = 0, end = 0;
    if (std::sscanf(header.c_str() + at + kOffsets.size(), "%llu, %llu", &begin,
                    &end) != 2 ||
        end > bytes.size() - 8 - header_size) {
      ADD_FAILURE() << "unexpected header";
      return {};
    }
    const int64_t outputs = (end - begin) / 4 / kInputs;
    std::vector<float> matrix;
    for (int64_t n = 0; n < outputs; n += kOutputStride) {
      for (int64_t k = 0; k < kInputs; ++k) {
        float w = 0.0f;
        std::memcpy(&w, data + begin + 4 * (k * outputs + n), sizeof(w));
        matrix.push_back(w);
      }
    }
    matrices.push_back(std::move(matrix));
  }
  return matrices;
}

struct Expected {
  const char* format;
  double tensor, row, g128, g64, g32;
};

constexpr Expected kExpected[] = {
    {"pot4-strict", .0384, .0352, .0312, .0287, .0253},
    {"pot4", .0384, .0352, .0313, .0288, .0254},
    {"pot3-strict", .0892, .0487, .0427, .0385, .0332},
    {"pot3", .0764, .0477, .0406, .0362, .0308},
    {"pot2-strict", .2920, .1845, .1746, .1669, .1614},
    {"twohot4", .0255, .0118, .0096, .0086, .0075},
    {"int4", .0391, .0150, .0112, .0093, .0074},
    {"int3", .0897, .0476, .0396, .0344, .0286},
};

double ErrorOf(const std::vector<std::vector<float>>& matrices,
               const QuantizeOptions& options, ThreadPool* pool) {
  double error = 0.0, power = 0.0;
  for (const std::vector<float>& weights : matrices) {
    const int64_t rows = weights.size() / kInputs;
    const auto result = QuantizePot(weights, rows, kInputs, options, pool);
    EXPECT_TRUE(result.ok()) << result.status();
    if (!result.ok()) return NAN;
    double matrix_power = 0.0;
    for (const float w : weights) matrix_power += double{w} * w;
    error += matrix_power * NormalizedSquaredError(weights, *result);
    power += matrix_power;
  }
  return error / power;
}

TEST(Gpt2WeightsTest, NearestReachesTheReferenceErrors) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "NOT TESTED under sanitizers: 40 full searches take minutes "
                  "there, and other tests run the same code";
#endif
  const std::string path = absl::StrCat(POT_SHARED_DIR, "/data/gpt2-attention/",
                                        "attention-layers-0-5-11.safetensors");
  const std::string bytes = ReadAll(path);
  if (bytes.empty()) GTEST_SKIP() << "NOT TESTED: missing " << path;
  const auto matrices = ReadOutputs(bytes);
  ASSERT_EQ(matrices.size(), 6u);

  ThreadPool pool(2);
  std::printf("%-12s %8s %8s %8s %8s %8s\n", "format", "tensor", "row", "g128",
              "g64", "g32");
  for (const Expected& expected : kExpected) {
    const std::pair<const char*, double> cells[] = {{"tensor", expected.tensor},
                                                    {"row", expected.row},
                                                    {"g128", expected.g128},
                                                    {"g64", expected.g64},
                                                    {"g32", expected.g32}};
    std::printf("%-12s", expected.format);
    for (const auto& [grain, figure] : cells) {
      QuantizeOptions options;
      options.format = *FindPotFormat(expected.format);
      options.granularity = *Granularity::Parse(grain);
      const double error = ErrorOf(matrices, options, &pool);
      std::printf(" %8.4f", error);
      // The figures have four decimals; the other half unit is for scales that
      // are equally good to the float32 sums of the search.
      EXPECT_NEAR(error, figure, 1e-4) << expected.format << " " << grain;
    }
    std::printf("\n");
  }

  std::printf("%-12s %8s %8s %8s %8s\n", "format", "row 0.1%", "row 0.5%",
              "g64p2", "g32p2");
  for (const char* format : {"pot4", "pot3", "twohot4"}) {
    const auto error_of = [&](const char* grain, double outliers) {
      QuantizeOptions options;
      options.format = *FindPotFormat(format);
      options.granularity = *Granularity::Parse(grain);
      options.outliers = outliers;
      return ErrorOf(matrices, options, &pool);
    };
    const double row = error_of("row", 0), sparse = error_of("row", 0.001),
                 sparser = error_of("row", 0.005), g64p2 = error_of("g64p2", 0),
                 g32p2 = error_of("g32p2", 0);
    std::printf("%-12s %8.4f %8.4f %8.4f %8.4f\n", format, sparse, sparser,
                g64p2, g32p2);
    EXPECT_LT(sparse, row) << format;
    EXPECT_LT(sparser, sparse) << format;
    // pot4 gains nothing: its own levels are powers of two already, over the
    // same octaves.
    EXPECT_LT(g64p2, (format == std::string("pot4") ? 1.001 : 0.95) * row)
        << format;
    EXPECT_LT(g32p2, 1.001 * g64p2) << format;
  }
}

}  // namespace
}  // namespace pot
