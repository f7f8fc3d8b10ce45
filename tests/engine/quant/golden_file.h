// Reader of the file that make_quantizer_goldens.py writes.
#ifndef POT_TESTS_ENGINE_QUANT_GOLDEN_FILE_H_
#define POT_TESTS_ENGINE_QUANT_GOLDEN_FILE_H_

#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "test_paths.h"

namespace pot {

struct GoldenTensor {
  std::string dtype;
  int64_t rows = 0;
  int64_t cols = 0;
  std::string bytes;

  // The values, which must have been stored as a T.
  template <typename T>
  std::vector<T> As() const {
    EXPECT_EQ(bytes.size(), static_cast<size_t>(rows * cols) * sizeof(T));
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
    return values;
  }
};

// Every tensor of the file by name; empty, with a failure, when unreadable.
inline std::map<std::string, GoldenTensor> ReadGoldens() {
  const std::map<std::string, int64_t> kSizes = {
      {"float32", 4}, {"float64", 8}, {"int32", 4}, {"int8", 1}, {"uint8", 1}};
  const std::string path =
      POT_SOURCE_DIR "/tests/engine/quant/testdata/quantizer_goldens.bin";
  std::ifstream file(path, std::ios::binary);
  std::map<std::string, GoldenTensor> tensors;
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream header(line);
    std::string name;
    GoldenTensor tensor;
    header >> name >> tensor.dtype >> tensor.rows >> tensor.cols;
    const auto size = kSizes.find(tensor.dtype);
    if (header.fail() || size == kSizes.end()) {
      ADD_FAILURE() << "bad header in " << path << ": " << line;
      return {};
    }
    tensor.bytes.resize(tensor.rows * tensor.cols * size->second);
    file.read(tensor.bytes.data(), tensor.bytes.size());
    if (!file) {
      ADD_FAILURE() << "truncated: " << path;
      return {};
    }
    tensors[name] = std::move(tensor);
  }
  EXPECT_FALSE(tensors.empty()) << "cannot read " << path;
  return tensors;
}

}  // namespace pot

#endif  // POT_TESTS_ENGINE_QUANT_GOLDEN_FILE_H_
