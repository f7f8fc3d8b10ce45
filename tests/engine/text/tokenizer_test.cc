#include "engine/text/tokenizer.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>

#include "engine/base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/text/small_bpe.h"

namespace pot {
namespace {

using absl::StatusCode;
using nlohmann::json;
using testing::HasSubstr;
using Ids = std::vector<int32_t>;

std::unique_ptr<const Tokenizer> English() {
  const SmallBpe bpe = EnglishBpe();
  return Tokenizer::FromVocabAndMerges(bpe.vocab_json(), bpe.merges_txt)
      .value();
}

Ids Encode(const Tokenizer& tokenizer, absl::string_view text) {
  Ids ids;
  const absl::Status status = tokenizer.Encode(text, &ids);
  EXPECT_TRUE(status.ok()) << status;
  return ids;
}

TEST(TokenizerTest, EncodesByHand) {
  const auto tokenizer = English();
  EXPECT_EQ(tokenizer->vocab_size(), 269);
  EXPECT_EQ(Encode(*tokenizer, ""), Ids{});
  EXPECT_EQ(Encode(*tokenizer, "hello"), Ids{260});
  EXPECT_EQ(Encode(*tokenizer, " hello"), (Ids{' ', 260}));
  EXPECT_EQ(Encode(*tokenizer, " heal"), (Ids{261, 'a', 'l'}));
  EXPECT_EQ(Encode(*tokenizer, "she's"), (Ids{'s', 257, 267}));
  EXPECT_EQ(Encode(*tokenizer, "a    b"), (Ids{'a', 262, ' ', ' ', 'b'}));
  EXPECT_EQ(Encode(*tokenizer,
                   "\xC3\xA9\xC3"
                   "\xA8"),
            (Ids{268, 0xC3, 0xA8}));
  // Three letters a: the leftmost pair merges.
  EXPECT_EQ(Encode(*tokenizer, "aaa"), (Ids{265, 'a'}));
}

TEST(TokenizerTest, EncodeAppends) {
  Ids ids = {7};
  ASSERT_TRUE(English()->Encode("hello", &ids).ok());
  EXPECT_EQ(ids, (Ids{7, 260}));
}

TEST(TokenizerTest, EndOfTextIsNeverEncoded) {
  const auto tokenizer = English();
  EXPECT_EQ(tokenizer->end_of_text_id(), 256);
  EXPECT_EQ(tokenizer->TokenBytes(256), "<|endoftext|>");
  const Ids ids = Encode(*tokenizer, "<|endoftext|>");
  EXPECT_EQ(ids.size(), 13);
  EXPECT_THAT(ids, testing::Not(testing::Contains(256)));
}

TEST(TokenizerTest, DecodesAnyIds) {
  const auto tokenizer = English();
  EXPECT_EQ(tokenizer->Decode({260, 0xF0, 256, 268}).value(),
            "hello\xF0<|endoftext|>\xC3\xA9");
  for (int32_t id : {-1, 269, 1 << 30}) {
    const absl::Status status = tokenizer->Decode({260, id}).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("not in the vocabulary of 269 tokens"));
    EXPECT_EQ(tokenizer->TokenBytes(id), "");
  }
}

TEST(TokenizerTest, InvalidUtf8IsRefusedAndChangesNothing) {
  Ids ids = {7};
  const absl::Status status = English()->Encode("hello\xED\xA0\x80", &ids);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("byte 5"));
  EXPECT_EQ(ids, Ids{7});
}

TEST(TokenizerTest, CharacterModelRefusesOtherBytes) {
  const auto tokenizer =
      Tokenizer::FromVocabAndMerges(R"({"a": 0, "b": 2, "\u0120": 1})",
                                    "#version: 0.2\n")
          .value();
  EXPECT_EQ(tokenizer->end_of_text_id(), -1);
  EXPECT_EQ(Encode(*tokenizer, "ab  a"), (Ids{0, 2, 1, 1, 0}));
  Ids ids = {7};
  const absl::Status status = tokenizer->Encode("ab \xC3\xA9", &ids);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("byte 0xC3 at offset 3 of the text is not in the "
                        "vocabulary of 3 tokens"));
  EXPECT_EQ(ids, Ids{7});
}

