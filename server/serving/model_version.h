// What there is to say of one version of a model: state, description, name.
#ifndef POT_SERVER_SERVING_MODEL_VERSION_H_
#define POT_SERVER_SERVING_MODEL_VERSION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/gpt2/gpt2_config.h"
#include "engine/quant/activation.h"

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
// "REGISTERED", ..
absl::string_view ModelVersionStateName(ModelVersionState state);

// VERIFYING, LOADING or WARMING: on its way to AVAILABLE.
bool IsOnItsWay(ModelVersionState state);

// Whether the life cycle (proto/pot/v1/model.proto) has this step.
bool TransitionAllowed(ModelVersionState from, ModelVersionState to);

// What there is to say of a version; a copy.
struct ModelVersionInfo {
  std::string name;
  int64_t version = 0;
  ModelVersionState state = ModelVersionState::kRegistered;
  std::string state_message;
  std::string digest;
  std::string format;       // "f32", "pot4", ..; "mixed"; empty when unreadable
  std::string granularity;  // this and the next three: empty with "f32"
  std::string method;
  std::string embedding_format;
  std::string embedding_granularity;
  // Of quantized products; kFloat with "f32".
  ActivationMode activations = ActivationMode::kFloat;
  Gpt2Config config;           // all 0 when unreadable
  int64_t resident_bytes = 0;  // 0 unless loaded
  int64_t file_bytes = 0;
  absl::Time create_time = absl::UnixEpoch();
  std::vector<std::string> aliases;  // sorted
  std::string base_digest;
  double load_seconds = 0;  // of the last load
};

// Names a version the way a request does: at most one selector.
struct ModelSelector {
  std::string name = {};
  std::optional<int64_t> version = {};
  std::string alias = {};
  std::string digest = {};
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_MODEL_VERSION_H_
