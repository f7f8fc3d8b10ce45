#include "engine/gpt2/gpt2_config.h"

#include <cmath>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/json.h"
#include "engine/base/status_macros.h"
#include "engine/gpt2/tensor_table.h"
#include "nlohmann/json.hpp"

namespace pot {
namespace {

using nlohmann::json;

// What Hugging Face's GPT2Config assumes for a key that is missing.
constexpr int64_t kDefaultLayers = 12;
constexpr int64_t kDefaultHeads = 12;
constexpr int64_t kDefaultEmbedding = 768;
constexpr int64_t kDefaultPositions = 1024;
constexpr int64_t kDefaultVocabulary = 50257;

// Reads typed and bounded values out of the object, with the document's name
// before every error.
class ConfigReader {
 public:
  ConfigReader(const json& object, absl::string_view what)
      : object_(object), what_(what) {}

  // Null counts as missing, as in Hugging Face's files.
  const json* Find(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }

  absl::Status Error(const char* key, absl::string_view limit,
                     const json& value) const {
    return absl::InvalidArgumentError(absl::StrCat(
        what_, ": ", key, " must be ", limit, ", not ", ShowJson(value)));
  }

  absl::StatusOr<int64_t> Integer(const char* key, int64_t fallback,
                                  int64_t min, int64_t max) const {
    const json* value = Find(key);
    if (value == nullptr) return fallback;
    // An integer beyond int64 is unsigned or a float in the parser's eyes.
    const bool fits =
        value->is_number_integer() &&
        !(value->is_number_unsigned() &&
          value->get<uint64_t>() >
              static_cast<uint64_t>(std::numeric_limits<int64_t>::max()));
    if (!fits || value->get<int64_t>() < min || value->get<int64_t>() > max) {
      return Error(key, absl::StrCat("an integer from ", min, " to ", max),
                   *value);
    }
    return value->get<int64_t>();
  }

  absl::StatusOr<bool> Bool(const char* key, bool fallback) const {
    const json* value = Find(key);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) return Error(key, "true or false", *value);
    return value->get<bool>();
  }

  // A switch of the arithmetic of which only one setting is implemented.
  absl::Status Require(const char* key, bool only) const {
    POT_ASSIGN_OR_RETURN(const bool given, Bool(key, only));
    if (given == only) return absl::OkStatus();
    return Error(key,
                 absl::StrCat(only ? "true" : "false",
                              " (the other way is not supported)"),
                 given);
  }

  absl::StatusOr<float> Epsilon(const char* key, float fallback) const {
    const json* value = Find(key);
    if (value == nullptr) return fallback;
    // Below the smallest normal float a constant row could divide by zero.
    constexpr double kMin = std::numeric_limits<float>::min();
    const double given = value->is_number() ? value->get<double>() : -1.0;
    if (!(given >= kMin && given <= 1.0)) {
      return Error(key, "a number from 1.2e-38 to 1", *value);
    }
    return static_cast<float>(given);
  }

  absl::StatusOr<Activation> ActivationFunction() const {
    const char* key = "activation_function";
    const json* value = Find(key);
    if (value == nullptr) return Activation::kGeluTanh;
    if (*value == "gelu_new" || *value == "gelu_pytorch_tanh") {
      return Activation::kGeluTanh;
    }
    if (*value == "gelu") return Activation::kGeluErf;
    return Error(key, "\"gelu_new\", \"gelu_pytorch_tanh\" or \"gelu\"",
                 *value);
  }

 private:
  const json& object_;
  const absl::string_view what_;
};

}  // namespace

absl::StatusOr<Gpt2Config> Gpt2Config::Parse(absl::string_view text,
                                             absl::string_view what) {
  POT_ASSIGN_OR_RETURN(const json object, ParseJson(text, what));
  if (!object.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": must be a JSON object, not ", ShowJson(object)));
  }
  const ConfigReader reader(object, what);
  if (const json* type = reader.Find("model_type");
      type != nullptr && *type != "gpt2") {
    return reader.Error("model_type", "\"gpt2\"", *type);
  }

  Gpt2Config config;
  POT_ASSIGN_OR_RETURN(
      config.n_layer, reader.Integer("n_layer", kDefaultLayers, 1, kMaxLayers));
  POT_ASSIGN_OR_RETURN(
      config.n_embd,
      reader.Integer("n_embd", kDefaultEmbedding, 1, kMaxEmbedding));
  POT_ASSIGN_OR_RETURN(
      config.n_head, reader.Integer("n_head", kDefaultHeads, 1, config.n_embd));
  if (config.n_embd % config.n_head != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": n_head must divide n_embd = ", config.n_embd,
                     ", ", config.n_head, " does not"));
  }
  // The MLP's width is a matrix dimension like n_embd and has its limit; a
  // default of 4 C must keep to it too.
  const int64_t default_inner = 4 * config.n_embd;
  POT_ASSIGN_OR_RETURN(config.n_inner, reader.Integer("n_inner", default_inner,
                                                      1, kMaxEmbedding));
  if (config.n_inner > kMaxEmbedding) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": n_inner = 4 n_embd = ", config.n_inner,
                     " is over the limit of ", kMaxEmbedding));
  }
  // Old files call the context n_ctx; n_positions wins where both stand.
  POT_ASSIGN_OR_RETURN(
      const int64_t n_ctx,
      reader.Integer("n_ctx", kDefaultPositions, 1, kMaxPositions));
  POT_ASSIGN_OR_RETURN(config.n_positions,
                       reader.Integer("n_positions", n_ctx, 1, kMaxPositions));
  POT_ASSIGN_OR_RETURN(
      config.vocab_size,
      reader.Integer("vocab_size", kDefaultVocabulary, 1, kMaxVocabulary));
  POT_ASSIGN_OR_RETURN(config.layer_norm_epsilon,
                       reader.Epsilon("layer_norm_epsilon", 1e-5f));
  POT_ASSIGN_OR_RETURN(config.activation, reader.ActivationFunction());
  POT_ASSIGN_OR_RETURN(config.tie_word_embeddings,
                       reader.Bool("tie_word_embeddings", true));
  POT_RETURN_IF_ERROR(reader.Require("scale_attn_weights", true));
  POT_RETURN_IF_ERROR(reader.Require("scale_attn_by_inverse_layer_idx", false));
  POT_RETURN_IF_ERROR(reader.Require("add_cross_attention", false));
  return config;
}

std::string Gpt2Config::ToJson() const {
  nlohmann::ordered_json object;
  object["architectures"] = {"GPT2LMHeadModel"};
  object["model_type"] = "gpt2";
  object["activation_function"] =
      activation == Activation::kGeluTanh ? "gelu_new" : "gelu";
  object["n_layer"] = n_layer;
  object["n_head"] = n_head;
  object["n_embd"] = n_embd;
  object["n_inner"] = n_inner;
  object["n_positions"] = n_positions;
  object["n_ctx"] = n_positions;
  object["vocab_size"] = vocab_size;
  object["layer_norm_epsilon"] = layer_norm_epsilon;
  object["tie_word_embeddings"] = tie_word_embeddings;
  return object.dump(1) + "\n";
}

int64_t Gpt2Config::num_parameters() const {
  int64_t total = 0;
  for (const TensorSpec& tensor : Gpt2Tensors(*this)) {
    total += tensor.num_elements();
  }
  return total;
}

}  // namespace pot
