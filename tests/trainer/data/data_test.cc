// Vocabularies, tokenized texts and batches. make_data_goldens.py computes the
// same things in another language, slowly.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/file.h"
#include "engine/inference_engine.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "test_paths.h"
#include "tests/engine/gpt2/model_testing.h"
#include "trainer/data/batch_sampler.h"
#include "trainer/data/bpe_trainer.h"
#include "trainer/data/self_text.h"
#include "trainer/data/text_slice.h"
#include "trainer/data/token_corpus.h"

namespace pot {
namespace {

using testing::HasSubstr;

nlohmann::json Goldens() {
  std::ifstream file(POT_SOURCE_DIR "/tests/trainer/data/data_goldens.json");
  return nlohmann::json::parse(file);
}

template <typename T>
void ExpectError(const absl::StatusOr<T>& result, absl::StatusCode code,
                 const std::vector<std::string>& parts) {
  EXPECT_EQ(result.status().code(), code) << result.status();
  for (const std::string& part : parts) {
    EXPECT_THAT(std::string(result.status().message()), HasSubstr(part));
  }
}

TrainedVocabulary MustTrain(absl::string_view text, int64_t vocab_size) {
  BpeTrainer trainer;
  EXPECT_TRUE(trainer.AddText(text, nullptr).ok());
  absl::StatusOr<TrainedVocabulary> result = trainer.Train(vocab_size, nullptr);
  EXPECT_TRUE(result.ok()) << result.status();
  return *std::move(result);
}

std::unique_ptr<const Tokenizer> TokenizerOf(const TrainedVocabulary& made) {
  auto tokenizer =
      Tokenizer::FromVocabAndMerges(made.VocabJson(), made.MergesTxt());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

std::vector<int32_t> TokensOf(const TokenCorpus& corpus) {
  std::vector<int32_t> tokens(corpus.size());
  corpus.Copy(0, absl::MakeSpan(tokens));
  return tokens;
}

TokenCorpus CountingCorpus(int64_t size) {
  TokenCorpus corpus(size);
  std::vector<int32_t> tokens(size);
  std::iota(tokens.begin(), tokens.end(), 0);
  EXPECT_TRUE(corpus.Append(tokens).ok());
  return corpus;
}

TEST(BpeTrainerTest, MergesTheMostFrequentPairThenTheLowestIds) {
  // Pieces "ab", " cd", " ab", " cd". GPT-2's ids: a 64, b 65, c 66, d 67,
  // space 220. (a, b), (c, d) and (space, c) occur twice each.
  const TrainedVocabulary tied = MustTrain("ab cd ab cd", 300);
  EXPECT_THAT(tied.merges,
              testing::ElementsAre(std::pair(64, 65), std::pair(66, 67),
                                   std::pair(220, 257)));
  // (space, ab) occurs once.
  EXPECT_EQ(tied.tokens.size(), 256 + 3 + 1);
  EXPECT_EQ(tied.tokens[0], "!");
  EXPECT_EQ(tied.tokens[258], " cd");
  EXPECT_EQ(tied.tokens[259], "<|endoftext|>");

  // "aaa" has (a, a) at two places and becomes "aa" "a".
  const TrainedVocabulary overlapping = MustTrain("aaa aaa b", 300);
  EXPECT_THAT(overlapping.merges,
              testing::ElementsAre(std::pair(64, 64), std::pair(256, 64)));
}

TEST(BpeTrainerTest, EqualsBruteForce) {
  const nlohmann::json goldens = Goldens();
  const auto text = goldens["text"].get<std::string>();
  const TrainedVocabulary made =
      MustTrain(text, goldens["vocab_size"].get<int64_t>());
  const auto merges =
      goldens["merges"].get<std::vector<std::pair<int32_t, int32_t>>>();
  ASSERT_GT(merges.size(), 100);
  EXPECT_EQ(made.merges, merges);

  // The engine cuts the text into as many tokens as the training did.
  const auto tokenizer = TokenizerOf(made);
  std::vector<int32_t> tokens;
  ASSERT_TRUE(tokenizer->Encode(text, &tokens).ok());
  EXPECT_EQ(tokens.size(), goldens["num_tokens"].get<size_t>());
  EXPECT_EQ(*tokenizer->Decode(tokens), text);
  EXPECT_EQ(tokenizer->end_of_text_id(), made.tokens.size() - 1);
}

TEST(BpeTrainerTest, RefusesWhatItCannotDo) {
  BpeTrainer trainer;
  EXPECT_THAT(std::string(trainer.AddText("ab\xff", nullptr).message()),
              HasSubstr("byte 2"));
  ExpectError(trainer.Train(256, nullptr), absl::StatusCode::kInvalidArgument,
              {"257", "256"});
  ExpectError(trainer.Train(1000001, nullptr),
              absl::StatusCode::kInvalidArgument, {"1000000", "1000001"});
}

TEST(VocabularyTest, IsWrittenOnceAndReadsBack) {
  TempDirectory directory;
  const TrainedVocabulary made =
      MustTrain("\"quoted\" \\ back\\ \"quoted", 300);
  ASSERT_TRUE(WriteVocabulary(made, directory.File("new")).ok());
  const auto tokenizer = Tokenizer::Load(directory.File("new"));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocab_size(), made.tokens.size());
  EXPECT_EQ(WriteVocabulary(made, directory.File("new")).code(),
            absl::StatusCode::kAlreadyExists);
}

TEST(VocabularyTest, CharactersAreThoseOfTheShakespeareModel) {
  const std::string text = SharedFile("data/tinyshakespeare.txt");
  const std::string model = SharedFile("models/shakespeare-char");
  if (text.empty() || model.empty()) GTEST_SKIP();
  const TrainedVocabulary made = CharacterVocabulary(*ReadFile(text, 1 << 21));
  const auto json = [](const std::string& text_of) {
    return nlohmann::json::parse(text_of);
  };
  EXPECT_EQ(json(made.VocabJson()),
            json(*ReadFile(model + "/vocab.json", 1 << 20)));
  EXPECT_EQ(made.MergesTxt(), *ReadFile(model + "/merges.txt", 1 << 20));
}

TEST(VocabularyTest, CharactersBeyondAsciiAreTheirBytes) {
  const auto tokenizer = TokenizerOf(CharacterVocabulary("b\xC3\xA9 a"));
  std::vector<int32_t> tokens;
  ASSERT_TRUE(tokenizer->Encode("a\xC3\xA9", &tokens).ok());
  EXPECT_THAT(tokens, testing::ElementsAre(1, 4, 3));
}

TEST(TextSliceTest, AdjacentSlicesShareTheirEnd) {
  std::string text;
  for (int i = 0; i < 101; ++i) text += "\xE2\x82\xAC";
  for (const double cut : {0.1, 0.333, 0.5, 0.8, 0.99}) {
    const absl::string_view left = CutText(text, {0, cut});
    const absl::string_view right = CutText(text, {cut, 1});
    EXPECT_EQ(absl::StrCat(left, right), text) << cut;
    EXPECT_EQ(left.size() % 3, 0) << cut;
  }
  EXPECT_EQ(CutText("0123456789", {0.8, 0.9}), "8");
  EXPECT_EQ(ParseTextSlice("0.8:0.9")->begin, 0.8);
  for (const char* const wrong :
       {"", "0.5", "0.9:0.1", "nan:1", "0:1.1", "-1:1", "0:1:1", "a:b"}) {
    ExpectError(ParseTextSlice(wrong), absl::StatusCode::kInvalidArgument,
                {"BEGIN:END", wrong});
  }
}

TEST(TokenCorpusTest, ChunksGiveTheTokensOfTheWholeText) {
  const std::vector<std::string> parts = {
      " ", "  ", "\n",       "\t",       "a",   "the", "'",  "'s", "'ll",
      "9", "!",  "\xC2\xA0", "\xC3\xA9", " \n", "\n ", ", ", "ban"};
  std::mt19937 random(7);
  std::string text;
  while (text.size() < 60000) text += parts[random() % parts.size()];
  // Of this text, so that there are merges of white space, too.
  const auto tokenizer = TokenizerOf(MustTrain(text, 600));
  std::vector<int32_t> expected;
  ASSERT_TRUE(tokenizer->Encode(text, &expected).ok());
  ThreadPool pool(3);
  for (ThreadPool* const threads : {static_cast<ThreadPool*>(nullptr), &pool}) {
    for (const int64_t chunk_bytes : {1, 50, 1 << 20}) {
      CorpusOptions options;
      options.pool = threads;
      options.chunk_bytes = chunk_bytes;
      const auto corpus = TokenizeText(text, *tokenizer, options);
      ASSERT_TRUE(corpus.ok()) << corpus.status();
      EXPECT_EQ(TokensOf(*corpus), expected) << chunk_bytes;
    }
  }
}

TEST(TokenCorpusTest, ErrorsNameFileAndByte) {
  TempDirectory directory;
  const std::string good = directory.File("good");
  const std::string bad = directory.File("bad");
  ASSERT_TRUE(WriteFile(good, "abab").ok());
  ASSERT_TRUE(WriteFile(bad, "ab\xff").ok());
  const auto tokenizer = TokenizerOf(CharacterVocabulary("ab"));
  const auto code = absl::StatusCode::kInvalidArgument;
  ExpectError(TokenizeFiles({good, bad}, *tokenizer, {}), code,
              {bad, "byte 2", "UTF-8"});
  ASSERT_TRUE(WriteFile(bad, "abc").ok());
  ExpectError(TokenizeFiles({good, bad, good}, *tokenizer, {}), code,
              {bad + ": byte 2", "0x63", "2 tokens"});
  ExpectError(TokenizeText("abc", *tokenizer, {}), code, {"byte 2"});
  ExpectError(TokenizeFiles({}, *tokenizer, {}), code, {"no text file"});
  ExpectError(TokenizeFiles({directory.File("none")}, *tokenizer, {}),
              absl::StatusCode::kNotFound, {"none"});
  CorpusOptions cancelled;
  cancelled.progress = [](int64_t, int64_t) { return false; };
  ExpectError(TokenizeFiles({good}, *tokenizer, cancelled),
              absl::StatusCode::kCancelled, {});
  CorpusOptions half;
  half.slice = {0.5, 1};
  const auto sliced = TokenizeFiles({good, good, good}, *tokenizer, half);
  ASSERT_TRUE(sliced.ok()) << sliced.status();
  EXPECT_EQ(sliced->size(), 6);

  TokenCorpus wide(70000);
  ASSERT_TRUE(wide.Append({69999, 3}).ok());
  EXPECT_FALSE(wide.Append({1, 70000}).ok());
  EXPECT_THAT(TokensOf(wide), testing::ElementsAre(69999, 3));
}

TEST(TokenCorpusTest, IsCachedByTextAndTokenizer) {
  TempDirectory directory;
  const auto tokenizer = TokenizerOf(CharacterVocabulary("ab"));
  int computed = 0;
  const auto tokens_of = [&](absl::string_view text, std::string digest) {
    CorpusOptions options;
    options.cache_directory = directory.File("cache");
    options.tokenizer_digest = std::move(digest);
    options.progress = [&](int64_t, int64_t) {
      ++computed;
      return true;
    };
    const auto corpus = TokenizeText(text, *tokenizer, options);
    EXPECT_TRUE(corpus.ok()) << corpus.status();
    return TokensOf(*corpus);
  };
  const std::vector<int32_t> first = tokens_of("abba", "1");
  EXPECT_EQ(tokens_of("abba", "1"), first);
  EXPECT_EQ(computed, 1);
  EXPECT_NE(tokens_of("abab", "1"), first);
  EXPECT_EQ(tokens_of("abba", "2"), first);
  EXPECT_EQ(computed, 3);

  for (const auto& entry :
       std::filesystem::directory_iterator(directory.File("cache"))) {
    std::string bytes = *ReadFile(entry.path(), 1 << 20);
    bytes.back() = static_cast<char>(bytes.back() ^ 1);  // of the tokens
    ASSERT_TRUE(WriteFile(entry.path(), bytes).ok());
  }
  EXPECT_EQ(tokens_of("abba", "1"), first);
  EXPECT_EQ(computed, 4);
  EXPECT_EQ(tokens_of("abba", "1"), first);
  EXPECT_EQ(computed, 4);
}

TEST(BatchSamplerTest, EqualsThePythonOne) {
  const nlohmann::json goldens = Goldens();
  const TokenCorpus corpus =
      CountingCorpus(goldens["corpus_tokens"].get<int64_t>());
  BatchOptions options;
  options.sequences = 4;
  options.micro_batches = 8;
  options.context = goldens["context"].get<int64_t>();
  options.seed = goldens["seed"].get<uint64_t>();
  const auto sampler = BatchSampler::Create(&corpus, options);
  ASSERT_TRUE(sampler.ok()) << sampler.status();
  for (size_t i = 0; i < goldens["cases"].size(); ++i) {
    const auto at = goldens["cases"][i].get<std::vector<int64_t>>();
    EXPECT_EQ(sampler->Start(at[0], at[1], at[2]),
              goldens["random_starts"][i].get<int64_t>());
  }
  // (1000 - 1 - 16) / 16 + 1 = 62 windows; step 93 begins epoch 3 when a step
  // has two windows.
  options.order = BatchOrder::kEpochs;
  options.sequences = 2;
  options.micro_batches = 1;
  const auto epochs = BatchSampler::Create(&corpus, options);
  ASSERT_TRUE(epochs.ok()) << epochs.status();
  ASSERT_EQ(epochs->num_windows(), 62);
  EXPECT_EQ(epochs->steps_per_epoch(), 31);
  for (int64_t i = 0; i < 62; ++i) {
    EXPECT_EQ(epochs->Start(93 + i / 2, 0, i % 2),
              goldens["permuted_62"][i].get<int64_t>() * 16);
  }
}

TEST(BatchSamplerTest, EveryWindowOnceAnEpoch) {
  for (const int64_t size : {1, 2, 3, 4, 5, 17, 64, 65, 1000}) {
    std::set<int64_t> images;
    int64_t fixed = 0;
    for (int64_t i = 0; i < size; ++i) {
      images.insert(PermutedIndex(1, 0, i, size));
      fixed += PermutedIndex(1, 0, i, size) == PermutedIndex(1, 1, i, size);
    }
    EXPECT_EQ(images.size(), size);
    EXPECT_EQ(*images.begin(), 0);
    EXPECT_EQ(*images.rbegin(), size - 1);
    // Two random orders agree in one place on average; 20 is 19 standard
    // deviations away.
    if (size == 1000) {
      EXPECT_LT(fixed, 20);
    }
  }
}

TEST(BatchSamplerTest, WindowsReachBothEndsAndTargetsComeOneLater) {
  const TokenCorpus corpus = CountingCorpus(8);  // starts 0, 1, 2
  BatchOptions options;
  options.sequences = 5;
  options.context = 5;
  const auto sampler = BatchSampler::Create(&corpus, options);
  ASSERT_TRUE(sampler.ok()) << sampler.status();
  EXPECT_EQ(sampler->num_windows(), 3);
  std::vector<int32_t> inputs(25), targets(25);
  std::vector<int> seen(3);
  for (int64_t step = 0; step < 200; ++step) {
    sampler->Fill(step, 0, absl::MakeSpan(inputs), absl::MakeSpan(targets));
    for (int i = 0; i < 25; ++i) {
      ASSERT_EQ(inputs[i], inputs[i / 5 * 5] + i % 5);
      ASSERT_EQ(targets[i], inputs[i] + 1);
    }
    for (int i = 0; i < 25; i += 5) ++seen.at(inputs[i]);
  }
  // 1000 draws of three: 333 +- 15 each; 75 is five standard deviations.
  for (const int count : seen) EXPECT_NEAR(count, 333, 75);

  options.stride = 3;
  EXPECT_EQ(BatchSampler::Create(&corpus, options)->num_windows(), 1);
  options.context = 7;
  EXPECT_EQ(BatchSampler::Create(&corpus, options)->num_windows(), 1);
  options.context = 8;
  const auto code = absl::StatusCode::kInvalidArgument;
  ExpectError(BatchSampler::Create(&corpus, options), code, {"8 tokens"});
  options.context = 0;
  ExpectError(BatchSampler::Create(&corpus, options), code, {"at least 1"});
  options.sequences = 0;
  ExpectError(BatchSampler::Create(&corpus, options), code, {"not 0"});
}

std::shared_ptr<const LoadedModel> MustLoadModel(const std::string& directory) {
  LoadOptions options;
  options.kernels = BestKernels();
  auto model = LoadModel(directory, {}, options);
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

std::vector<int32_t> MustGenerate(const LoadedModel& model,
                                  const SelfTextOptions& options,
                                  int num_threads) {
  InferenceEngine engine(num_threads, int64_t{1} << 28);
  const auto corpus = GenerateSelfText(model, options, &engine, nullptr);
  EXPECT_TRUE(corpus.ok()) << corpus.status();
  return TokensOf(*corpus);
}

TEST(SelfTextTest, DependsOnSeedAndModelAlone) {
  TempDirectory directory;
  MustQuantize(TinyBpeDirectory(), directory.path(),
               MakeModelOptions("pot4", "row", QuantizeMode::kNearest));
  SelfTextOptions options;
  options.tokens = 250;  // rounded up to four sequences of 64 + 1
  options.batch = 2;
  options.seed = 11;
  for (const std::string& from : {TinyBpeDirectory(), directory.path()}) {
    const auto model = MustLoadModel(from);
    const std::vector<int32_t> tokens = MustGenerate(*model, options, 1);
    ASSERT_EQ(tokens.size(), 4 * 65) << from;
    EXPECT_EQ(MustGenerate(*model, options, 3), tokens) << from;
    SelfTextOptions other = options;
    other.seed = 12;
    EXPECT_NE(MustGenerate(*model, other, 1), tokens) << from;
    if (model->weights->quantized) {
      other = options;
      other.batch = 5;
      EXPECT_EQ(MustGenerate(*model, other, 2), tokens);
    }
  }
}

TEST(SelfTextTest, BeginsWithTheMostProbableTokens) {
  const auto model = MustLoadModel(TinyBpeDirectory());
  SelfTextOptions options;
  options.tokens = 24;
  options.sequence_tokens = 12;
  options.greedy_tokens = 3;
  options.temperature = 10;  // nearly uniform after that
  options.batch = 1;
  const std::vector<int32_t> tokens = MustGenerate(*model, options, 1);
  ASSERT_EQ(tokens.size(), 24);
  InferenceEngine engine(1, int64_t{1} << 28);
  int agreements = 0;
  for (int begin = 0; begin < 24; begin += 12) {
    auto cache = engine.CreateCache(*model, 12);
    ASSERT_TRUE(cache.ok()) << cache.status();
    EXPECT_NE(tokens[begin], model->tokenizer->end_of_text_id());
    for (int i = 0; i < 11; ++i) {
      ForwardSpan span;
      span.cache = cache->get();
      span.tokens = absl::MakeConstSpan(tokens).subspan(begin + i, 1);
      const auto logits = engine.Step(*model, {&span, 1});
      ASSERT_TRUE(logits.ok()) << logits.status();
      const auto best =
          std::max_element(logits->begin(), logits->end()) - logits->begin();
      if (i < 3) {
        EXPECT_EQ(tokens[begin + i + 1], best);
      } else {
        agreements += tokens[begin + i + 1] == best;
      }
    }
  }
  EXPECT_LT(agreements, 16);
}

TEST(SelfTextTest, IsCachedAndChecked) {
  TempDirectory directory;
  const auto model = MustLoadModel(TinyBpeDirectory());
  InferenceEngine engine(1, int64_t{1} << 28);
  SelfTextOptions options;
  options.tokens = 20;
  options.sequence_tokens = 10;
  options.batch = 2;
  int64_t steps = 0;
  const auto generate = [&](const std::string& digest) {
    return GenerateSelfTextCached(*model, digest, options,
                                  directory.File("cache"), &engine,
                                  [&](int64_t done, int64_t total) {
                                    ++steps;
                                    EXPECT_LE(done, total);
                                    return true;
                                  });
  };
  ASSERT_TRUE(generate("a").ok());
  EXPECT_EQ(steps, 9);
  ASSERT_TRUE(generate("a").ok());
  EXPECT_EQ(steps, 9);
  ASSERT_TRUE(generate("b").ok());
  EXPECT_EQ(steps, 18);

  const auto code = absl::StatusCode::kInvalidArgument;
  options.sequence_tokens = 66;
  ExpectError(GenerateSelfText(*model, options, &engine, nullptr), code,
              {"[2, 65]", "66"});
  options.sequence_tokens = 10;
  options.greedy_tokens = 10;
  ExpectError(GenerateSelfText(*model, options, &engine, nullptr), code,
              {"[0, 10)"});
  options.greedy_tokens = 0;
  options.temperature = 0;
  ExpectError(GenerateSelfText(*model, options, &engine, nullptr), code,
              {"temperature", "(0, 10]"});
  options.temperature = 1;
  InferenceEngine small(1, 1000);
  ExpectError(GenerateSelfText(*model, options, &small, nullptr),
              absl::StatusCode::kResourceExhausted, {});
}

}  // namespace
}  // namespace pot
