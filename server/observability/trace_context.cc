#include "server/observability/trace_context.h"

#include "engine/base/characters.h"

namespace pot {
namespace {

// version "-" trace-id "-" parent-id "-" trace-flags
constexpr size_t kTraceBegin = 3;
constexpr size_t kTraceSize = 32;
constexpr size_t kParentBegin = kTraceBegin + kTraceSize + 1;
constexpr size_t kParentSize = 16;
constexpr size_t kFlagsBegin = kParentBegin + kParentSize + 1;
constexpr size_t kSize = kFlagsBegin + 2;

bool IsZero(absl::string_view text) {
  return text.find_first_not_of('0') == absl::string_view::npos;
}

}  // namespace

std::string TraceIdOf(absl::string_view traceparent) {
  if (traceparent.size() < kSize) return "";
  const absl::string_view version = traceparent.substr(0, 2);
  const absl::string_view trace = traceparent.substr(kTraceBegin, kTraceSize);
  const absl::string_view parent =
      traceparent.substr(kParentBegin, kParentSize);
  const absl::string_view flags = traceparent.substr(kFlagsBegin, 2);
  for (const absl::string_view part : {version, trace, parent, flags}) {
    if (!IsLowerHex(part, part.size())) return "";
  }
  for (const size_t dash : {kTraceBegin, kParentBegin, kFlagsBegin}) {
    if (traceparent[dash - 1] != '-') return "";
  }
  if (version == "ff" || IsZero(trace) || IsZero(parent)) return "";
  const bool longer = traceparent.size() > kSize;
  if (longer && (version == "00" || traceparent[kSize] != '-')) return "";
  return std::string(trace);
}

}  // namespace pot