TEST(TokenizerTest, TextOverTheLimit) {
  Ids ids;
  const absl::Status status =
      English()->Encode(std::string(kMaxEncodeBytes + 1, 'a'), &ids);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("268435457 bytes, more than the limit of 268435456"));
}

// Quadratic work would be 10^12 steps here, hours; n log n is a second, also
// under a sanitizer.
TEST(TokenizerTest, EndlessRunsTakeLinearithmicTime) {
  const auto tokenizer = English();
  for (const char* unit : {"a", " ", "\n", "!", "'", "a ", " a", "'s"}) {
    std::string text;
    while (text.size() < 1000000) text += unit;
    const auto start = std::chrono::steady_clock::now();
    const Ids ids = Encode(*tokenizer, text);
    EXPECT_LT(std::chrono::steady_clock::now() - start,
              std::chrono::seconds(60))
        << unit;
    EXPECT_EQ(tokenizer->Decode(ids).value(), text);
  }
}

TEST(TokenizerTest, MergesMayEndLinesWithCrLf) {
  const auto tokenizer = Tokenizer::FromVocabAndMerges(
      R"({"a": 0, "b": 1, "ab": 2, "aba": 3})", "a b\r\nab a\r\n\r\n");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(Encode(**tokenizer, "abaab"), (Ids{3, 2}));
}

void ExpectRefused(const absl::StatusOr<std::unique_ptr<const Tokenizer>>& t,
                   const std::string& message) {
  ASSERT_FALSE(t.ok()) << message;
  EXPECT_EQ(t.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(t.status().message()), HasSubstr(message));
}

TEST(TokenizerTest, RefusesBadVocabularies) {
  const struct {
    const char* vocab;
    const char* message;
  } cases[] = {
      {"", "vocab.json: not JSON"},
      {"[]", "vocab.json: the vocabulary is no object"},
      {"{}", "vocab.json: the vocabulary is empty"},
      {R"({"a": 0, "a": 1})", "duplicate key"},
      {R"({"a": 0, "b": 0})", "both have id 0"},
      {R"({"a": 0, "b": 2})", "has id 2, but 2 tokens have the ids 0 to 1"},
      {R"({"a": 0, "b": 18446744073709551615})", "has id 18446744073709551615"},
      {R"({"a": -1})", "the id of token \"a\" is no whole number"},
      {R"({"a": 0.0})", "the id of token \"a\" is no whole number"},
      {R"({"a": "0"})", "the id of token \"a\" is no whole number"},
      {R"({"a": null})", "the id of token \"a\" is no whole number"},
      {R"({"": 0})", "vocab.json: a token is empty"},
      {"{\"\xFF\": 0}", "vocab.json: invalid UTF-8"},
  };
  for (const auto& [vocab, message] : cases) {
    ExpectRefused(Tokenizer::FromVocabAndMerges(vocab, ""), message);
  }
}

TEST(TokenizerTest, RefusesBadMerges) {
  const char* vocab =
      R"({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3, "<": 4,
          "|endoftext|>": 5, "a b": 6, "a ": 7, "c": 8})";
  const struct {
    const char* merges;
    const char* message;
  } cases[] = {
      {"a b\nx b\n", "merges.txt: line 2: \"x\" is not an ordinary token"},
      {"#version\na x\n", "merges.txt: line 2: \"x\" is not an ordinary"},
      {"a b\n\nb a\n", "merges.txt: line 3: \"ba\" is not an ordinary token"},
      {"a b\na b\n", "merges.txt: line 2: \"a\" and \"b\" are merged before"},
      {"ab\n", "line 1 is \"ab\", not two tokens and one space"},
      // A message must not carry a terminal's commands.
      {"\x1B[2J\n", "line 1 is \"\\033[2J\", not two tokens"},
      {"a  b\n", "not two tokens and one space"},
      {"a b \n", "not two tokens and one space"},
      {" a\n", "not two tokens and one space"},
      {"a \n", "not two tokens and one space"},
      {"a b\n#version: 0.2\n", "line 2: \"#version:\" is not"},
      {"< |endoftext|>\n", "\"<|endoftext|>\" is not an ordinary token"},
      {"\xFF \xFF\n", "merges.txt: invalid UTF-8 at byte 0"},
  };
  for (const auto& [merges, message] : cases) {
    ExpectRefused(Tokenizer::FromVocabAndMerges(vocab, merges), message);
  }
}

