// The command line flags of what evaluates models on a text.
#ifndef POT_TRAINER_EVALUATION_FLAGS_H_
#define POT_TRAINER_EVALUATION_FLAGS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "client/cli/command.h"
#include "engine/gpt2/evaluation.h"
#include "engine/kernels/kernel_table.h"

namespace pot {

struct EvaluationFlags {
  std::string slice = "0:1";
  std::string kernel;
  int64_t window = 0;
  int64_t stride = 0;
  int threads = 0;

  // Windows of a model with that context, unless the flags say otherwise.
  EvaluationProtocol Protocol(int64_t n_positions) const;
  absl::StatusOr<const KernelTable*> Kernels() const;
};

void AddEvaluationFlags(const Command& command, EvaluationFlags* flags);

}  // namespace pot

#endif  // POT_TRAINER_EVALUATION_FLAGS_H_
