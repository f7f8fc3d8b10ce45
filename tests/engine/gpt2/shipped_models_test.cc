// The bits of the models that come with the project: perplexity on
// deploy/sample.txt, windows of the whole context that do not overlap.
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/base/file.h"
#include "engine/gpt2/evaluation.h"
#include "engine/gpt2/model_files.h"
#include "gtest/gtest.h"
#include "tests/engine/gpt2/model_testing.h"

namespace pot {
namespace {

// Figures that a user may have written down. They may change with a model's
// files or its arithmetic, and then the engine's version must; never with a
// kernel, a batch, a thread or a CPU. `pot-trainer eval` prints them.
struct Golden {
  const char* model;
  ActivationMode activations;
  double mean_nats;
};
constexpr Golden kGoldens[] = {
    // 1.592108564357909
    {"shakespeare-char/2", ActivationMode::kAffine, 0x1.97946d4799466p+0},
    // 1.5900396732842543
    {"shakespeare-char/2", ActivationMode::kSymmetric, 0x1.970cd70c19309p+0},
    // 1.575372021516157
    {"shakespeare-char/3", ActivationMode::kAffine, 0x1.934b94af71ff6p+0},
    // 1.5749320106859743
    {"shakespeare-char/3", ActivationMode::kSymmetric, 0x1.932ebe8751dd4p+0},
    // 4.445404228751059
    {"novels/1", ActivationMode::kAffine, 0x1.1c8180bcff190p+2},
};

class ShippedModelsTest : public testing::TestWithParam<Golden> {};

TEST_P(ShippedModelsTest, PerplexityNeverChangesABit) {
  const std::string directory =
      DeployedFile(absl::StrCat("models/", GetParam().model));
  const auto text = ReadFile(DeployedFile("sample.txt"), 1 << 20);
  ASSERT_TRUE(text.ok()) << text.status();
  int64_t tables = 0;
  for (const KernelTable* kernels : AllKernelTables()) {
    if (!kernels->supported()) {
      std::cerr << "SKIPPED: this CPU cannot run " << kernels->name << "\n";
      continue;
    }
    ++tables;
    const auto weights = MustLoad(directory, kernels, GetParam().activations);
    const auto tokenizer = LoadTokenizer(directory, weights->config);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    std::vector<int32_t> tokens;
    ASSERT_TRUE((*tokenizer)->Encode(*text, &tokens).ok());
    const int64_t T = weights->config.n_positions;
    ThreadPool pool(2);
    const auto sums = Evaluate(
        *weights, nullptr, tokens, {T, T}, [](int32_t) { return 1; }, &pool,
        nullptr);
    ASSERT_TRUE(sums.ok()) << sums.status();
    EXPECT_EQ(sums->tokens, static_cast<int64_t>(tokens.size()) - 1);
    // Equal, not near.
    EXPECT_EQ(sums->mean_nats(), GetParam().mean_nats)
        << kernels->name << ": the difference is "
        << sums->mean_nats() - GetParam().mean_nats;
  }
  EXPECT_GE(tables, 2);  // scalar and shift run everywhere
}

INSTANTIATE_TEST_SUITE_P(Models, ShippedModelsTest, testing::ValuesIn(kGoldens),
                         [](const auto& test) {
                           return absl::StrReplaceAll(
                               absl::StrCat(
                                   test.param.model, "/",
                                   ActivationModeName(test.param.activations)),
                               {{"-", "_"}, {"/", "_"}});
                         });

}  // namespace
}  // namespace pot
