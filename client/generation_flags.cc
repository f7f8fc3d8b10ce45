#include "client/generation_flags.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/flags.h"
#include "client/text_format.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

constexpr char kSamplingGroup[] = "Sampling";
constexpr char kStoppingGroup[] = "Stopping";
constexpr char kOutputGroup[] = "Answer";

absl::Status ParseLogitBias(const std::vector<std::string>& texts,
                            v1::Sampling* sampling) {
  sampling->clear_logit_bias();
  for (const std::string& text : texts) {
    const std::vector<std::string> parts = absl::StrSplit(text, '=');
    int32_t id = 0;
    float bias = 0;
    if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &id) ||
        !absl::SimpleAtof(parts[1], &bias)) {
      return absl::InvalidArgumentError(
          absl::StrCat(Quoted(text), " is not TOKEN_ID=BIAS"));
    }
    (*sampling->mutable_logit_bias())[id] = bias;
  }
  return absl::OkStatus();
}

void AddDistributionFlags(const Command& app, v1::Sampling* sampling) {
  AddValueFlag<float>(
      app, "--temperature", [=](float v) { sampling->set_temperature(v); },
      "Divides the logits; 0 takes the likeliest token [1]");
  AddValueFlag<int32_t>(
      app, "--top-k", [=](int32_t v) { sampling->set_top_k(v); },
      "Keep the K likeliest tokens [0: all]");
  AddValueFlag<float>(
      app, "--top-p", [=](float v) { sampling->set_top_p(v); },
      "Keep the likeliest tokens that sum to this probability [1]");
  AddValueFlag<float>(
      app, "--min-p", [=](float v) { sampling->set_min_p(v); },
      "Keep tokens at least this times as likely as the likeliest [0]");
  AddValueFlag<float>(
      app, "--typical-p", [=](float v) { sampling->set_typical_p(v); },
      "Keep the most typical tokens that sum to this probability [1]");
  AddValueFlag<float>(
      app, "--repetition-penalty",
      [=](float v) { sampling->set_repetition_penalty(v); },
      "Weakens logits of tokens in prompt or output [1]");
  AddValueFlag<float>(
      app, "--presence-penalty",
      [=](float v) { sampling->set_presence_penalty(v); },
      "Subtracted once from logits of tokens in the output [0]");
  AddValueFlag<float>(
      app, "--frequency-penalty",
      [=](float v) { sampling->set_frequency_penalty(v); },
      "Subtracted for every time a token is in the output [0]");
}

void AddTokenFlags(const Command& app, v1::Sampling* sampling) {
  app.AddListFlag(
         "--logit-bias",
         [=](const std::vector<std::string>& v) {
           return ParseLogitBias(v, sampling);
         },
         "TOKEN_ID=BIAS added to a logit; repeatable")
      .Delimiter(',')
      .TypeName("ID=BIAS");
  AddTokenIdsFlag(app, "--allowed-token-ids",
                  sampling->mutable_allowed_token_ids(),
                  "Draw only these tokens; repeatable");
  AddTokenIdsFlag(app, "--banned-token-ids",
                  sampling->mutable_banned_token_ids(),
                  "Never draw these tokens; repeatable");
}

void AddStoppingFlags(const Command& app, v1::Stopping* stopping) {
  AddValueFlag<int32_t>(
      app, "--max-new-tokens",
      [=](int32_t v) { stopping->set_max_new_tokens(v); },
      "End after this many tokens [what the context holds]");
  AddValueFlag<int32_t>(
      app, "--min-new-tokens",
      [=](int32_t v) { stopping->set_min_new_tokens(v); },
      "Do not end before this many tokens [0]");
  app.AddListFlag(
      "--stop",
      [=](const std::vector<std::string>& v) {
        *stopping->mutable_stop_strings() = {v.begin(), v.end()};
        return absl::OkStatus();
      },
      "End before this text; repeatable");
  AddTokenIdsFlag(app, "--stop-token-ids", stopping->mutable_stop_token_ids(),
                  "End at any of these tokens; repeatable");
  app.AddSwitch(
      "--ignore-eos", [=](int64_t v) { stopping->set_ignore_eos(v > 0); },
      "Treat the end-of-text token as any other");
}

}  // namespace

