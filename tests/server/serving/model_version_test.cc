#include "server/serving/model_version.h"

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace pot {
namespace {

using State = ModelVersionState;

constexpr State kStates[] = {
    State::kRegistered, State::kVerifying, State::kLoading,  State::kWarming,
    State::kAvailable,  State::kUnloading, State::kUnloaded, State::kFailed};

// The diagram at the head of proto/pot/v1/model.proto, arrow by arrow.
TEST(ModelVersionTest, LifeCycleIsTheDocumentedOne) {
  const std::set<std::pair<State, State>> arrows = {
      {State::kRegistered, State::kVerifying},
      {State::kVerifying, State::kLoading},
      {State::kLoading, State::kWarming},
      {State::kWarming, State::kAvailable},
      {State::kAvailable, State::kUnloading},
      {State::kUnloading, State::kUnloaded},
      {State::kUnloaded, State::kVerifying},
      {State::kVerifying, State::kFailed},
      {State::kLoading, State::kFailed},
      {State::kWarming, State::kFailed},
      {State::kFailed, State::kVerifying}};
  for (const State from : kStates) {
    for (const State to : kStates) {
      EXPECT_EQ(TransitionAllowed(from, to), arrows.count({from, to}) == 1)
          << ModelVersionStateName(from) << " -> " << ModelVersionStateName(to);
    }
  }
}

TEST(ModelVersionTest, EveryStateHasItsOwnName) {
  std::set<std::string> names;
  for (const State state : kStates) {
    names.insert(std::string(ModelVersionStateName(state)));
  }
  EXPECT_EQ(names.size(), 8);
  EXPECT_EQ(names.count("UNKNOWN"), 0);
}

}  // namespace
}  // namespace pot
