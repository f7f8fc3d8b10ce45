// What pot-bench measures, by the first part of the keys.
#ifndef POT_TESTS_BENCH_SECTIONS_H_
#define POT_TESTS_BENCH_SECTIONS_H_

#include "absl/status/status.h"
#include "tests/bench/bench_model.h"
#include "tests/bench/report.h"

namespace pot {

using SectionFunction = absl::Status(const BenchOptions& options, int threads,
                                     Report* report);

// Each of the 48 layer matrices and the head times one row, against a pass
// that only reads the same bytes.
SectionFunction MeasureGemv;
// Whole steps of one sequence, 128 new tokens.
SectionFunction MeasureDecode;
// A step at 1 000 positions against one at 128.
SectionFunction MeasureContext;
// A prompt of 512 tokens.
SectionFunction MeasurePrefill;
// 16 sequences at a time against one.
SectionFunction MeasureBatch;
// The model of shakespeare-char's shape, where what is not a kernel shows.
SectionFunction MeasureSmall;
// Through gRPC on loopback, from another process; load and memory as well.
SectionFunction MeasureServer;
// Recording a token for Prometheus against the step that makes it.
SectionFunction MeasureMetrics;
// A step of quantization-aware training.
SectionFunction MeasureTrain;
// A stream while a worker on the same machine trains, against one alone.
SectionFunction MeasureJobs;
// 0.1 % of outliers against none.
SectionFunction MeasureOutliers;
// Codes to floats: PoT and a look-up against uniform int4.
SectionFunction MeasureDequantization;

}  // namespace pot

#endif  // POT_TESTS_BENCH_SECTIONS_H_
