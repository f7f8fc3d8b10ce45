#include "client/load_prompts.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/text_format.h"
#include "engine/base/philox.h"
#include "engine/base/utf8.h"

namespace pot {
namespace {

// Streams of random numbers; those of arrivals have another one.
constexpr uint32_t kLengthStream = 0;
constexpr uint32_t kTokenStream = 1;

// A request takes as many draws of either stream at most.
constexpr uint64_t kDraws = uint64_t{1} << 20;

int64_t Draw(uint64_t seed, uint32_t stream, uint64_t position, int64_t low,
             int64_t high) {
  const double uniform = PhiloxUniform(seed, stream, position);
  const auto offset =
      static_cast<int64_t>(uniform * static_cast<double>(high - low + 1));
  return std::min(low + offset, high);
}

}  // namespace

LoadPrompts::LoadPrompts(Options options) : options_(std::move(options)) {}

v1::GenerateRequest LoadPrompts::Request(uint64_t index) const {
  const Options& options = options_;
  v1::GenerateRequest request = options.base;
  const auto length = [&](const TokenRange& range, uint64_t draw) {
    return Draw(options.seed, kLengthStream, index * kDraws + draw, range.low,
                range.high);
  };
  if (options.lines.empty()) {
    const int64_t tokens = length(options.prompt_tokens, 0);
    auto* const ids = request.mutable_token_ids()->mutable_ids();
    for (int64_t i = 0; i < tokens; ++i) {
      ids->Add(static_cast<int32_t>(Draw(
          options.seed, kTokenStream, index * kDraws + static_cast<uint64_t>(i),
          0, options.vocabulary - 1)));
    }
  } else {
    request.set_text(options.lines[index % options.lines.size()]);
  }
  request.mutable_stopping()->set_max_new_tokens(
      static_cast<int32_t>(length(options.max_new_tokens, 1)));
  return request;
}

absl::StatusOr<std::vector<std::string>> SplitPrompts(absl::string_view text,
                                                      absl::string_view name) {
  std::vector<std::string> lines;
  int64_t number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    absl::ConsumeSuffix(&line, "\r");
    if (line.empty()) continue;
    if (FindInvalidUtf8(line) != line.size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "line ", number, " of ", Printable(name), " is not UTF-8"));
    }
    lines.emplace_back(line);
  }
  if (lines.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(Printable(name), " has no prompt in it"));
  }
  return lines;
}

}  // namespace pot
