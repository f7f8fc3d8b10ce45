// Whether a checkpoint is good enough to serve, measured with the engine that
// would serve it.
#ifndef POT_SERVER_TRAINING_QUALITY_GATE_H_
#define POT_SERVER_TRAINING_QUALITY_GATE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/mutex.h"
#include "engine/gpt2/evaluation.h"
#include "engine/loaded_model.h"
#include "pot/v1/qat_job.pb.h"

namespace pot {

// The text that a checkpoint is held against: files joined in their order with
// nothing between them, from the share `begin` of their bytes on, rounded down
// and moved back to the beginning of a character (trainer/data/text_slice.h).
struct GateText {
  std::vector<std::string> paths;
  std::vector<std::string> digests;  // of the files
  double begin = 0;                  // [0, 1)
};

struct GateInput {
  // The base, pinned, or else null and where to load it from.
  std::shared_ptr<const LoadedModel> base;
  std::string base_directory;
  std::string base_digest;
  std::string checkpoint_directory;
  int64_t step = 0;  // of the checkpoint
  GateText text;
  EvaluationProtocol protocol;
  int64_t max_tokens = 0;  // from the beginning of the text; 0: all
  v1::QualityGate limits;
};

// One line per condition that fails, with limit and value. `base` is null where
// there is nothing to compare with: conditions that need it fail.
std::vector<std::string> GateViolations(
    const v1::QualityGate& limits, const v1::CheckpointEvaluation* base,
    const v1::CheckpointEvaluation& checkpoint);

// Without a text to measure on, what the worker measured.
v1::GateReport JudgeWorkersEvaluation(
    const v1::QualityGate& limits, const v1::CheckpointEvaluation& evaluation);

// The UTF-8 text that `text` names.
absl::StatusOr<std::string> ReadGateText(const GateText& text);

// One evaluation at a time, off the serving scheduler: a thread of its own, of
// the lowest priority (nice 19), without helpers.
class QualityGate {
 public:
  // The base's own figures are kept in `cache_directory`, which is made, by
  // digest, text and protocol.
  QualityGate(LoadOptions load, std::string cache_directory);
  // Cancels what runs.
  ~QualityGate();
  QualityGate(const QualityGate&) = delete;
  QualityGate& operator=(const QualityGate&) = delete;

  // Evaluates on the gate's thread and calls `done` there, last and once. Not
  // while another evaluation runs.
  using Done = std::function<void(absl::StatusOr<v1::GateReport>)>;
  void Start(GateInput input, Done done);
  // Makes the running evaluation end as CANCELLED, within a step of the engine.
  void Cancel();

  // On this thread. A checkpoint whose logits or figures are not finite misses
  // the gate; INVALID_ARGUMENT for a text without two tokens or that the
  // tokenizer cannot read.
  absl::StatusOr<v1::GateReport> Evaluate(
      const GateInput& input, const std::function<bool()>& cancelled);

 private:
  struct Request {
    GateInput input;
    Done done;
  };
  void Run();
  std::string CachePath(const GateInput& input) const;
  absl::StatusOr<v1::CheckpointEvaluation> EvaluateBase(
      const GateInput& input, const LoadedModel& base,
      absl::Span<const int32_t> tokens, const std::function<bool()>& cancelled);

  const LoadOptions load_;
  const std::string cache_directory_;
  Mutex mutex_;
  CondVar wake_;
  std::unique_ptr<Request> request_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace pot

#endif  // POT_SERVER_TRAINING_QUALITY_GATE_H_
