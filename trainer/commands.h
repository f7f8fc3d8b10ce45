// The subcommands of pot-trainer. Each adds its flags to `app`; running it
// sets `*result`.
#ifndef POT_TRAINER_COMMANDS_H_
#define POT_TRAINER_COMMANDS_H_

#include "absl/status/status.h"
#include "client/cli/command.h"

namespace pot {

// quantize --from DIR --out REPO/NAME: PTQ, published as a new version.
void AddQuantizeCommand(const Command& app, absl::Status* result);

// eval MODEL TEXT: perplexity by the serving engine.
void AddEvalCommand(const Command& app, absl::Status* result);

// report MODEL TEXT --out DIR: what each way to quantize costs and loses.
void AddReportCommand(const Command& app, absl::Status* result);

// init --size gpt2 --seed N --out DIR: random weights.
void AddInitCommand(const Command& app, absl::Status* result);

// tokenizer --text F --size 8192 --out DIR: a vocabulary made from texts.
void AddTokenizerCommand(const Command& app, absl::Status* result);

// pretrain --train F --tokenizer DIR --out DIR: a GPT-2 from scratch.
void AddPretrainCommand(const Command& app, absl::Status* result);

// qat --from DIR --train F --out REPO/NAME: quantization-aware training.
void AddQatCommand(const Command& app, absl::Status* result);

// worker --server HOST:PORT: does the training jobs of a server.
void AddWorkerCommand(const Command& app, absl::Status* result);

}  // namespace pot

#endif  // POT_TRAINER_COMMANDS_H_
