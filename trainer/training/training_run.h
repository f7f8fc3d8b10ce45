// One training of a GPT-2, step by step: from scratch, or quantization-aware.
#ifndef POT_TRAINER_TRAINING_TRAINING_RUN_H_
#define POT_TRAINER_TRAINING_TRAINING_RUN_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/checkpoint/exponent_checkpoint.h"
#include "engine/gpt2/evaluation.h"
#include "trainer/data/batch_sampler.h"
#include "trainer/data/token_corpus.h"
#include "trainer/gpt2/objective.h"
#include "trainer/gpt2/parameter_layout.h"
#include "trainer/optimizer/adamw.h"
#include "trainer/optimizer/schedule.h"
#include "trainer/quantization/activation_fake_quantizer.h"
#include "trainer/quantization/model_fake_quantizer.h"
#include "trainer/snapshot/snapshot.h"

namespace pot {

// Quantization-aware training: what the forward pass rounds.
struct QatOptions {
  ModelFakeQuantizeOptions weights;
  ActivationFakeQuantizeOptions activations;
  // Learning rate of learned scales over that of the weights.
  double scale_rate_ratio = 10;
  // Codes are held for this share of the steps, the last ones. 0: never.
  double freeze_ratio = 0;
};

struct TrainingOptions {
  Schedule schedule;
  AdamWOptions optimizer;  // weight decay is of matrices only
  double clip_norm = 1;    // of the gradient; 0 does not clip
  BatchOptions batch;
  LossOptions loss;  // of training; its teacher is given to Create()
  double dropout = 0;
  Precision precision = Precision::kF32;
  uint64_t seed = 0;  // of dropout; batch.seed is that of the data
  std::optional<QatOptions> qat;
};

struct StepReport {
  int64_t step = 0;  // done, this one included
  double loss = 0;   // what is minimized, per prediction
  double nats = 0;   // cross-entropy per prediction
  double rate = 0;
  double gradient_norm = 0;  // before clipping
};

class TrainingRun {
 public:
  // Starts at step 0 from `parameters` (layout.size()). `layout`, `corpus` and
  // the teacher must outlive it. INVALID_ARGUMENT naming limit and given value;
  // FAILED_PRECONDITION for a precision that the CPU lacks; RESOURCE_EXHAUSTED
  // without memory.
  static absl::StatusOr<std::unique_ptr<TrainingRun>> Create(
      const ParameterLayout* layout, const TrainingOptions& options,
      const TokenCorpus* corpus, std::vector<float> parameters,
      const ParameterLayout* teacher,
      absl::Span<const float> teacher_parameters);

  const TrainingOptions& options() const { return options_; }
  // Optimizer steps done.
  int64_t step() const { return step_; }
  // The shadow weights.
  absl::Span<const float> parameters() const { return parameters_; }

  // One step. The same options, parameters and corpus give the same bits on the
  // same kind of CPU with the same number of threads. OUT_OF_RANGE when loss or
  // gradient is not finite: the parameters are then as before.
  absl::StatusOr<StepReport> Step();

  // Loss of the model as it would be exported, on `tokens` under `protocol`, in
  // fp32 products: what the engine computes but for rounding. `max_tokens` < 0
  // takes all. `stop`, which may be null, is asked between windows; true makes
  // it CANCELLED. In training, evaluations are part of the run: they must come
  // at the same steps for a resumed run to give the same bits.
  absl::StatusOr<LossSums> Evaluate(const TokenCorpus& tokens,
                                    EvaluationProtocol protocol,
                                    int64_t max_tokens,
                                    const std::function<bool()>& stop);

  // Everything that later steps depend on, as WriteSnapshot; returns its path.
  // `notes` are the caller's own.
  absl::StatusOr<std::string> Save(const std::string& directory,
                                   const SnapshotMetadata& notes) const;
  // Goes on from there. FAILED_PRECONDITION when it is of another model or
  // another form of training; then, and after any other error, the run must not
  // be used.
  absl::Status Restore(const Snapshot& snapshot);

  // With QatOptions: the quantized model as of the last Evaluate, as
  // ModelFakeQuantizer::Export. FAILED_PRECONDITION when a Step came after it.
  absl::Status ExportQuantized(const std::map<std::string, std::string>& files,
                               const CheckpointProvenance& provenance,
                               const std::string& directory) const;

 private:
  TrainingRun(const ParameterLayout* layout, const TrainingOptions& options,
              BatchSampler sampler, std::vector<float> parameters);
  absl::Status Init(const ParameterLayout* teacher,
                    absl::Span<const float> teacher_parameters);

  // What the forward pass computes with: the parameters, or their fake
  // quantization.
  absl::Span<const float> Effective();
  void UpdateParameters(double rate, double gradient_scale);

  const ParameterLayout& layout_;
  const TrainingOptions options_;
  const BatchSampler sampler_;
  int64_t step_ = 0;
  bool exportable_ = false;

  std::vector<float> parameters_, m_, v_, gradients_;  // (layout.size())
  std::vector<int32_t> inputs_, targets_;              // (B T)

  // With QatOptions.
  std::unique_ptr<ModelFakeQuantizer> quantizer_;
  std::optional<ActivationFakeQuantizer> activations_;
  std::optional<ActivationFakeQuantizer> served_activations_;
  std::vector<float> effective_;          // (layout.size())
  std::vector<float> scale_m_, scale_v_;  // (log scales)

  std::unique_ptr<Objective<float>> objective_;
  std::unique_ptr<Objective<float>> evaluation_;  // made by the first Evaluate
};

}  // namespace pot

#endif  // POT_TRAINER_TRAINING_TRAINING_RUN_H_
