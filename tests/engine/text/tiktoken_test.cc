// GPT-2's own vocabulary against js-tiktoken; make_tiktoken_goldens.mjs wrote
// the goldens. Needs vocab.json and merges.txt of GPT-2 in POT_SHARED_DIR.
#include <filesystem>
#include <numeric>

#include "engine/base/file.h"
#include "engine/base/sha256.h"
#include "engine/text/tokenizer.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "test_paths.h"

namespace pot {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

const char kTokenizerDir[] = POT_SHARED_DIR "/data/gpt2-tokenizer";
const char kNovels[] = POT_SHARED_DIR "/data/novels_train.txt";
const char kGoldens[] =
    POT_SOURCE_DIR "/tests/engine/text/tiktoken_goldens.json";

class TiktokenTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(kTokenizerDir)) {
      GTEST_SKIP() << "NOT TESTED: GPT-2's vocabulary is missing: "
                   << kTokenizerDir;
    }
    tokenizer_ = Tokenizer::Load(kTokenizerDir).value();
    goldens_ = json::parse(ReadFile(kGoldens, 1 << 20).value());
  }

  Ids Encode(absl::string_view text) const {
    Ids ids;
    const absl::Status status = tokenizer_->Encode(text, &ids);
    EXPECT_TRUE(status.ok()) << status;
    return ids;
  }

  std::unique_ptr<const Tokenizer> tokenizer_;
  json goldens_;
};

std::string Sha256OfIds(const Ids& ids) {
  std::vector<uint8_t> bytes;
  for (const int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8) {
      bytes.push_back(static_cast<uint8_t>(id >> shift));
    }
  }
  return Sha256Hex(bytes);
}

TEST_F(TiktokenTest, Vocabulary) {
  EXPECT_EQ(tokenizer_->vocab_size(), 50257);
  EXPECT_EQ(tokenizer_->end_of_text_id(), 50256);
}

TEST_F(TiktokenTest, EveryGoldenString) {
  ASSERT_GE(goldens_["cases"].size(), 350);
  for (const json& golden : goldens_["cases"]) {
    const std::string unit = golden[0];
    std::string text;
    for (int i = golden[1]; i > 0; --i) text += unit;
    EXPECT_EQ(Encode(text), golden[2].get<Ids>()) << golden[0] << golden[1];
    EXPECT_EQ(tokenizer_->Decode(golden[2].get<Ids>()).value(), text);
  }
}

TEST_F(TiktokenTest, OneMegabyteOfNovels) {
  if (!std::filesystem::exists(kNovels)) {
    GTEST_SKIP() << "NOT TESTED: the novels are missing: " << kNovels;
  }
  const json& novels = goldens_["novels"];
  const MappedFile file = MappedFile::Open(kNovels).value();
  const auto bytes = file.bytes().first(novels["bytes"]);
  ASSERT_EQ(Sha256Hex(bytes), novels["text_sha256"]) << "other novels";
  const Ids ids = Encode(absl::string_view(
      reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  EXPECT_EQ(ids.size(), novels["tokens"]);
  EXPECT_EQ(Sha256OfIds(ids), novels["ids_sha256"]);
}

// A model of characters is the same algorithm without merges: the papers'
// 65 characters, ids in the order of their bytes.
TEST(CharacterModelTest, OneIdPerCharacter) {
  const char kModel[] = POT_SHARED_DIR "/models/shakespeare-char";
  if (!std::filesystem::exists(kModel)) {
    GTEST_SKIP() << "NOT TESTED: the character model is missing: " << kModel;
  }
  const auto tokenizer = Tokenizer::Load(kModel).value();
  EXPECT_EQ(tokenizer->vocab_size(), 65);
  EXPECT_EQ(tokenizer->end_of_text_id(), -1);
  const std::string text =
      "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  Ids ids;
  ASSERT_TRUE(tokenizer->Encode(text, &ids).ok());
  Ids expected(65);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(ids, expected);
  EXPECT_EQ(tokenizer->Decode(ids).value(), text);
  EXPECT_EQ(tokenizer->Encode("a 4", &ids).code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace pot
