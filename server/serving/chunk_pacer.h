// How much of the prompts a step may compute beside decoding sequences.
#ifndef POT_SERVER_SERVING_CHUNK_PACER_H_
#define POT_SERVER_SERVING_CHUNK_PACER_H_

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "engine/loaded_model.h"
#include "server/serving/per_model.h"

namespace pot {

// Keeps a step with prompt tokens at about twice the time of one without, from
// what recent steps took, in rows that the kernels take together. Chunks never
// change results, so neither do clocks.
//
// Each model has the median time of its last decode-only steps, by the number
// of sequences in powers of two, and the median time that each prompt token
// added to its last steps with a chunk. Medians, so that one hiccup of the
// machine changes nothing. Not thread-safe.
class ChunkPacer {
 public:
  // Granted at least, whatever they take, so that prompts get on.
  static constexpr int64_t kMinTokens = 2;
  // A step's rows, decoded and of the chunk, are a multiple, unless the chunk
  // is as long as one may be: one to four rows take the kernels about as long
  // as each other.
  static constexpr int64_t kRowUnit = 4;
  // How many times as long as the longest chunk so far the next may be: what a
  // short one adds is little beside what a machine's hiccups do.
  static constexpr int64_t kMaxGrowth = 4;
  // Steps with a chunk after which one goes without, to measure decoding anew.
  static constexpr int64_t kStepsBetweenMeasures = 64;

  // What a round decodes with one model.
  struct Decoding {
    const LoadedModel* model = nullptr;
    int64_t sequences = 0;
  };

  // No chunk is longer than `max_tokens`, at least one.
  explicit ChunkPacer(int64_t max_tokens);

  // Most tokens of a chunk of `model` in a round that decodes `decoding` too:
  // max_tokens when that is empty, and now and then 0 when it is not.
  int64_t ChunkTokens(const LoadedModel* model,
                      const std::vector<Decoding>& decoding) const;

  // A step of `model` was made. Durations below zero count as zero.
  void Record(const LoadedModel* model, int64_t decode_sequences,
              int64_t chunk_tokens, absl::Duration duration);

 private:
  // Of the last values.
  class Median {
   public:
    void Add(absl::Duration value);
    std::optional<absl::Duration> value() const;

   private:
    static constexpr int64_t kKept = 9;
    std::array<absl::Duration, kKept> values_;
    int64_t count_ = 0;  // ever added
  };

  struct Pace {
    // [i]: decode-only steps of 2^(i-1) < sequences <= 2^i.
    std::array<Median, 16> decode;
    Median added_per_token;
    int64_t longest_chunk = 0;
    int64_t steps_with_chunk = 0;  // beside decoding, since one without
  };

  // Where no step of so many sequences was seen: of the next fewer, or else of
  // the next more.
  static std::optional<absl::Duration> DecodeTime(const Pace& pace,
                                                  int64_t sequences);

  const int64_t max_tokens_;
  PerModel<Pace> paces_;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_CHUNK_PACER_H_
