#ifndef POT_SERVER_SERVING_MODEL_REPOSITORY_OPTIONS_H_
#define POT_SERVER_SERVING_MODEL_REPOSITORY_OPTIONS_H_

#include <cstdint>
#include <string>

#include "engine/gpt2/model_weights.h"

namespace pot {

struct ModelRepositoryOptions {
  std::string root;
  // Directories that Import() may read lie below this; empty: none may.
  std::string import_root;
  LoadOptions load;
  // Weights in memory at the same time; 0: no limit.
  int64_t max_resident_bytes = 0;
  // What uploads and imports leave free on the disk.
  int64_t min_free_disk_bytes = int64_t{64} << 20;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_MODEL_REPOSITORY_OPTIONS_H_
