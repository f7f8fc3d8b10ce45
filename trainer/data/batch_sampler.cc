#include "trainer/data/batch_sampler.h"

#include <array>

#include "absl/numeric/int128.h"
#include "absl/strings/str_cat.h"
#include "engine/base/philox.h"

namespace pot {
namespace {

// Tells the numbers drawn here from others drawn under the same seed.
constexpr uint64_t kWindowStream = 0x77696e646f777331;  // "windows1"
constexpr uint64_t kOrderStream = 0x6f72646572733031;   // "orders01"
constexpr int kFeistelRounds = 6;
// Keeps step * micro_batches * sequences far from overflow for any run.
constexpr int64_t kMaxSequencesPerStep = int64_t{1} << 24;

uint32_t Low(uint64_t x) { return static_cast<uint32_t>(x); }
uint32_t High(uint64_t x) { return static_cast<uint32_t>(x >> 32); }

std::array<uint32_t, 2> KeyOf(uint64_t seed, uint64_t stream) {
  return {Low(seed ^ stream), High(seed ^ stream)};
}

// One pass of the network over `value` < 2^(2 half_bits).
uint64_t Feistel(uint64_t value, int half_bits, uint64_t epoch,
                 std::array<uint32_t, 2> key) {
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  uint64_t left = value >> half_bits;
  uint64_t right = value & mask;
  for (uint32_t round = 0; round < kFeistelRounds; ++round) {
    const uint64_t mixed =
        left ^
        (Philox4x32({Low(right), round, Low(epoch), High(epoch)}, key)[0] &
         mask);
    left = right;
    right = mixed;
  }
  return left << half_bits | right;
}

absl::Status OutOfRange(absl::string_view what, absl::string_view limit,
                        int64_t given) {
  return absl::InvalidArgumentError(
      absl::StrCat(what, " must be ", limit, ", not ", given));
}

}  // namespace

int64_t PermutedIndex(uint64_t seed, uint64_t epoch, int64_t index,
                      int64_t size) {
  int half_bits = 1;
  while (half_bits < 31 && (int64_t{1} << (2 * half_bits)) < size) ++half_bits;
  const std::array<uint32_t, 2> key = KeyOf(seed, kOrderStream);
  auto value = static_cast<uint64_t>(index);
  do {
    value = Feistel(value, half_bits, epoch, key);
  } while (value >= static_cast<uint64_t>(size));
  return static_cast<int64_t>(value);
}

absl::StatusOr<BatchSampler> BatchSampler::Create(const TokenCorpus* corpus,
                                                  const BatchOptions& options) {
  BatchOptions filled = options;
  if (filled.sequences < 1 || filled.sequences > kMaxSequencesPerStep) {
    return OutOfRange("sequences of a batch",
                      absl::StrCat("1 to ", kMaxSequencesPerStep),
                      filled.sequences);
  }
  if (filled.micro_batches < 1 ||
      filled.micro_batches > kMaxSequencesPerStep / filled.sequences) {
    return OutOfRange(
        "micro-batches of a step",
        absl::StrCat("1 to ", kMaxSequencesPerStep / filled.sequences),
        filled.micro_batches);
  }
  const int64_t size = corpus->size();
  if (filled.context < 1) {
    return OutOfRange("the context", "at least 1", filled.context);
  }
  if (filled.context > size - 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("a training window has ", filled.context,
                     " inputs and one last target, but the text has only ",
                     size, " tokens"));
  }
  if (filled.stride < 0) {
    return OutOfRange("the stride", "at least 0", filled.stride);
  }
  if (filled.stride == 0) {
    filled.stride = filled.order == BatchOrder::kRandom ? 1 : filled.context;
  }
  const int64_t windows = (size - 1 - filled.context) / filled.stride + 1;
  return BatchSampler(corpus, filled, windows);
}

BatchSampler::BatchSampler(const TokenCorpus* corpus,
                           const BatchOptions& options, int64_t num_windows)
    : corpus_(corpus), options_(options), num_windows_(num_windows) {}

int64_t BatchSampler::steps_per_epoch() const {
  const int64_t step_sequences = options_.sequences * options_.micro_batches;
  int64_t sequences = num_windows_;
  if (options_.order == BatchOrder::kRandom) {
    sequences = (corpus_->size() - 1) / options_.context;
  }
  return (sequences + step_sequences - 1) / step_sequences;
}

int64_t BatchSampler::Start(int64_t step, int64_t micro_batch,
                            int64_t sequence) const {
  const auto windows = static_cast<uint64_t>(num_windows_);
  if (options_.order == BatchOrder::kRandom) {
    const std::array<uint32_t, 4> bits =
        Philox4x32({Low(step), High(step), Low(micro_batch), Low(sequence)},
                   KeyOf(options_.seed, kWindowStream));
    // floor(u * windows) for u of 64 bits in [0, 1): off from uniform by at
    // most windows / 2^64.
    const uint64_t random = uint64_t{bits[1]} << 32 | bits[0];
    const auto window = static_cast<int64_t>(
        absl::Uint128High64(absl::uint128(random) * windows));
    return window * options_.stride;
  }
  const uint64_t drawn =
      (static_cast<uint64_t>(step) * options_.micro_batches + micro_batch) *
          options_.sequences +
      sequence;
  return PermutedIndex(options_.seed, drawn / windows,
                       static_cast<int64_t>(drawn % windows), num_windows_) *
         options_.stride;
}

void BatchSampler::Fill(int64_t step, int64_t micro_batch,
                        absl::Span<int32_t> inputs,
                        absl::Span<int32_t> targets) const {
  const int64_t context = options_.context;
  for (int64_t i = 0; i < options_.sequences; ++i) {
    const int64_t start = Start(step, micro_batch, i);
    corpus_->Copy(start, inputs.subspan(i * context, context));
    corpus_->Copy(start + 1, targets.subspan(i * context, context));
  }
}

}  // namespace pot
