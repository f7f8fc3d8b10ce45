#include "engine/sampling/stop_matcher.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <string>
#include <vector>

#include "engine/base/utf8.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

struct Found {
  size_t end = std::string::npos;
  int index = -1;
};

// By definition: the first end, there the longest, then the first given.
Found NaiveSearch(const std::string& text,
                  const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    Found found;
    for (size_t i = 0; i < stops.size(); ++i) {
      const std::string& stop = stops[i];
      if (stop.size() > end ||
          text.compare(end - stop.size(), stop.size(), stop) != 0) {
        continue;
      }
      if (found.index < 0 || stop.size() > stops[found.index].size()) {
        found = {end, static_cast<int>(i)};
      }
    }
    if (found.index >= 0) return found;
  }
  return {};
}

// The longest end of `text` that is a proper beginning of a stop string.
size_t NaiveHeld(const std::string& text,
                 const std::vector<std::string>& stops) {
  size_t held = 0;
  for (const std::string& stop : stops) {
    for (size_t n = 1; n < stop.size() && n <= text.size(); ++n) {
      if (text.compare(text.size() - n, n, stop, 0, n) == 0) {
        held = std::max(held, n);
      }
    }
  }
  return held;
}

// Pushes `pieces` and checks everything that was emitted, after each piece.
void CheckAgainstNaive(const std::vector<std::string>& pieces,
                       const std::vector<std::string>& stops) {
  StopMatcher matcher(stops);
  std::string text, emitted;
  for (const std::string& piece : pieces) {
    text += piece;
    const StopMatcher::Result result = matcher.Push(piece);
    emitted += result.text;
    const Found found = NaiveSearch(text, stops);
    ASSERT_EQ(result.stop_index, found.index) << text;
    if (found.index >= 0) {
      ASSERT_EQ(emitted, text.substr(0, found.end - stops[found.index].size()));
      EXPECT_EQ(matcher.Finish(), "");
      return;
    }
    ASSERT_EQ(emitted, text.substr(0, text.size() - NaiveHeld(text, stops)));
  }
  emitted += matcher.Finish();
  ASSERT_EQ(emitted, text);
  EXPECT_EQ(matcher.Finish(), "");
}

TEST(StopMatcherTest, WithoutStopsEverythingPassesAtOnce) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.Push("any text").text, "any text");
  EXPECT_EQ(matcher.Push("").text, "");
  EXPECT_EQ(matcher.Finish(), "");
}

TEST(StopMatcherTest, HoldsBackExactlyWhatMayBecomeAStop) {
  StopMatcher matcher({"\n\nUser:"});
  EXPECT_EQ(matcher.Push("Hello\n").text, "Hello");
  EXPECT_EQ(matcher.Push("\n").text, "");
  EXPECT_EQ(matcher.Push("\n").text, "\n");  // the last two may still begin it
  EXPECT_EQ(matcher.Push("Us").text, "");
  EXPECT_EQ(matcher.Push("age").text, "\n\nUsage");
  EXPECT_EQ(matcher.Push(" is high\n\nUse").text, " is high");
  const StopMatcher::Result result = matcher.Push("r: more");
  EXPECT_EQ(result.text, "");
  EXPECT_EQ(result.stop_index, 0);
  EXPECT_EQ(matcher.Finish(), "");
}

TEST(StopMatcherTest, FinishGivesBackWhatWasHeld) {
  StopMatcher matcher({"END"});
  EXPECT_EQ(matcher.Push("the EN").text, "the ");
  EXPECT_EQ(matcher.Finish(), "EN");
}

TEST(StopMatcherTest, TheFirstEndWinsThenTheLongest) {
  EXPECT_EQ(StopMatcher({"abcd", "bc"}).Push("xabcd").stop_index, 1);
  EXPECT_EQ(StopMatcher({"abcd", "bc"}).Push("xabcd").text, "xa");
  EXPECT_EQ(StopMatcher({"c", "bc", "abc"}).Push("xabc").stop_index, 2);
  EXPECT_EQ(StopMatcher({"c", "bc", "abc"}).Push("xabc").text, "x");
  EXPECT_EQ(StopMatcher({"ab", "abc"}).Push("abc").stop_index, 0);
  EXPECT_EQ(StopMatcher({"same", "same"}).Push("same").stop_index, 0);
}

TEST(StopMatcherTest, CopiesGoOnIndependently) {
  StopMatcher first({"stop"});
  first.Push("st");
  StopMatcher second = first;
  EXPECT_EQ(first.Push("op").stop_index, 0);
  EXPECT_EQ(second.Push("ay").text, "stay");
}

