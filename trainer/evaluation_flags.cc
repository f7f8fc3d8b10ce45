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

void AddEvaluationFlags(CLI::App* command, EvaluationFlags* flags) {
  flags->threads =
      std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  command
      ->add_option("--slice", flags->slice,
                   "BEGIN:END, the part of the text as fractions")
      ->capture_default_str();
  command
      ->add_option("--window", flags->window,
                   "Input tokens per window [context length]")
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--stride", flags->stride, "Tokens between windows [window]")
      ->check(CLI::PositiveNumber);
  command->add_option("--kernel", flags->kernel,
                      "Kernel table [$POT_KERNEL, else the fastest]");
  command->add_option("--threads", flags->threads, "Threads")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
}

}  // namespace pot
