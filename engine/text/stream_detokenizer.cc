#include <utility>

#include "engine/base/utf8.h"
#include "engine/text/tokenizer.h"

namespace pot {

std::string StreamDetokenizer::Push(int32_t id) {
  const absl::string_view bytes = tokenizer_->TokenBytes(id);
  pending_.append(bytes.data(), bytes.size());
  const size_t complete = CompleteUtf8Prefix(pending_);
  std::string text =
      ReplaceInvalidUtf8(absl::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return text;
}

std::string StreamDetokenizer::Finish() {
  return ReplaceInvalidUtf8(std::exchange(pending_, ""));
}

}  // namespace pot
