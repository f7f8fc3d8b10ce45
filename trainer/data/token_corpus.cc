#include "trainer/data/token_corpus.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/file.h"
#include "engine/base/status_macros.h"
#include "engine/base/xxh64.h"
#include "engine/checkpoint/safetensors.h"

namespace pot {
namespace {

constexpr int64_t kMaxNarrowVocabulary = 65536;
constexpr char kTensor[] = "tokens";

template <typename T>
absl::Span<const uint8_t> BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()),
          values.size() * sizeof(T)};
}

absl::Status Damaged(const std::string& path, absl::string_view why) {
  return absl::DataLossError(absl::StrCat(path, " is damaged: ", why));
}

}  // namespace

TokenCorpus::TokenCorpus(int64_t vocab_size) : vocab_size_(vocab_size) {
  if (vocab_size > kMaxNarrowVocabulary) tokens_ = Wide();
}

int64_t TokenCorpus::size() const {
  return std::visit(
      [](const auto& tokens) { return static_cast<int64_t>(tokens.size()); },
      tokens_);
}

int64_t TokenCorpus::resident_bytes() const {
  return std::visit(
      [](const auto& tokens) {
        return static_cast<int64_t>(tokens.capacity() * sizeof(tokens[0]));
      },
      tokens_);
}

absl::Status TokenCorpus::Append(absl::Span<const int32_t> tokens) {
  for (const int32_t token : tokens) {
    if (token < 0 || token >= vocab_size_) {
      return absl::InvalidArgumentError(
          absl::StrCat("token id ", token, " is not in the vocabulary of ",
                       vocab_size_, " tokens"));
    }
  }
  std::visit(
      [&](auto& own) { own.insert(own.end(), tokens.begin(), tokens.end()); },
      tokens_);
  return absl::OkStatus();
}

void TokenCorpus::Copy(int64_t begin, absl::Span<int32_t> out) const {
  std::visit(
      [&](const auto& tokens) {
        std::copy_n(tokens.begin() + begin, out.size(), out.begin());
      },
      tokens_);
}

absl::Status TokenCorpus::Save(const std::string& path,
                               absl::string_view key) const {
  TensorView view;
  view.shape = {size()};
  if (const auto* const narrow = std::get_if<Narrow>(&tokens_)) {
    view.type = TensorType::kU16;
    view.bytes = BytesOf(*narrow);
  } else {
    view.type = TensorType::kI32;
    view.bytes = BytesOf(std::get<Wide>(tokens_));
  }
  return WriteSafetensors(
      path, {{kTensor, view}},
      {{"key", std::string(key)},
       {"vocab_size", absl::StrCat(vocab_size_)},
       {"xxh64", absl::StrFormat("%016x", Xxh64(view.bytes))}});
}

absl::StatusOr<TokenCorpus> TokenCorpus::Load(const std::string& path,
                                              absl::string_view key,
                                              int64_t vocab_size) {
  POT_ASSIGN_OR_RETURN(const ForeignFile file, ForeignFile::Open(path));
  absl::StatusOr<SafetensorsHeader> header = SafetensorsHeader::Read(file);
  if (absl::IsInvalidArgument(header.status())) {
    return absl::DataLossError(header.status().message());
  }
  POT_RETURN_IF_ERROR(header.status());
  const auto metadata = [&](const std::string& name) {
    const auto found = header->metadata.find(name);
    return found == header->metadata.end() ? std::string() : found->second;
  };
  if (metadata("key") != key ||
      metadata("vocab_size") != absl::StrCat(vocab_size)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " holds the tokens of another text or vocabulary"));
  }
  TokenCorpus corpus(vocab_size);
  const bool narrow = std::holds_alternative<Narrow>(corpus.tokens_);
  const auto tensor = header->tensors.find(kTensor);
  if (tensor == header->tensors.end() || tensor->second.shape.size() != 1 ||
      tensor->second.type != (narrow ? TensorType::kU16 : TensorType::kI32)) {
    return Damaged(path, "its tokens have another type or shape");
  }
  std::string checksum;
  bool in_vocabulary = true;
  POT_RETURN_IF_ERROR(std::visit(
      [&](auto& tokens) {
        tokens.resize(tensor->second.shape[0]);
        const absl::Status status = file.ReadAt(
            tensor->second.offset,
            absl::MakeSpan(reinterpret_cast<uint8_t*>(tokens.data()),
                           tensor->second.num_bytes));
        checksum = absl::StrFormat("%016x", Xxh64(BytesOf(tokens)));
        for (const int64_t token : tokens) {
          in_vocabulary = in_vocabulary && token >= 0 && token < vocab_size;
        }
        return status;
      },
      corpus.tokens_));
  if (checksum != metadata("xxh64")) return Damaged(path, "wrong checksum");
  if (!in_vocabulary) return Damaged(path, "a token is not in the vocabulary");
  return corpus;
}

}  // namespace pot
