// What of worker.proto can be checked without looking at jobs.
#ifndef POT_SERVER_RPC_WORKER_REQUESTS_H_
#define POT_SERVER_RPC_WORKER_REQUESTS_H_

#include <string>

#include "absl/status/status.h"
#include "pot/v1/worker.pb.h"

namespace pot {

// INVALID_ARGUMENT with the field, its limit and the given value. Losses and
// the like may be anything: a run that diverges has none that is finite.
absl::Status CheckLeaseKey(const v1::LeaseKey& key, const std::string& field);
absl::Status CheckAcquireLease(const v1::AcquireLeaseRequest& request);
absl::Status CheckHeartbeat(const v1::HeartbeatRequest& request);
absl::Status CheckReportEvents(const v1::ReportEventsRequest& request);
absl::Status CheckComplete(const v1::CompleteRequest& request);

}  // namespace pot

#endif  // POT_SERVER_RPC_WORKER_REQUESTS_H_
