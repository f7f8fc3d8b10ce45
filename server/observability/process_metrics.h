#ifndef POT_SERVER_OBSERVABILITY_PROCESS_METRICS_H_
#define POT_SERVER_OBSERVABILITY_PROCESS_METRICS_H_

#include "server/observability/metric_family.h"

namespace pot {

// The usual process_* of this process, from /proc; without those that cannot
// be read.
void CollectProcessMetrics(MetricFamilies* families);

}  // namespace pot

#endif  // POT_SERVER_OBSERVABILITY_PROCESS_METRICS_H_
