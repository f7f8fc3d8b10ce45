#include "server/serving/chunk_pacer.h"

#include <algorithm>

namespace pot {
namespace {

// The i with 2^(i-1) < sequences <= 2^i, at most `last`.
size_t BucketOf(int64_t sequences, size_t last) {
  size_t bucket = 0;
  while (bucket < last && (int64_t{1} << bucket) < sequences) ++bucket;
  return bucket;
}

// About `wanted` tokens, so that they and `sequences` fill units of rows.
int64_t FillUnits(double wanted, int64_t sequences) {
  constexpr int64_t kUnit = ChunkPacer::kRowUnit;
  const double rows = static_cast<double>(sequences) + wanted;
  const auto units = static_cast<int64_t>(rows / kUnit + 0.5);
  const int64_t least_units =
      (sequences + ChunkPacer::kMinTokens + kUnit - 1) / kUnit;
  return std::max(units, least_units) * kUnit - sequences;
}

}  // namespace

void ChunkPacer::Median::Add(absl::Duration value) {
  values_[count_ % kKept] = value;
  ++count_;
}

std::optional<absl::Duration> ChunkPacer::Median::value() const {
  if (count_ == 0) return std::nullopt;
  std::array<absl::Duration, kKept> sorted = values_;
  const int64_t size = std::min(count_, kKept);
  const auto middle = sorted.begin() + (size - 1) / 2;
  std::nth_element(sorted.begin(), middle, sorted.begin() + size);
  return *middle;
}

ChunkPacer::ChunkPacer(int64_t max_tokens)
    : max_tokens_(std::max<int64_t>(max_tokens, 1)) {}

int64_t ChunkPacer::ChunkTokens(const LoadedModel* model,
                                const std::vector<Decoding>& decoding) const {
  if (decoding.empty()) return max_tokens_;
  absl::Duration decode_time;
  int64_t sequences = 0;
  for (const Decoding& part : decoding) {
    if (part.model == model) sequences += part.sequences;
    const Pace* pace = paces_.Find(part.model);
    if (pace == nullptr) continue;
    if (pace->steps_with_chunk >= kStepsBetweenMeasures) return 0;
    decode_time +=
        DecodeTime(*pace, part.sequences).value_or(absl::ZeroDuration());
  }
  const Pace* pace = paces_.Find(model);
  const auto added =
      pace == nullptr ? std::nullopt : pace->added_per_token.value();
  double wanted = 0;
  if (added.has_value() && decode_time > absl::ZeroDuration()) {
    wanted = static_cast<double>(
        std::min(max_tokens_, kMaxGrowth * pace->longest_chunk));
    if (*added > absl::ZeroDuration()) {
      wanted = std::min(wanted, absl::FDivDuration(decode_time, *added));
    }
  }
  return std::min(FillUnits(wanted, sequences), max_tokens_);
}

void ChunkPacer::Record(const LoadedModel* model, int64_t decode_sequences,
                        int64_t chunk_tokens, absl::Duration duration) {
  if (decode_sequences + chunk_tokens <= 0) return;
  duration = std::max(duration, absl::ZeroDuration());
  Pace* pace = paces_.FindOrAdd(model);
  if (chunk_tokens == 0) {
    pace->decode[BucketOf(decode_sequences, pace->decode.size() - 1)].Add(
        duration);
    pace->steps_with_chunk = 0;
    return;
  }
  pace->longest_chunk = std::max(pace->longest_chunk, chunk_tokens);
  absl::Duration decode_time;
  if (decode_sequences > 0) {
    ++pace->steps_with_chunk;
    decode_time =
        DecodeTime(*pace, decode_sequences).value_or(absl::ZeroDuration());
  }
  pace->added_per_token.Add(
      std::max(duration - decode_time, absl::ZeroDuration()) / chunk_tokens);
}

std::optional<absl::Duration> ChunkPacer::DecodeTime(const Pace& pace,
                                                     int64_t sequences) {
  const size_t own = BucketOf(sequences, pace.decode.size() - 1);
  for (size_t i = own + 1; i-- > 0;) {
    if (const auto time = pace.decode[i].value()) return time;
  }
  for (size_t i = own + 1; i < pace.decode.size(); ++i) {
    if (const auto time = pace.decode[i].value()) return time;
  }
  return std::nullopt;
}

}  // namespace pot
