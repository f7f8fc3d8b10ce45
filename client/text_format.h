// Values as a person reads them.
#ifndef POT_CLIENT_TEXT_FORMAT_H_
#define POT_CLIENT_TEXT_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace pot {

// `text` on one line and harmless to a terminal: control characters as \n, \t
// or \x1b, bytes that are not UTF-8 as \xff.
std::string Printable(absl::string_view text);

// The same in double quotes, with \" and \\ escaped.
std::string Quoted(absl::string_view text);

// Code points of UTF-8: every byte that does not continue one. Columns, for
// the characters that this program writes.
size_t CountColumns(absl::string_view text);

// The first `columns` code points of `text`.
absl::string_view CutToColumns(absl::string_view text, size_t columns);

// 1234567 as "1,234,567".
std::string FormatCount(uint64_t count);

// Powers of 1000 with three digits: "999 B", "3.24 MB". "-" for 0 or less.
std::string FormatBytes(int64_t bytes);

// How much less than `whole` the `part` is: "87.3 % less", "same" within half
// a tenth of a percent, "2.0 % more". "-" when either is not positive.
std::string FormatSaving(int64_t part, int64_t whole);

// "5 s", "12 min", "3 h", "9 d".
std::string FormatAge(absl::Duration age);

// A time to wait or that something took, its two largest units: "0.4 s",
// "45 s", "2 min 40 s", "3 h 12 min", "2 d 3 h". "-" for a negative one or NaN.
std::string FormatSeconds(double seconds);

// A short decimal number that reads back as `value`: "0.0002", "1.02", "10".
std::string FormatReal(double value);

// "60s", "500ms", "2m", "1h30m"; a bare number is seconds. Must be over 0.
bool ParseTimeout(absl::string_view text, absl::Duration* timeout);

}  // namespace pot

#endif  // POT_CLIENT_TEXT_FORMAT_H_
