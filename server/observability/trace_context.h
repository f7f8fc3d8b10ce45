// Who asked, in W3C's terms: https://www.w3.org/TR/trace-context/.
#ifndef POT_SERVER_OBSERVABILITY_TRACE_CONTEXT_H_
#define POT_SERVER_OBSERVABILITY_TRACE_CONTEXT_H_

#include <string>

#include "absl/strings/string_view.h"

namespace pot {

// The trace of a `traceparent`: 32 lower-case hexadecimal digits, not all 0;
// empty for a header that is not valid. Later versions than 00 count as far as
// their beginning is that of 00, as the standard wants it.
std::string TraceIdOf(absl::string_view traceparent);

}  // namespace pot

#endif  // POT_SERVER_OBSERVABILITY_TRACE_CONTEXT_H_
