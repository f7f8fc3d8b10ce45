#ifndef POT_ENGINE_SAMPLING_STOP_MATCHER_H_
#define POT_ENGINE_SAMPLING_STOP_MATCHER_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace pot {

// Finds stop strings in text that arrives in pieces, and holds back what may
// yet become one. Time is linear in the text (one automaton for all strings).
class StopMatcher {
 public:
  // `stops`: none empty.
  explicit StopMatcher(std::vector<std::string> stops);

  struct Result {
    std::string text;     // may be sent now
    int stop_index = -1;  // the stop string found, if any; text ends before it
  };

  // Nothing may be pushed after a stop was found. Among stops that end at the
  // same byte the longest wins.
  Result Push(absl::string_view piece);

  // What was held back, when the sequence ends without a stop.
  std::string Finish();

 private:
  struct Node {
    int next[256];
    int fail;
    int depth;
    int stop_index;
  };
  std::vector<std::string> stops_;
  std::vector<Node> nodes_;
  int state_ = 0;
  std::string held_;
};

}  // namespace pot

#endif  // POT_ENGINE_SAMPLING_STOP_MATCHER_H_
