#include "client/text_format.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/utf8.h"

namespace pot {
namespace {

// C1 controls (U+0080-U+009F) can drive terminals as escape sequences do.
bool IsControl(int32_t code_point) {
  return code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0);
}

bool BeginsCodePoint(char c) { return (c & 0xc0) != 0x80; }

std::string Escape(absl::string_view text, bool quotes) {
  std::string out;
  while (!text.empty()) {
    const Utf8Unit unit = FirstUtf8Unit(text);
    const absl::string_view bytes = text.substr(0, unit.length);
    text.remove_prefix(unit.length);
    if (unit.code_point == '\n') {
      out += "\\n";
    } else if (unit.code_point == '\t') {
      out += "\\t";
    } else if (unit.code_point == '\r') {
      out += "\\r";
    } else if (unit.code_point < 0 || IsControl(unit.code_point)) {
      for (const char byte : bytes) {
        absl::StrAppendFormat(&out, "\\x%02x",
                              static_cast<unsigned char>(byte));
      }
    } else {
      if (quotes && (bytes == "\"" || bytes == "\\")) out += '\\';
      out.append(bytes.data(), bytes.size());
    }
  }
  return out;
}

}  // namespace

std::string Printable(absl::string_view text) { return Escape(text, false); }

std::string Quoted(absl::string_view text) {
  return absl::StrCat("\"", Escape(text, true), "\"");
}

size_t CountColumns(absl::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), BeginsCodePoint));
}

absl::string_view CutToColumns(absl::string_view text, size_t columns) {
  size_t end = 0;
  for (; end < text.size(); ++end) {
    if (BeginsCodePoint(text[end]) && columns-- == 0) break;
  }
  return text.substr(0, end);
}

std::string FormatCount(uint64_t count) {
  const std::string digits = absl::StrCat(count);
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out.push_back(',');
    out.push_back(digits[i]);
  }
  return out;
}

std::string FormatBytes(int64_t bytes) {
  if (bytes <= 0) return "-";
  if (bytes < 1000) return absl::StrCat(bytes, " B");
  auto value = static_cast<double>(bytes);
  const char* const units[] = {"B", "kB", "MB", "GB", "TB"};
  size_t unit = 0;
  // 999.5 would print as 1000 with three digits.
  while (value >= 999.5 && unit + 1 < std::size(units)) {
    value /= 1000;
    ++unit;
  }
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return absl::StrFormat("%.*f %s", decimals, value, units[unit]);
}

std::string FormatSaving(int64_t part, int64_t whole) {
  if (part <= 0 || whole <= 0) return "-";
  const double less =
      100 * (1 - static_cast<double>(part) / static_cast<double>(whole));
  if (std::abs(less) < 0.05) return "same";
  return absl::StrFormat("%.1f %% %s", std::abs(less),
                         less > 0 ? "less" : "more");
}

std::string FormatAge(absl::Duration age) {
  const int64_t seconds = std::max<int64_t>(0, absl::ToInt64Seconds(age));
  if (seconds < 60) return absl::StrCat(seconds, " s");
  if (seconds < 3600) return absl::StrCat(seconds / 60, " min");
  if (seconds < 48 * 3600) return absl::StrCat(seconds / 3600, " h");
  return absl::StrCat(seconds / (24 * 3600), " d");
}

std::string FormatSeconds(double seconds) {
  // Also refuses NaN; beyond 30 000 years nobody counts days.
  if (!(seconds >= 0 && seconds < 1e12)) return "-";
  if (seconds < 9.95) return absl::StrFormat("%.1f s", seconds);
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 60) return absl::StrCat(whole, " s");
  if (whole < 3600) return absl::StrCat(whole / 60, " min ", whole % 60, " s");
  const int64_t minutes = whole / 60;
  if (minutes < 24 * 60) {
    return absl::StrCat(minutes / 60, " h ", minutes % 60, " min");
  }
  return absl::StrCat(minutes / (24 * 60), " d ", minutes / 60 % 24, " h");
}

std::string FormatReal(double value) {
  // %g pads nothing, and fewer digits would make 1e+01 of 10.
  for (int digits = 6; digits < 17; ++digits) {
    std::string text = absl::StrFormat("%.*g", digits, value);
    double read = 0;
    if (absl::SimpleAtod(text, &read) && read == value) return text;
  }
  return absl::StrFormat("%.17g", value);
}

bool ParseTimeout(absl::string_view text, absl::Duration* timeout) {
  double seconds = 0;
  if (absl::SimpleAtod(text, &seconds)) {
    // Also refuses NaN.
    if (!(seconds > 0)) return false;
    *timeout = absl::Seconds(seconds);
    return *timeout > absl::ZeroDuration();
  }
  return absl::ParseDuration(text, timeout) && *timeout > absl::ZeroDuration();
}

}  // namespace pot
