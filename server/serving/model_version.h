#ifndef POT_SERVER_SERVING_MODEL_VERSION_H_
#define POT_SERVER_SERVING_MODEL_VERSION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/gpt2/gpt2_config.h"

namespace pot {

enum class ModelVersionState {
  kRegistered,
  kVerifying,
  kLoading,
  kWarming,
  kAvailable,
  kUnloading,
  kUnloaded,
  kFailed,
};
absl::string_view ModelVersionStateName(ModelVersionState state);

// Whether the life cycle (proto/pot/v1/model.proto) has this step.
bool TransitionAllowed(ModelVersionState from, ModelVersionState to);

// What there is to say of a version; a copy.
struct ModelVersionInfo {
  std::string name;
  int64_t version = 0;
  ModelVersionState state = ModelVersionState::kRegistered;
  std::string state_message;
  std::string digest;
  std::string format;  // "f32", "pot4", ..
  std::string granularity;
  std::string method;
  std::string embedding_format;
  std::string embedding_granularity;
  Gpt2Config config;
  int64_t resident_bytes = 0;  // 0 unless loaded
  int64_t file_bytes = 0;
  absl::Time create_time;
  std::vector<std::string> aliases;  // sorted
  std::string base_digest;
  double load_seconds = 0;
};

// Names a version the way a request does: at most one selector.
struct ModelSelector {
  std::string name;
  std::optional<int64_t> version;
  std::string alias;
  std::string digest;
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_MODEL_VERSION_H_
