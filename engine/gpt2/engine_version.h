#ifndef POT_ENGINE_GPT2_ENGINE_VERSION_H_
#define POT_ENGINE_GPT2_ENGINE_VERSION_H_

namespace pot {

// "pot 0.1.0": in the checkpoints we write and in every answer's identity.
extern const char kEngineVersion[];

}  // namespace pot

#endif  // POT_ENGINE_GPT2_ENGINE_VERSION_H_
