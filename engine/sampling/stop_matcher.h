#ifndef POT_ENGINE_SAMPLING_STOP_MATCHER_H_
#define POT_ENGINE_SAMPLING_STOP_MATCHER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace pot {

// Finds stop strings in text that arrives in pieces, and holds back what may
// yet become one: the longest end of the text that begins a stop string, no
// byte more. Time is linear in the text (one automaton for all strings).
// Copies share the automaton, which is immutable.
//
// Works on bytes. Given pieces and stop strings of whole UTF-8 characters,
// what it emits is whole characters too.
class StopMatcher {
 public:
  // `stops`: none empty.
  explicit StopMatcher(std::vector<std::string> stops);

  struct Result {
    std::string text;     // may be sent now
    int stop_index = -1;  // the stop string found, if any; text ends before it
  };

  // Nothing may be pushed after a stop was found. The stop that ends first
  // wins; among stops that end at the same byte the longest does, among equal
  // strings the first. Without `may_stop` stops that end in this piece do not
  // count, and are held back only where they begin a longer one.
  Result Push(absl::string_view piece, bool may_stop = true);

  // What was held back, when the sequence ends without a stop.
  std::string Finish();

 private:
  class Automaton;

  std::shared_ptr<const Automaton> automaton_;
  int state_ = 0;
};

}  // namespace pot

#endif  // POT_ENGINE_SAMPLING_STOP_MATCHER_H_
