// fp32 logits against an independent float64 implementation;
// make_logit_goldens.py wrote the goldens.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/gpt2/forward.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "test_paths.h"
#include "tests/engine/gpt2/model_testing.h"

namespace pot {
namespace {

template <typename To, typename From>
std::vector<To> Values(const TensorView& view) {
  std::vector<From> values(view.num_elements());
  std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
  return {values.begin(), values.end()};
}

// max |a - b| / max |b| over all logits. Relative to the largest logit, for a
// logit is a sum of C products and its rounding error grows with their size,
// not with that of the sum, which may well be 0.
double RelativeError(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0, error = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    largest = std::max<double>(largest, std::abs(b[i]));
    error = std::max<double>(error, std::abs(double{a[i]} - b[i]));
  }
  return error / largest;
}

void CompareWithGolden(const std::string& name, const std::string& directory) {
  const auto golden = SafetensorsFile::Open(std::string(POT_SOURCE_DIR) +
                                            "/tests/engine/gpt2/goldens/" +
                                            name + ".safetensors");
  ASSERT_TRUE(golden.ok()) << golden.status();
  const auto ids = Values<int32_t, int64_t>(*(*golden)->Find("ids"));
  const auto expected = Values<float, float>(*(*golden)->Find("logits"));

  for (const KernelTable* kernels : AllKernelTables()) {
    if (!kernels->supported()) continue;
    const auto weights = MustLoad(directory, kernels);
    auto cache = KvCache::Create(weights->config, KvType::kF32, ids.size(),
                                 std::make_shared<KvBudget>(1 << 24));
    ASSERT_TRUE(cache.ok()) << cache.status();
    ThreadPool pool(2);
    ForwardScratch scratch;
    std::vector<float> logits;
    const ForwardSpan span = {cache->get(), ids, ForwardSpan::Logits::kAll};
    ASSERT_TRUE(Forward(*weights, {span}, &pool, &scratch, &logits).ok());

    ASSERT_EQ(logits.size(), expected.size());
    // The bound. Each of some ten sums of up to 288 fp32 products
    // along a logit's path errs by at most 288 * 6e-8 = 2e-5 of its terms,
    // typically by the square root of that count, 1e-6.
    const double error = RelativeError(logits, expected);
    EXPECT_LE(error, 1e-4) << kernels->name;
    std::printf("%s, %s: largest relative error %.2g\n", name.c_str(),
                std::string(kernels->name).c_str(), error);
  }
}

TEST(LogitGoldensTest, TinyBpe) {
  CompareWithGolden("tiny-bpe", TinyBpeDirectory());
}

TEST(LogitGoldensTest, ShakespeareChar) {
  const std::string directory = SharedFile("models/shakespeare-char");
  if (directory.empty()) GTEST_SKIP() << "no models/shakespeare-char";
  CompareWithGolden("shakespeare-char", directory);
}

}  // namespace
}  // namespace pot