absl::StatusOr<std::vector<int32_t>> ParseTokenIds(
    const std::vector<std::string>& texts) {
  std::vector<int32_t> ids;
  for (const std::string& text : texts) {
    int32_t id = 0;
    if (!absl::SimpleAtoi(text, &id)) {
      return absl::InvalidArgumentError(
          absl::StrCat(Quoted(text), " is no token id"));
    }
    ids.push_back(id);
  }
  return ids;
}

Flag AddTokenIdsFlag(const Command& app, const std::string& name,
                     google::protobuf::RepeatedField<int32_t>* ids,
                     const std::string& description) {
  return app
      .AddListFlag(
          name,
          [ids](const std::vector<std::string>& texts) -> absl::Status {
            POT_ASSIGN_OR_RETURN(const std::vector<int32_t> parsed,
                                 ParseTokenIds(texts));
            *ids = {parsed.begin(), parsed.end()};
            return absl::OkStatus();
          },
          description)
      .Delimiter(',')
      .TypeName("ID,..");
}

void AddOverflowFlag(const Command& app,
                     std::function<void(v1::ContextOverflow)> set) {
  AddValueFlag<std::string>(
      app, "--overflow",
      [set = std::move(set)](const std::string& value) {
        set(value == "reject" ? v1::CONTEXT_OVERFLOW_REJECT
                              : v1::CONTEXT_OVERFLOW_TRUNCATE_LEFT);
      },
      "What becomes of a prompt over the context [reject]")
      .OneOf({"reject", "truncate-left"});
}

void AddSamplingFlags(const Command& app, v1::GenerateRequest* request) {
  v1::Sampling* const sampling = request->mutable_sampling();
  app.SetFlagGroup(kSamplingGroup);
  AddDistributionFlags(app, sampling);
  AddTokenFlags(app, sampling);
  AddValueFlag<uint64_t>(
      app, "--seed", [=](uint64_t v) { sampling->set_seed(v); },
      "A seed repeats its text [the server picks one]");
  AddValueFlag<int32_t>(
      app, "--n", [=](int32_t v) { sampling->set_n(v); },
      "Sequences to return [1]");
  AddValueFlag<int32_t>(
      app, "--best-of", [=](int32_t v) { sampling->set_best_of(v); },
      "Sequences to choose the best --n from [n]");
  app.SetFlagGroup(kStoppingGroup);
  AddStoppingFlags(app, request->mutable_stopping());
  app.SetFlagGroup("Options");
}

void AddOutputFlags(const Command& app, v1::GenerateRequest* request) {
  v1::Output* const output = request->mutable_output();
  app.SetFlagGroup(kOutputGroup);
  app.AddSwitch(
      "--echo", [=](int64_t v) { output->set_echo(v > 0); },
      "Begin with the prompt");
  AddValueFlag<int32_t>(
      app, "--logprobs", [=](int32_t v) { output->set_logprobs(v); },
      "Log-probabilities of the new tokens, with this many alternatives");
  AddValueFlag<int32_t>(
      app, "--prompt-logprobs",
      [=](int32_t v) { output->set_prompt_logprobs(v); },
      "The same for the prompt's tokens");
  app.AddSwitch(
      "--return-token-ids",
      [=](int64_t v) { output->set_return_token_ids(v > 0); },
      "Token ids of prompt and text, with --output json or jsonl");
  app.SetFlagGroup("Options");
  AddTokenIdsFlag(app, "--prompt-token-ids",
                  request->mutable_token_ids()->mutable_ids(),
                  "The prompt as token ids instead of text");
  AddValueFlag<std::string>(
      app, "--request-id",
      [=](const std::string& v) { request->set_request_id(v); },
      "Name of the call in the answer and the server's log");
}

}  // namespace pot
