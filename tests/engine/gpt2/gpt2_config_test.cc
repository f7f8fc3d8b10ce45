#include "engine/gpt2/gpt2_config.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

using testing::HasSubstr;

TEST(Gpt2ConfigTest, MissingKeysTakeHuggingFacesDefaults) {
  const auto config = Gpt2Config::Parse("{}", "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->n_layer, 12);
  EXPECT_EQ(config->n_head, 12);
  EXPECT_EQ(config->n_embd, 768);
  EXPECT_EQ(config->head_size(), 64);
  EXPECT_EQ(config->n_inner, 3072);
  EXPECT_EQ(config->n_positions, 1024);
  EXPECT_EQ(config->vocab_size, 50257);
  EXPECT_EQ(config->layer_norm_epsilon, 1e-5f);
  EXPECT_EQ(config->activation, Activation::kGeluTanh);
  EXPECT_TRUE(config->tie_word_embeddings);
  // GPT-2 "124M".
  EXPECT_EQ(config->num_parameters(), 124439808);
}

TEST(Gpt2ConfigTest, GivenKeys) {
  const auto config = Gpt2Config::Parse(
      R"({"model_type": "gpt2", "n_layer": 2, "n_head": 4, "n_embd": 20,
          "n_inner": 7, "n_positions": 9, "n_ctx": 5, "vocab_size": 11,
          "layer_norm_epsilon": 0.5, "activation_function": "gelu",
          "tie_word_embeddings": false, "reorder_and_upcast_attn": true,
          "resid_pdrop": 0.1, "anything": [{}]})",
      "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->n_layer, 2);
  EXPECT_EQ(config->n_head, 4);
  EXPECT_EQ(config->n_embd, 20);
  EXPECT_EQ(config->n_inner, 7);
  EXPECT_EQ(config->n_positions, 9);  // wins over n_ctx
  EXPECT_EQ(config->vocab_size, 11);
  EXPECT_EQ(config->layer_norm_epsilon, 0.5f);
  EXPECT_EQ(config->activation, Activation::kGeluErf);
  EXPECT_FALSE(config->tie_word_embeddings);
  // wte, head and wpe; per layer 4 vectors of LayerNorm, c_attn, c_proj, c_fc,
  // c_proj with biases; ln_f.
  EXPECT_EQ(config->num_parameters(), 2 * 11 * 20 + 9 * 20 +
                                          2 * (4 * 20 + 20 * 60 + 60 + 20 * 20 +
                                               20 + 20 * 7 + 7 + 7 * 20 + 20) +
                                          2 * 20);
}

TEST(Gpt2ConfigTest, NullIsMissingAndContextIsAnAlias) {
  const auto config =
      Gpt2Config::Parse(R"({"n_inner": null, "n_ctx": 77})", "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->n_inner, 3072);
  EXPECT_EQ(config->n_positions, 77);
}

TEST(Gpt2ConfigTest, ToJsonIsReadBackUnchanged) {
  auto config = Gpt2Config::Parse(
      R"({"n_layer": 3, "n_head": 2, "n_embd": 10, "n_inner": 13,
          "n_positions": 8, "vocab_size": 5, "layer_norm_epsilon": 1e-6,
          "activation_function": "gelu", "tie_word_embeddings": false})",
      "first");
  ASSERT_TRUE(config.ok()) << config.status();
  const auto again = Gpt2Config::Parse(config->ToJson(), "second");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->ToJson(), config->ToJson());
  EXPECT_EQ(again->n_inner, 13);
  EXPECT_EQ(again->layer_norm_epsilon, 1e-6f);
  EXPECT_EQ(again->activation, Activation::kGeluErf);
  EXPECT_FALSE(again->tie_word_embeddings);
}

struct BadConfig {
  const char* json;
  const char* message;
};

TEST(Gpt2ConfigTest, BadConfigsNameKeyLimitAndValue) {
  for (const BadConfig& bad : std::vector<BadConfig>{
           {"", "c: "},
           {"[]", "must be a JSON object, not []"},
           {"{\"n_layer\": 12", "c: "},
           {R"({"n_layer": 1, "n_layer": 2})", "n_layer"},
           {R"({"n_layer": 0})", "n_layer must be an integer from 1 to 512"},
           {R"({"n_layer": 513})", "not 513"},
           {R"({"n_layer": -1})", "not -1"},
           {R"({"n_layer": 12.0})", "not 12.0"},
           {R"({"n_layer": 1e1})", "not 10.0"},
           {R"({"n_layer": "12"})", "not \"12\""},
           {R"({"n_layer": true})", "not true"},
           {R"({"n_layer": [[1]]})", "not [[1]]"},
           {R"({"n_layer": 9223372036854775808})", "not 9223372036854775808"},
           {R"({"n_layer": 99999999999999999999999})", "e+22"},
           {R"({"n_layer": 1e999})", "c: "},
           {R"({"n_embd": 0})", "n_embd must be an integer from 1 to 65536"},
           {R"({"n_embd": 65537})", "not 65537"},
           {R"({"n_head": 0})", "n_head must be an integer from 1 to 768"},
           {R"({"n_head": 5})", "n_head must divide n_embd = 768, 5 does not"},
           {R"({"n_inner": 0})", "n_inner must be"},
           {R"({"n_inner": 65537})", "n_inner must be"},
           {R"({"n_embd": 65536, "n_head": 1})",
            "n_inner = 4 n_embd = 262144 is over the limit of 65536"},
           {R"({"n_positions": 1048577})", "from 1 to 1048576, not 1048577"},
           {R"({"n_ctx": "x", "n_positions": 4})", "n_ctx must be"},
           {R"({"vocab_size": 1000001})", "from 1 to 1000000, not 1000001"},
           {R"({"layer_norm_epsilon": 0})", "layer_norm_epsilon must be"},
           {R"({"layer_norm_epsilon": -1e-5})", "not -1e-05"},
           {R"({"layer_norm_epsilon": 1e-300})", "not 1e-300"},
           {R"({"layer_norm_epsilon": 2})", "not 2"},
           {R"({"layer_norm_epsilon": "1e-5"})", "layer_norm_epsilon must be"},
           {R"({"activation_function": "relu"})", "not \"relu\""},
           {R"({"activation_function": 1})", "activation_function must be"},
           {R"({"model_type": "gpt_neo"})", "model_type must be \"gpt2\""},
           {R"({"tie_word_embeddings": 1})", "must be true or false, not 1"},
           {R"({"scale_attn_weights": false})", "scale_attn_weights must be"},
           {R"({"scale_attn_by_inverse_layer_idx": true})",
            "scale_attn_by_inverse_layer_idx must be false"},
           {R"({"add_cross_attention": true})", "add_cross_attention must be"},
       }) {
    const auto config = Gpt2Config::Parse(bad.json, "c");
    ASSERT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument)
        << bad.json;
    const std::string message(config.status().message());
    EXPECT_EQ(message.substr(0, 1), "c") << bad.json;
    EXPECT_THAT(message, HasSubstr(bad.message)) << bad.json;
  }
}

TEST(Gpt2ConfigTest, ErrorsDoNotRepeatHugeValues) {
  const auto config = Gpt2Config::Parse(
      absl::StrCat("{\"n_layer\": \"", std::string(1000000, 'x'), "\"}"), "c");
  EXPECT_LT(config.status().message().size(), 200);
}

}  // namespace
}  // namespace pot