TEST(StopMatcherTest, WholeCharactersInWholeCharactersOut) {
  // Stops that share their first bytes with other characters of the text.
  const std::vector<std::string> stops = {"é!", "日本語", "😀😀"};
  const std::vector<std::string> pieces = {"è", "é", "日", "本",  "日本",
                                           "😀", "😁", "é",  "日本"};
  StopMatcher matcher(stops);
  std::string emitted;
  for (const std::string& piece : pieces) {
    const StopMatcher::Result result = matcher.Push(piece);
    EXPECT_EQ(FindInvalidUtf8(result.text), result.text.size());
    EXPECT_EQ(result.stop_index, -1);
    emitted += result.text;
  }
  EXPECT_EQ(emitted, "èé日本日本😀😁é");
  EXPECT_EQ(matcher.Push("語").stop_index, 1);
  CheckAgainstNaive(pieces, stops);
}

TEST(StopMatcherTest, RandomTextsAgreeWithNaiveSearch) {
  std::mt19937 random(7);
  int found = 0;
  for (int round = 0; round < 4000; ++round) {
    // Two or three letters: overlaps and common prefixes abound.
    const int letters = 2 + round % 2;
    const auto word = [&](int max_length) {
      std::string result(1 + random() % max_length, 'a');
      for (char& c : result) c = static_cast<char>('a' + random() % letters);
      return result;
    };
    std::vector<std::string> stops(1 + random() % 5);
    for (std::string& stop : stops) stop = word(9);
    std::vector<std::string> pieces(1 + random() % 12);
    // Every third round feeds single bytes.
    for (std::string& piece : pieces) piece = word(round % 3 == 0 ? 1 : 6);
    CheckAgainstNaive(pieces, stops);
    if (HasFatalFailure()) return;
    std::string text;
    for (const std::string& piece : pieces) text += piece;
    found += NaiveSearch(text, stops).index >= 0;
  }
  // Both outcomes were tried often.
  EXPECT_GT(found, 1000);
  EXPECT_LT(found, 3900);
}

TEST(StopMatcherTest, StopsPassedOverAgreeWithNaiveSearch) {
  std::mt19937 random(11);
  int found_late = 0;
  for (int round = 0; round < 4000; ++round) {
    const auto word = [&](int max_length) {
      std::string result(1 + random() % max_length, 'a');
      for (char& c : result) c = static_cast<char>('a' + random() % 2);
      return result;
    };
    std::vector<std::string> stops(1 + random() % 4);
    for (std::string& stop : stops) stop = word(6);
    StopMatcher matcher(stops);
    std::string text, emitted;
    const int passed_over = random() % 6;
    for (int i = 0; i < 12; ++i) {
      const std::string piece = word(3);
      const bool may_stop = i >= passed_over;
      const StopMatcher::Result result = matcher.Push(piece, may_stop);
      emitted += result.text;
      // By definition again: the first end within this piece.
      Found found;
      for (size_t n = 1; may_stop && found.index < 0 && n <= piece.size();
           ++n) {
        const std::string until = text + piece.substr(0, n);
        for (size_t k = 0; k < stops.size(); ++k) {
          const bool ends =
              until.size() >= stops[k].size() &&
              until.substr(until.size() - stops[k].size()) == stops[k];
          if (ends && (found.index < 0 ||
                       stops[k].size() > stops[found.index].size())) {
            found = {until.size(), static_cast<int>(k)};
          }
        }
      }
      text += piece;
      ASSERT_EQ(result.stop_index, found.index) << text;
      if (found.index >= 0) {
        ASSERT_EQ(emitted,
                  text.substr(0, found.end - stops[found.index].size()));
        found_late += found.end != NaiveSearch(text, stops).end;
        break;
      }
      ASSERT_EQ(emitted, text.substr(0, text.size() - NaiveHeld(text, stops)));
    }
  }
  // Stops that were passed over came before one that counted.
  EXPECT_GT(found_late, 500);
}

TEST(StopMatcherTest, AllByteValuesMatch) {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  CheckAgainstNaive({all.substr(0, 100), all.substr(100)}, {all});
  CheckAgainstNaive({all}, {all.substr(254), std::string(1, '\0') + "x"});
}

// The worst text for a search that tries every stop string anew at every byte:
// 16 * 256 * 4 Mi = 17 G comparisons, far over 5 s. One step of the automaton
// per byte takes about 0.1 s, and ten times that under a sanitizer.
TEST(StopMatcherTest, TimeIsLinearOnRepetitions) {
  std::vector<std::string> stops;
  for (int i = 0; i < 16; ++i) {
    stops.push_back(std::string(240 + i, 'a') + "b");
  }
  StopMatcher matcher(stops);
  const auto start = std::chrono::steady_clock::now();
  constexpr size_t kBytes = 4 << 20;
  size_t emitted = 0;
  for (size_t i = 0; i < kBytes; ++i) emitted += matcher.Push("a").text.size();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  EXPECT_EQ(emitted, kBytes - 255);
  EXPECT_LT(seconds, 5.0);
  EXPECT_EQ(matcher.Push("b").stop_index, 15);
}

}  // namespace
}  // namespace pot
