#include "trainer/evaluation_flags.h"

#include <algorithm>
#include <thread>

namespace pot {

EvaluationProtocol EvaluationFlags::Protocol(int64_t n_positions) const {
  EvaluationProtocol protocol;
  protocol.window = window > 0 ? window : n_positions;
  protocol.stride = stride > 0 ? stride : protocol.window;
  return protocol;
}

absl::StatusOr<const KernelTable*> EvaluationFlags::Kernels() const {
  return kernel.empty() ? KernelTableFromEnvironment()
                        : FindKernelTable(kernel);
}

void AddEvaluationFlags(const Command& command, EvaluationFlags* flags) {
  flags->threads =
      std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  command
      .AddFlag("--slice", &flags->slice,
               "BEGIN:END, the part of the text as fractions")
      .ShowDefault();
  command
      .AddFlag("--window", &flags->window,
               "Input tokens per window [context length]")
      .Positive();
  command.AddFlag("--stride", &flags->stride, "Tokens between windows [window]")
      .Positive();
  command.AddFlag("--kernel", &flags->kernel,
                  "Kernel table [$POT_KERNEL, else the fastest]");
  command.AddFlag("--threads", &flags->threads, "Threads")
      .InRange(1, 256)
      .ShowDefault();
}

}  // namespace pot
