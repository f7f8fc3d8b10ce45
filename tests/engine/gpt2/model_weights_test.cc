#include "engine/gpt2/model_weights.h"

#include <cstring>
#include <filesystem>
#include <functional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/base/file.h"
#include "engine/checkpoint/exponent_checkpoint.h"
#include "engine/gpt2/float_model.h"
#include "engine/gpt2/forward.h"
#include "engine/gpt2/tensor_table.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/gpt2/model_testing.h"

namespace pot {
namespace {

using testing::HasSubstr;

std::vector<float> Logits(const ModelWeights& weights) {
  auto cache = KvCache::Create(weights.config, KvType::kF32, 8,
                               std::make_shared<KvBudget>(1 << 24));
  EXPECT_TRUE(cache.ok()) << cache.status();
  ThreadPool pool(1);
  ForwardScratch scratch;
  std::vector<float> logits;
  const std::vector<int32_t> tokens = {3, 299, 0, 77, 256, 12, 12, 1};
  const absl::Status status =
      Forward(weights, {{cache->get(), tokens, ForwardSpan::Logits::kAll}},
              &pool, &scratch, &logits);
  EXPECT_TRUE(status.ok()) << status;
  return logits;
}

absl::StatusOr<std::unique_ptr<const ModelWeights>> Load(
    const std::string& directory) {
  LoadOptions options;
  options.kernels = BestKernels();
  return LoadModelWeights(directory, options);
}

std::vector<float> LogitsOf(const EditableModel& model) {
  TempDirectory directory;
  model.Write(directory.path());
  const auto weights = Load(directory.path());
  EXPECT_TRUE(weights.ok()) << weights.status();
  return weights.ok() ? Logits(**weights) : std::vector<float>();
}

void SetConfig(EditableModel* model, const std::string& from,
               const std::string& to) {
  ASSERT_EQ(absl::StrReplaceAll({{from, to}}, &model->config_json), 1) << from;
}

EditableModel TiedTiny() {
  EditableModel model = EditableModel::TinyBpe();
  SetConfig(&model, "\"tie_word_embeddings\": false",
            "\"tie_word_embeddings\": true");
  model.tensors.erase("lm_head.weight");
  return model;
}

TEST(LoadFloatModelTest, DescribesItself) {
  const auto weights = Load(TinyBpeDirectory());
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ((*weights)->format, "f32");
  EXPECT_EQ((*weights)->granularity, "");
  EXPECT_EQ((*weights)->embedding_format, "f32");
  EXPECT_FALSE((*weights)->quantized);
  EXPECT_NE((*weights)->token_embedding, nullptr);
  EXPECT_EQ((*weights)->layers.size(), 3);
  // 4 bytes a parameter; a layer may hold padding, or a second copy, no more.
  const int64_t bytes = 4 * (*weights)->config.num_parameters();
  EXPECT_GE((*weights)->resident_bytes(), bytes);
  EXPECT_LE((*weights)->resident_bytes(), 2 * bytes + (1 << 16));
}

TEST(LoadFloatModelTest, NamesWithAndWithoutPrefixAndMasksAreTheSameModel) {
  EditableModel model = EditableModel::TinyBpe();
  const std::vector<float> expected = LogitsOf(model);
  ASSERT_FALSE(expected.empty());
  for (const auto& [name, tensor] : EditableModel::TinyBpe().tensors) {
    if (name == "lm_head.weight") continue;
    model.Rename(name, name.substr(std::strlen("transformer.")));
  }
  EXPECT_EQ(LogitsOf(model), expected);
  for (const auto& [name, tensor] : EditableModel(model).tensors) {
    if (absl::EndsWith(name, ".attn.bias") ||
        absl::EndsWith(name, ".attn.masked_bias")) {
      model.tensors.erase(name);
    }
  }
  EXPECT_EQ(LogitsOf(model), expected);
}

TEST(LoadFloatModelTest, TiedHeadIsTheEmbedding) {
  const EditableModel tied = TiedTiny();
  const std::vector<float> expected = LogitsOf(tied);
  EXPECT_NE(expected, LogitsOf(EditableModel::TinyBpe()));

  EditableModel separate = tied;
  separate.config_json = EditableModel::TinyBpe().config_json;
  separate.tensors["lm_head.weight"] =
      separate.tensors["transformer.wte.weight"];
  EXPECT_EQ(LogitsOf(separate), expected);

  // A saver that wrote both though they are tied.
  EditableModel both = tied;
  both.tensors["lm_head.weight"] = both.tensors["transformer.wte.weight"];
  EXPECT_EQ(LogitsOf(both), expected);
}

TEST(LoadFloatModelTest, ShardsAreOneModel) {
  const EditableModel model = EditableModel::TinyBpe();
  TempDirectory directory;
  model.Write(directory.path());
  std::filesystem::remove(directory.File("model.safetensors"));
  std::vector<std::pair<std::string, TensorView>> shards[2];
  std::string map;
  int i = 0;
  for (const auto& [name, tensor] : model.tensors) {
    const int shard = i++ % 2;
    shards[shard].push_back({name, {tensor.type, tensor.shape, tensor.bytes}});
    map += absl::StrCat(map.empty() ? "" : ", ", "\"", name, "\": \"s", shard,
                        ".safetensors\"");
  }
  for (const int shard : {0, 1}) {
    ASSERT_TRUE(WriteSafetensors(
                    directory.File(absl::StrCat("s", shard, ".safetensors")),
                    shards[shard], {})
                    .ok());
  }
  ASSERT_TRUE(WriteFile(directory.File("model.safetensors.index.json"),
                        absl::StrCat("{\"weight_map\": {", map, "}}"))
                  .ok());
  const auto weights = Load(directory.path());
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(Logits(**weights), LogitsOf(model));

  // A copy takes the shards and the index along.
  TempDirectory copy;
  ASSERT_TRUE(CopyFloatModel(directory.path(), copy.path()).ok());
  const auto copied = Load(copy.path());
  ASSERT_TRUE(copied.ok()) << copied.status();
  EXPECT_EQ(Logits(**copied), LogitsOf(model));
}

struct Spoilt {
  const char* what;
  std::function<void(EditableModel*)> spoil;
  const char* message;
};

TEST(LoadFloatModelTest, BadModelsAreRefused) {
  const std::string c_attn = "transformer.h.1.attn.c_attn.weight";
  for (const Spoilt& bad : std::vector<Spoilt>{
           {"missing tensor",
            [](EditableModel* m) {
              m->tensors.erase("transformer.h.2.mlp.c_fc.bias");
            },
            "\"h.2.mlp.c_fc.bias\" is missing"},
           {"missing head",
            [](EditableModel* m) { m->tensors.erase("lm_head.weight"); },
            "which tie_word_embeddings = false needs"},
           {"unknown tensor",
            [](EditableModel* m) {
              m->tensors["transformer.h.0.attn.extra"] =
                  m->tensors["transformer.ln_f.bias"];
            },
            "\"transformer.h.0.attn.extra\" is none of a GPT-2 of 3 layers"},
           {"unprintable name",
            [](EditableModel* m) {
              m->tensors[std::string("a\n\x01", 3)] =
                  m->tensors["transformer.ln_f.bias"];
            },
            "\"a\\n\\001\""},
           {"tensor of a layer too many",
            [](EditableModel* m) {
              SetConfig(m, "\"n_layer\": 3", "\"n_layer\": 2");
            },
            "is none of a GPT-2 of 2 layers"},
           {"both names",
            [](EditableModel* m) {
              m->tensors["ln_f.bias"] = m->tensors["transformer.ln_f.bias"];
            },
            "with and without \"transformer.\""},
           {"transposed matrix",
            [&](EditableModel* m) {
              std::swap(m->tensors[c_attn].shape[0],
                        m->tensors[c_attn].shape[1]);
            },
            "h.1.attn.c_attn.weight"},
           {"another context",
            [](EditableModel* m) {
              SetConfig(m, "\"n_positions\": 64", "\"n_positions\": 65");
            },
            "wpe.weight"},
           {"not a number",
            [&](EditableModel* m) {
              // Infinity in BF16, the exponent all ones.
              m->tensors[c_attn].bytes[6] = 0x80;
              m->tensors[c_attn].bytes[7] = 0x7f;
            },
            "h.1.attn.c_attn.weight"},
           {"integers",
            [](EditableModel* m) {
              m->tensors["transformer.ln_f.bias"].type = TensorType::kI32;
            },
            "ln_f.bias"},
           {"tied, but another head",
            [](EditableModel* m) {
              SetConfig(m, "\"tie_word_embeddings\": false",
                        "\"tie_word_embeddings\": true");
            },
            "lm_head.weight differs from wte.weight"},
           {"config of another model",
            [](EditableModel* m) { SetConfig(m, "\"gpt2\"", "\"llama\""); },
            "model_type must be \"gpt2\""},
           {"config that is no JSON",
            [](EditableModel* m) { m->config_json.resize(1); }, "config.json"},
           {"config that is too long",
            [](EditableModel* m) { m->config_json.append(1 << 20, ' '); },
            "config.json"},
       }) {
    EditableModel model = EditableModel::TinyBpe();
    bad.spoil(&model);
    TempDirectory directory;
    model.Write(directory.path());
    const auto weights = Load(directory.path());
    EXPECT_EQ(weights.status().code(), absl::StatusCode::kInvalidArgument)
        << bad.what << ": " << weights.status();
    EXPECT_THAT(std::string(weights.status().message()), HasSubstr(bad.message))
        << bad.what;
    // Quantizing and copying check no less, and write nothing.
    TempDirectory to;
    ThreadPool pool(1);
    EXPECT_FALSE(
        QuantizeModel(directory.path(), to.path(),
                      MakeModelOptions("pot4", "row", QuantizeMode::kNearest),
                      &pool, nullptr)
            .ok())
        << bad.what;
    EXPECT_FALSE(CopyFloatModel(directory.path(), to.path()).ok()) << bad.what;
    EXPECT_TRUE(std::filesystem::is_empty(to.path())) << bad.what;
  }
}

TEST(LoadFloatModelTest, MissingFilesAreNotFound) {
  TempDirectory directory;
  EXPECT_EQ(Load(directory.path()).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(Load(directory.File("none")).status().code(),
            absl::StatusCode::kNotFound);
  EditableModel::TinyBpe().Write(directory.path());
  std::filesystem::remove(directory.File("model.safetensors"));
  EXPECT_EQ(Load(directory.path()).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(LoadPotModelTest, ChecksTheCheckpointAgainstTheConfig) {
  TempDirectory directory;
  MustQuantize(TinyBpeDirectory(), directory.path(),
               MakeModelOptions("pot4", "row", QuantizeMode::kNearest));
  ASSERT_TRUE(Load(directory.path()).ok());
  struct Edit {
    const char* from;
    const char* to;
    const char* message;
  };
  const std::string config = EditableModel::TinyBpe().config_json;
  for (const Edit& edit : std::vector<Edit>{
           {"\"n_layer\": 3", "\"n_layer\": 2", "is none of a GPT-2"},
           {"\"n_layer\": 3", "\"n_layer\": 4", "h.3."},
           {"\"n_inner\": 160", "\"n_inner\": 161", "mlp.c_fc"},
           {"\"vocab_size\": 300", "\"vocab_size\": 299", "wte.weight"},
           {"\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true",
            "\"lm_head.weight\" is none"},
       }) {
    ASSERT_TRUE(WriteFile(directory.File("config.json"),
                          absl::StrReplaceAll(config, {{edit.from, edit.to}}))
                    .ok());
    const auto weights = Load(directory.path());
    EXPECT_FALSE(weights.ok()) << edit.to;
    EXPECT_THAT(std::string(weights.status().message()),
                HasSubstr(edit.message));
  }
  // A damaged checkpoint does not fall back to float weights beside it.
  std::filesystem::copy_file(TinyBpeDirectory() + "/model.safetensors",
                             directory.File("model.safetensors"));
  ASSERT_TRUE(WriteFile(directory.File("config.json"), config).ok());
  std::filesystem::resize_file(directory.File(kExponentCheckpointFile), 1000);
  EXPECT_EQ(Load(directory.path()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(LoadPotModelTest, RefusesAFloatTensorThatItDoesNotKnow) {
  TempDirectory directory;
  MustQuantize(TinyBpeDirectory(), directory.path(),
               MakeModelOptions("pot4", "row", QuantizeMode::kNearest));
  const std::string file = directory.File(kExponentCheckpointFile);
  {
    const auto checkpoint = ExponentCheckpoint::Open(file);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    const auto writer = ExponentCheckpointWriter::Create();
    const auto config =
        Gpt2Config::Parse(EditableModel::TinyBpe().config_json, "config.json");
    ASSERT_TRUE(config.ok()) << config.status();
    for (const TensorSpec& tensor : Gpt2Tensors(*config)) {
      if (tensor.quantized()) {
        writer->AddMatrix(
            tensor.name,
            *(*checkpoint)->Matrix(tensor.name, tensor.rows(), tensor.cols()));
      } else {
        writer->AddFloats(tensor.name, tensor.shape,
                          *(*checkpoint)->ReadFloats(tensor.name, tensor.shape),
                          false);
      }
    }
    writer->AddFloats("h.0.attn.extra", {1}, {1.0f}, false);
    ASSERT_TRUE(writer->Write(file, (*checkpoint)->provenance()).ok());
  }
  const auto weights = Load(directory.path());
  EXPECT_EQ(weights.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(weights.status().message()),
              HasSubstr("\"h.0.attn.extra\" is none of a GPT-2"));
}

TEST(LoadModelWeightsTest, NeedsKernels) {
  EXPECT_EQ(LoadModelWeights(TinyBpeDirectory(), {}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace pot
