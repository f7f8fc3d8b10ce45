#include "engine/inference_engine.h"

#include <filesystem>

#include "engine/base/file.h"
#include "engine/gpt2/engine_version.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/gpt2/model_testing.h"

namespace pot {
namespace {

using testing::HasSubstr;

absl::StatusOr<std::shared_ptr<const LoadedModel>> Load(
    const std::string& directory) {
  LoadOptions options;
  options.kernels = BestKernels();
  return LoadModel(directory, {"tiny", 7, "abc"}, options);
}

TEST(LoadModelTest, FloatAndQuantized) {
  const auto exact = Load(TinyBpeDirectory());
  ASSERT_TRUE(exact.ok()) << exact.status();
  EXPECT_EQ((*exact)->identity.name, "tiny");
  EXPECT_EQ((*exact)->identity.version, 7);
  EXPECT_EQ((*exact)->kv_type, KvType::kF32);
  EXPECT_EQ((*exact)->tokenizer->vocab_size(), 300);
  EXPECT_EQ((*exact)->tokenizer->end_of_text_id(), 299);

  TempDirectory directory;
  MustQuantize(TinyBpeDirectory(), directory.path(),
               MakeModelOptions("pot4", "row", QuantizeMode::kNearest));
  const auto quantized = Load(directory.path());
  ASSERT_TRUE(quantized.ok()) << quantized.status();
  EXPECT_EQ((*quantized)->kv_type, KvType::kF16);
  EXPECT_THAT(kEngineVersion, testing::StartsWith("pot "));
}

TEST(LoadModelTest, ATokenizerMayHaveFewerTokensThanTheEmbeddingNotMore) {
  TempDirectory directory;
  EditableModel::TinyBpe().Write(directory.path());
  auto vocab = ReadFile(directory.File("vocab.json"), 1 << 20);
  ASSERT_TRUE(vocab.ok());
  const size_t brace = vocab->rfind('}');
  ASSERT_TRUE(WriteFile(directory.File("vocab.json"),
                        vocab->substr(0, brace) + ", \"zzzz\": 300}")
                  .ok());
  const auto more = Load(directory.path());
  EXPECT_EQ(more.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(
      std::string(more.status().message()),
      HasSubstr("tokenizer has 301 tokens, more than the embedding's 300"));

  const size_t last = vocab->rfind(", \"<|endoftext|>\"");
  ASSERT_NE(last, std::string::npos);
  ASSERT_TRUE(WriteFile(directory.File("vocab.json"),
                        vocab->substr(0, last).append("}"))
                  .ok());
  const auto fewer = Load(directory.path());
  ASSERT_TRUE(fewer.ok()) << fewer.status();
  EXPECT_EQ((*fewer)->tokenizer->vocab_size(), 299);
}

TEST(LoadModelTest, WithoutATokenizer) {
  TempDirectory directory;
  EditableModel::TinyBpe().Write(directory.path());
  std::filesystem::remove(directory.File("vocab.json"));
  EXPECT_EQ(Load(directory.path()).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(InferenceEngineTest, StepsSequencesUnderOneBudget) {
  const auto model = Load(TinyBpeDirectory());
  ASSERT_TRUE(model.ok()) << model.status();
  const int64_t one = KvCache::BytesFor((*model)->config(), KvType::kF32, 64);
  InferenceEngine engine(2, 2 * one);
  auto a = engine.CreateCache(**model, 64);
  auto b = engine.CreateCache(**model, 64);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(engine.CreateCache(**model, 1).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(engine.CreateCache(**model, 65).status().code(),
            absl::StatusCode::kInvalidArgument);

  const std::vector<int32_t> prompt = {1, 2, 3}, other = {4};
  const auto logits =
      engine.Step(**model, {{a->get(), prompt}, {b->get(), other}});
  ASSERT_TRUE(logits.ok()) << logits.status();
  EXPECT_EQ(logits->size(), 2 * 300);
  EXPECT_EQ((*a)->length(), 3);
  const std::vector<int32_t> bad = {300};
  EXPECT_EQ(engine.Step(**model, {{a->get(), bad}}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ((*a)->length(), 3);

  a->reset();
  EXPECT_EQ(engine.kv_budget()->used_bytes(), one);
}

}  // namespace
}  // namespace pot