TEST(TokenizerTest, LimitsOfFiles) {
  std::string vocab = "{";
  for (size_t id = 0; id <= kMaxVocabSize; ++id) {
    vocab += (id > 0 ? ",\"" : "\"") + std::to_string(id) +
             "\":" + std::to_string(id);
  }
  ExpectRefused(Tokenizer::FromVocabAndMerges(vocab + "}", ""),
                "more tokens than the limit of 1000000");
  const std::string too_long(kMaxTokenizerFileBytes + 1, ' ');
  ExpectRefused(Tokenizer::FromVocabAndMerges(too_long, ""),
                "vocab.json: 67108865 bytes, more than the limit of 67108864");
  ExpectRefused(Tokenizer::FromVocabAndMerges("{\"a\": 0}", too_long),
                "merges.txt: 67108865 bytes, more than the limit");
  ExpectRefused(Tokenizer::FromTokenizerJson(too_long),
                "tokenizer.json: 67108865 bytes, more than the limit");
}

// tokenizer.json of the English vocabulary.
json TokenizerJson() {
  const SmallBpe bpe = EnglishBpe();
  json merges = json::array();
  size_t start = bpe.merges_txt.find('\n') + 1;
  while (start < bpe.merges_txt.size()) {
    const size_t end = bpe.merges_txt.find('\n', start);
    merges.push_back(bpe.merges_txt.substr(start, end - start));
    start = end + 1;
  }
  return {
      {"version", "1.0"},
      {"normalizer", nullptr},
      {"added_tokens",
       {{{"id", 256}, {"content", "<|endoftext|>"}, {"special", true}}}},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"vocab", bpe.vocab},
        {"merges", merges}}}};
}

TEST(TokenizerTest, TokenizerJsonEqualsVocabAndMerges) {
  const std::string text = "hello  she's    \n\naaaaa \xC3\xA9<|endoftext|>";
  const Ids expected = Encode(*English(), text);
  json document = TokenizerJson();
  const auto strings = Tokenizer::FromTokenizerJson(document.dump());
  ASSERT_TRUE(strings.ok()) << strings.status();
  EXPECT_EQ(Encode(**strings, text), expected);
  EXPECT_EQ((*strings)->end_of_text_id(), 256);

  for (json& merge : document["model"]["merges"]) {
    const std::string s = merge;
    merge = {s.substr(0, s.find(' ')), s.substr(s.find(' ') + 1)};
  }
  document["model"].erase("type");
  const auto pairs = Tokenizer::FromTokenizerJson(document.dump());
  ASSERT_TRUE(pairs.ok()) << pairs.status();
  EXPECT_EQ(Encode(**pairs, text), expected);
}

TEST(TokenizerTest, AddedTokensExtendTheVocabulary) {
  json document = TokenizerJson();
  document["added_tokens"].push_back(
      {{"id", 269}, {"content", "<pad> \u4e16"}});
  document["added_tokens"].push_back({{"id", 'a'}, {"content", "a"}});
  const auto tokenizer = Tokenizer::FromTokenizerJson(document.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocab_size(), 270);
  EXPECT_EQ((*tokenizer)->TokenBytes(269), "<pad> \u4e16");
  EXPECT_EQ(Encode(**tokenizer, "a"), Ids{'a'});
}

