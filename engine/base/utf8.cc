#include "engine/base/utf8.h"

#include <algorithm>
#include <cstring>

namespace pot {
namespace {

constexpr absl::string_view kReplacementCharacter = "\xEF\xBF\xBD";

// One row of Unicode's table 3-7, chosen by the first byte: how long the
// sequence is and what its second byte may be. Later bytes are 80..BF.
struct Lead {
  size_t length;  // 0: not a first byte
  uint8_t second_min, second_max;
};

Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// Bytes of `text` from `offset` on, in steps of 8, that are ASCII.
size_t SkipAscii(absl::string_view text, size_t offset) {
  constexpr uint64_t kHighBits = 0x8080808080808080;
  uint64_t word;
  while (text.size() - offset >= sizeof(word)) {
    std::memcpy(&word, text.data() + offset, sizeof(word));
    if ((word & kHighBits) != 0) break;
    offset += sizeof(word);
  }
  return offset;
}

}  // namespace

Utf8Unit FirstUtf8Unit(absl::string_view text) {
  const uint8_t first = static_cast<uint8_t>(text[0]);
  const Lead lead = LeadOf(first);
  if (lead.length == 0) return {1, -1, false};
  if (lead.length == 1) return {1, first, false};
  // 5, 4 or 3 payload bits in the first byte of 2, 3 or 4.
  int32_t code_point = first & (0x7F >> lead.length);
  for (size_t i = 1; i < lead.length; ++i) {
    if (i == text.size()) return {i, -1, true};
    const uint8_t byte = static_cast<uint8_t>(text[i]);
    const uint8_t min = i == 1 ? lead.second_min : 0x80;
    const uint8_t max = i == 1 ? lead.second_max : 0xBF;
    if (byte < min || byte > max) return {i, -1, false};
    code_point = (code_point << 6) | (byte & 0x3F);
  }
  return {lead.length, code_point, false};
}

void AppendUtf8(int32_t code_point, std::string* text) {
  // Six bits in each continuation byte, the rest in the first.
  const int continuation_bytes = code_point < 0x80      ? 0
                                 : code_point < 0x800   ? 1
                                 : code_point < 0x10000 ? 2
                                                        : 3;
  constexpr uint8_t kLeadBits[] = {0x00, 0xC0, 0xE0, 0xF0};
  int shift = 6 * continuation_bytes;
  text->push_back(
      static_cast<char>(kLeadBits[continuation_bytes] | (code_point >> shift)));
  while (shift > 0) {
    shift -= 6;
    text->push_back(static_cast<char>(0x80 | ((code_point >> shift) & 0x3F)));
  }
}

size_t FindInvalidUtf8(absl::string_view text) {
  size_t offset = 0;
  while (true) {
    offset = SkipAscii(text, offset);
    if (offset == text.size()) return offset;
    const Utf8Unit unit = FirstUtf8Unit(text.substr(offset));
    if (unit.code_point < 0) return offset;
    offset += unit.length;
  }
}

size_t CompleteUtf8Prefix(absl::string_view text) {
  // An incomplete sequence is at most three bytes, the first of them the last
  // byte of `text` that is no continuation byte.
  const size_t reach = std::min<size_t>(text.size(), 3);
  for (size_t back = 1; back <= reach; ++back) {
    const size_t start = text.size() - back;
    if ((static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) continue;
    const Utf8Unit unit = FirstUtf8Unit(text.substr(start));
    return unit.incomplete ? start : text.size();
  }
  return text.size();
}

std::string ReplaceInvalidUtf8(absl::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const size_t valid = FindInvalidUtf8(text);
    result.append(text.data(), valid);
    text.remove_prefix(valid);
    if (text.empty()) break;
    result.append(kReplacementCharacter.data(), kReplacementCharacter.size());
    text.remove_prefix(FirstUtf8Unit(text).length);
  }
  return result;
}

}  // namespace pot
