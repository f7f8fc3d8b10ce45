// One token's matrix products of the 124M shape: 48 layer matrices and the
// head, each read once, 4-bit codes. The floor is a read-only pass over the
// same bytes in the same run; run it alone on the machine.
//
//   floor/T                     T threads read all codes
//   pot_dot/KERNEL/FORMAT/ROWS/T  the bare integer kernel for ROWS tokens
//   linear/KERNEL/GRANULARITY/ROWS/T  quantization, kernel and epilogue
//   crossover/KERNEL/WAY/ROWS/T  linear, always by pot_dot ("dot") or always by
//                               unpacked blocks ("tile")
//   fp32/ROWS/T                 the same products through oneDNN
//
// Counters are of the fastest pass, which other work on the machine disturbs
// least: ms, GB/s of the weights' bytes counted once, and of_floor, the floor's
// time over the benchmark's, 1 being as fast as the memory.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmark/benchmark.h"
#include "engine/base/thread_pool.h"
#include "engine/kernels/aligned_buffer.h"
#include "engine/kernels/kernel_table.h"
#include "engine/kernels/linear.h"
#include "engine/kernels/packed_pot_matrix.h"

namespace pot {
namespace {

constexpr int kLayers = 12;
constexpr int64_t kWidth = 768;
constexpr int64_t kVocabulary = 50257;

struct Shape {
  int64_t outputs;
  int64_t inputs;
};

std::vector<Shape> Shapes() {
  std::vector<Shape> shapes;
  for (int layer = 0; layer < kLayers; ++layer) {
    shapes.push_back({3 * kWidth, kWidth});
    shapes.push_back({kWidth, kWidth});
    shapes.push_back({4 * kWidth, kWidth});
    shapes.push_back({kWidth, 4 * kWidth});
  }
  shapes.push_back({kVocabulary, kWidth});
  return shapes;
}

PotMatrix RandomMatrix(const PotFormat* format, Shape shape,
                       Granularity granularity) {
  std::mt19937 random(1);
  std::vector<PotCode> codes(shape.outputs * shape.inputs);
  for (PotCode& code : codes) {
    code = static_cast<PotCode>(random() % format->num_codes());
  }
  const std::vector<float> scales(
      shape.outputs * granularity.GroupsPerRow(shape.inputs), 0.01f);
  return PotMatrix::FromCodes(format, shape.outputs, shape.inputs, granularity,
                              codes, scales)
      .value();
}

constexpr Granularity kPerRow{Granularity::Kind::kRow, 0};

using PackedMatrices = std::vector<std::unique_ptr<PackedPotMatrix>>;

// Kept for the whole run, so that the floor reads the very bytes.
const PackedMatrices& Packed(const char* format) {
  static std::map<std::string, PackedMatrices> all;
  PackedMatrices& matrices = all[format];
  if (matrices.empty()) {
    for (const Shape& shape : Shapes()) {
      matrices.push_back(std::make_unique<PackedPotMatrix>(
          RandomMatrix(FindPotFormat(format).value(), shape, kPerRow)));
    }
  }
  return matrices;
}

int64_t CodeBytes(const PackedMatrices& matrices) {
  int64_t bytes = 0;
  for (const auto& matrix : matrices) {
    bytes += matrix->num_blocks() * 64 * matrix->padded_cols() / 2;
  }
  return bytes;
}

uint64_t ReadPass(const uint8_t* bytes, int64_t count) {
  // Several sums, so that additions never wait for each other.
  uint64_t sums[8] = {};
  for (int64_t i = 0; i < count; i += 64) {
    __builtin_prefetch(bytes + i + 8192);
    const auto* words = reinterpret_cast<const uint64_t*>(bytes + i);
    for (int j = 0; j < 8; ++j) sums[j] += words[j];
  }
  uint64_t sum = 0;
  for (const uint64_t part : sums) sum += part;
  return sum;
}

// Seconds of the fastest pass of the last floor benchmark, by thread count.
std::map<int, double>& FloorSeconds() {
  static std::map<int, double> seconds;
  return seconds;
}

// Runs `pass` once per iteration; the fastest one's seconds, also reported as
// counters over `bytes`.
template <typename Pass>
double Measure(benchmark::State& state, int64_t bytes, Pass pass) {
  pass();
  double fastest = std::numeric_limits<double>::infinity();
  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    pass();
    const std::chrono::duration<double> taken =
        std::chrono::steady_clock::now() - begin;
    state.SetIterationTime(taken.count());
    fastest = std::min(fastest, taken.count());
  }
  state.counters["ms"] = fastest * 1e3;
  state.counters["GB/s"] = bytes / fastest * 1e-9;
  return fastest;
}

void ReportOfFloor(benchmark::State& state, int threads, double seconds) {
  const auto floor = FloorSeconds().find(threads);
  if (floor == FloorSeconds().end()) return;
  state.counters["of_floor"] = floor->second / seconds;
}

void FloorPass(benchmark::State& state, int threads) {
  const PackedMatrices& matrices = Packed("pot4");
  ThreadPool pool(threads);
  FloorSeconds()[threads] = Measure(state, CodeBytes(matrices), [&] {
    for (const auto& matrix : matrices) {
      pool.ParallelFor(matrix->num_blocks(), 1, [&](size_t begin, size_t end) {
        const int64_t bytes = 64 * matrix->padded_cols() / 2;
        benchmark::DoNotOptimize(
            ReadPass(matrix->BlockCodes(begin, 0), (end - begin) * bytes));
      });
    }
  });
}

void PotDotPass(benchmark::State& state, const KernelTable* table,
                const char* format, int rows, int threads) {
  const PackedMatrices& matrices = Packed(format);
  const AlignedBuffer<int8_t> a(4 * kWidth * kMaxDotRows);
  ThreadPool pool(threads);
  const double seconds = Measure(state, CodeBytes(matrices), [&] {
    for (const auto& matrix : matrices) {
      pool.ParallelFor(matrix->num_blocks(), 1, [&](size_t begin, size_t end) {
        alignas(64) int32_t acc[kMaxDotRows * 64];
        for (size_t block = begin; block < end; ++block) {
          table->pot_dot(matrix->BlockCodes(block, 0), matrix->format(),
                         a.data(), matrix->padded_cols(), rows,
                         matrix->padded_cols() / 8, acc);
          benchmark::DoNotOptimize(acc[0]);
        }
      });
    }
  });
  ReportOfFloor(state, threads, seconds);
}

using Layers = std::vector<std::unique_ptr<const Linear>>;

double LinearPass(benchmark::State& state, const Layers& layers, int rows,
                  int threads) {
  ThreadPool pool(threads);
  std::vector<float> x(rows * 4 * kWidth), y(rows * kVocabulary);
  for (size_t i = 0; i < x.size(); ++i) x[i] = 0.01f * (i % 201) - 1.0f;
  int64_t bytes = 0;
  for (const auto& layer : layers) bytes += layer->resident_bytes();
  return Measure(state, bytes, [&] {
    for (const auto& layer : layers) {
      const absl::Status status =
          layer->Forward(x.data(), rows, y.data(), &pool);
      if (!status.ok()) state.SkipWithError(status.ToString().c_str());
    }
  });
}

void PotLinearPass(benchmark::State& state, const KernelTable* table,
                   Granularity granularity, int rows, int threads) {
  Layers layers;
  for (const Shape& shape : Shapes()) {
    layers.push_back(MakePotLinear(RandomMatrix(FindPotFormat("pot4").value(),
                                                shape, granularity),
                                   {}, ActivationMode::kAffine, table)
                         .value());
  }
  ReportOfFloor(state, threads, LinearPass(state, layers, rows, threads));
}

// KernelTable's kernels with one way of multiplying many rows.
const KernelTable* Always(const KernelTable& table, bool tiles) {
  static std::map<std::string, std::pair<KernelTable, PotTile>> variants;
  const std::string key = absl::StrCat(table.name, tiles);
  const auto [at, added] = variants.try_emplace(key, table, PotTile{});
  auto& [variant, tile] = at->second;
  if (added) {
    tile = *table.tile;
    tile.min_rows = 1;
    variant.tile = tiles ? &tile : nullptr;
  }
  return &variant;
}

void FloatLinearPass(benchmark::State& state, int rows, int threads) {
  Layers layers;
  for (const Shape& shape : Shapes()) {
    const std::vector<float> weights(shape.outputs * shape.inputs, 0.01f);
    layers.push_back(
        MakeFloatLinear(weights, shape.outputs, shape.inputs, false, {})
            .value());
  }
  ReportOfFloor(state, threads, LinearPass(state, layers, rows, threads));
}

template <typename Function, typename... Args>
void Register(const std::string& name, Function function, Args... args) {
  benchmark::RegisterBenchmark(
      name.c_str(), [=](benchmark::State& state) { function(state, args...); })
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

void RegisterAll() {
  const int threads[] = {1, 2};
  for (const int t : threads) Register(absl::StrCat("floor/", t), FloorPass, t);
  for (const KernelTable* table : AllKernelTables()) {
    if (!table->supported()) {
      std::fprintf(stderr, "NOT MEASURED: this CPU cannot run \"%s\"\n",
                   std::string(table->name).c_str());
      continue;
    }
    for (const char* format : {"pot4", "pot4-strict", "twohot4"}) {
      for (const int rows : {1, 4, 8}) {
        for (const int t : threads) {
          Register(absl::StrCat("pot_dot/", table->name, "/", format, "/", rows,
                                "/", t),
                   PotDotPass, table, format, rows, t);
        }
      }
    }
    for (const Granularity& granularity :
         {kPerRow, Granularity{Granularity::Kind::kGroup, 64}}) {
      for (const int rows : {1, 8}) {
        for (const int t : threads) {
          Register(absl::StrCat("linear/", table->name, "/",
                                granularity.ToString(), "/", rows, "/", t),
                   PotLinearPass, table, granularity, rows, t);
        }
      }
    }
  }
  for (const KernelTable* table : AllKernelTables()) {
    if (!table->supported() || table->tile == nullptr) continue;
    for (const bool tiles : {false, true}) {
      for (const int rows : {4, 6, 8, 12, 16, 24, 32, 64, 128, 512}) {
        Register(absl::StrCat("crossover/", table->name, "/",
                              tiles ? "tile" : "dot", "/", rows, "/1"),
                 PotLinearPass, Always(*table, tiles), kPerRow, rows, 1);
      }
    }
  }
  for (const int rows : {1, 8}) {
    for (const int t : threads) {
      Register(absl::StrCat("fp32/", rows, "/", t), FloatLinearPass, rows, t);
    }
  }
}

}  // namespace
}  // namespace pot

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  pot::RegisterAll();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