TEST(TokenizerTest, RefusesTokenizerJsonOfOtherKinds) {
  const struct {
    const char* patch;  // RFC 7396
    const char* message;
  } cases[] = {
      {R"({"model": null})", "has no model object"},
      {R"({"model": {"type": "WordPiece"}})", "only \"BPE\" is supported"},
      {R"({"model": {"dropout": 0.1}})", "model.dropout is \"0.1\""},
      {R"({"model": {"byte_fallback": true}})", "model.byte_fallback"},
      {R"({"model": {"ignore_merges": true}})", "model.ignore_merges"},
      {R"({"model": {"end_of_word_suffix": "</w>"}})",
       "model.end_of_word_suffix"},
      {R"({"model": {"continuing_subword_prefix": "##"}})",
       "model.continuing_subword_prefix"},
      {R"({"model": {"vocab": null}})", "the vocabulary is no object"},
      {R"({"model": {"merges": null}})", "model.merges is no array"},
      {R"({"model": {"merges": ["a"]}})", "model.merges element 0 is neither"},
      {R"({"model": {"merges": [["a"]]}})", "element 0 is neither"},
      {R"({"model": {"merges": [["a", ""]]}})", "element 0 is neither"},
      {R"({"model": {"merges": [["a", 1]]}})", "element 0 is neither"},
      {R"({"model": {"merges": [["x", "y"]]}})",
       "model.merges element 0: \"xy\" is not an ordinary token"},
      {R"({"normalizer": {"type": "NFC"}})", "has a normalizer"},
      {R"({"pre_tokenizer": null})", "pre_tokenizer.type must be"},
      {R"({"pre_tokenizer": {"type": "Metaspace"}})",
       "pre_tokenizer.type must be"},
      {R"({"pre_tokenizer": {"add_prefix_space": true}})",
       "add_prefix_space must be false"},
      {R"({"pre_tokenizer": {"add_prefix_space": null}})",
       "add_prefix_space must be false"},
      {R"({"pre_tokenizer": {"use_regex": false}})", "use_regex must be true"},
      {R"({"added_tokens": {}})", "added_tokens is no array"},
      {R"({"added_tokens": [7]})", "has no content"},
      {R"({"added_tokens": [{"id": 5, "content": "a"}]})",
       "token \"a\" has both id 97 and id 5"},
      {R"({"added_tokens": [{"id": 300, "content": "new"}]})",
       "has id 300, but 270 tokens"},
  };
  for (const auto& [patch, message] : cases) {
    json document = TokenizerJson();
    document.merge_patch(json::parse(patch));
    ExpectRefused(Tokenizer::FromTokenizerJson(document.dump()), message);
  }
  ExpectRefused(Tokenizer::FromTokenizerJson("[]"), "has no model object");
}

class TokenizerLoadTest : public testing::Test {
 protected:
  TokenizerLoadTest() {
    std::string pattern = testing::TempDir() + "/tokenizer_test_XXXXXX";
    dir_ = mkdtemp(pattern.data());
  }
  ~TokenizerLoadTest() override { std::filesystem::remove_all(dir_); }

  void Write(const std::string& name, const std::string& contents) {
    ASSERT_TRUE(WriteFile(dir_ + "/" + name, contents).ok());
  }

  std::string dir_;
};

TEST_F(TokenizerLoadTest, EitherKindOfFiles) {
  const absl::Status none = Tokenizer::Load(dir_).status();
  EXPECT_EQ(none.code(), StatusCode::kNotFound);
  EXPECT_THAT(std::string(none.message()), HasSubstr(dir_));
  Write("tokenizer.json", TokenizerJson().dump());
  EXPECT_EQ(Encode(**Tokenizer::Load(dir_), "hello"), Ids{260});
  // vocab.json goes first, and wants its merges.
  Write("vocab.json", R"({"h": 0, "e": 1, "l": 2, "o": 3})");
  const absl::Status no_merges = Tokenizer::Load(dir_).status();
  EXPECT_EQ(no_merges.code(), StatusCode::kNotFound);
  EXPECT_THAT(std::string(no_merges.message()), HasSubstr("merges.txt"));
  Write("merges.txt", "");
  EXPECT_EQ(Encode(**Tokenizer::Load(dir_), "hello"), (Ids{0, 1, 2, 2, 3}));
}

}  // namespace
}  // namespace pot
