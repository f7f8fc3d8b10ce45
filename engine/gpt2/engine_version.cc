#include "engine/gpt2/engine_version.h"

namespace pot {

const char kEngineVersion[] = "pot " POT_VERSION;

}  // namespace pot
