#ifndef POT_SERVER_SERVING_PER_MODEL_H_
#define POT_SERVER_SERVING_PER_MODEL_H_

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "engine/loaded_model.h"

namespace pot {

// What was measured of each of the models used last. Models only identify and
// are never used, as they may be gone: another one at the same address begins
// with wrong values and soon has its own. Not thread-safe.
template <typename Value>
class PerModel {
 public:
  // nullptr when there is none.
  const Value* Find(const LoadedModel* model) const {
    const auto found = std::find_if(
        values_.begin(), values_.end(),
        [model](const auto& entry) { return entry.first == model; });
    return found == values_.end() ? nullptr : &found->second;
  }

  // Valid until the next call.
  Value* FindOrAdd(const LoadedModel* model) {
    const auto found = std::find_if(
        values_.begin(), values_.end(),
        [model](const auto& entry) { return entry.first == model; });
    if (found != values_.end()) {
      std::rotate(found, found + 1, values_.end());
    } else {
      if (values_.size() == kMaxModels) values_.erase(values_.begin());
      values_.emplace_back(model, Value());
    }
    return &values_.back().second;
  }

 private:
  // More than one process serves at a time.
  static constexpr size_t kMaxModels = 64;

  std::vector<std::pair<const LoadedModel*, Value>> values_;  // last used last
};

}  // namespace pot

#endif  // POT_SERVER_SERVING_PER_MODEL_H_
