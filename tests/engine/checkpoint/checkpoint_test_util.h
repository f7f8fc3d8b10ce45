// Helpers of the tests in this folder.
#ifndef POT_TESTS_ENGINE_CHECKPOINT_CHECKPOINT_TEST_UTIL_H_
#define POT_TESTS_ENGINE_CHECKPOINT_CHECKPOINT_TEST_UTIL_H_

#include <stdlib.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/quant/pot_matrix.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {

#define POT_ASSERT_OK(expr)                                 \
  do {                                                      \
    const auto& pot_result_ = (expr);                       \
    ASSERT_TRUE(pot_result_.ok()) << StatusOf(pot_result_); \
  } while (false)

#define POT_EXPECT_OK(expr)                                 \
  do {                                                      \
    const auto& pot_result_ = (expr);                       \
    EXPECT_TRUE(pot_result_.ok()) << StatusOf(pot_result_); \
  } while (false)

inline const absl::Status& StatusOf(const absl::Status& status) {
  return status;
}
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

// EXPECTs the code and a part of the message.
template <typename Result>
void ExpectError(const Result& result, absl::StatusCode code,
                 const std::string& part) {
  EXPECT_EQ(StatusOf(result).code(), code) << StatusOf(result);
  EXPECT_THAT(std::string(StatusOf(result).message()),
              testing::HasSubstr(part));
}

// A new directory, removed with all its content.
class TempDirectory {
 public:
  TempDirectory() {
    std::string pattern = testing::TempDir() + "/pot-XXXXXX";
    path_ = mkdtemp(pattern.data());
  }
  ~TempDirectory() { std::filesystem::remove_all(path_); }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const {
    return path_ + "/" + name;
  }

 private:
  std::string path_;
};

inline std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void WriteAll(const std::string& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << bytes;
}

inline std::vector<std::string> NamesIn(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    names.push_back(entry.path().filename());
  }
  return names;
}

inline absl::Span<const uint8_t> AsBytes(absl::string_view text) {
  return absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(text.data()),
                             text.size());
}

template <typename T>
TensorView ViewOf(TensorType type, std::vector<int64_t> shape,
                  const std::vector<T>& values) {
  return {type, std::move(shape),
          absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(values.data()),
                              values.size() * sizeof(T))};
}

inline std::string LittleEndian64(uint64_t value) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &value, 8);
  return bytes;
}

// A safetensors file by hand.
inline std::string RawSafetensors(const std::string& header,
                                  const std::string& data) {
  return LittleEndian64(header.size()) + header + data;
}

// Codes and scales drawn from a fixed generator: every code appears, in a
// different order for each seed.
inline PotMatrix MakeMatrix(const std::string& format_name, int64_t rows,
                            int64_t cols, const std::string& granularity_name,
                            uint32_t seed) {
  const PotFormat* format = FindPotFormat(format_name).value();
  const Granularity granularity = Granularity::Parse(granularity_name).value();
  uint32_t state = seed;
  const auto next = [&state] { return (state = state * 1664525 + 1013904223); };
  std::vector<PotCode> codes(rows * cols);
  for (PotCode& code : codes) code = (next() >> 20) % format->num_codes();
  std::vector<float> scales(granularity.kind == Granularity::Kind::kTensor
                                ? 1
                                : rows * granularity.GroupsPerRow(cols));
  for (float& scale : scales) {
    scale = (static_cast<float>(next() >> 8) - 0x1p23f) * 0x1p-30f;
  }
  return PotMatrix::FromCodes(format, rows, cols, granularity, codes, scales)
      .value();
}

inline std::vector<float> Dequantize(const PotMatrix& matrix) {
  std::vector<float> weights(matrix.rows() * matrix.cols());
  for (int64_t row = 0; row < matrix.rows(); ++row) {
    matrix.DequantizeRow(row, absl::MakeSpan(weights).subspan(
                                  row * matrix.cols(), matrix.cols()));
  }
  return weights;
}

}  // namespace pot

#endif  // POT_TESTS_ENGINE_CHECKPOINT_CHECKPOINT_TEST_UTIL_H_
