#ifndef POT_CLIENT_HUB_UPLOAD_H_
#define POT_CLIENT_HUB_UPLOAD_H_

#include <string>

#include "absl/status/statusor.h"
#include "client/session.h"
#include "engine/hub/hub_id.h"
#include "pot/v1/model.pb.h"

namespace pot {

// Downloads a model of a hub into the cache here and uploads it as the next
// version of the server's model `name`, of the format f32. A version that was
// made so from the same commit before is found instead. `load`: until it
// serves. The server is asked first, so that nobody downloads in vain.
absl::StatusOr<v1::ModelVersion> UploadHubModel(Session* session,
                                                const HubId& id,
                                                const std::string& name,
                                                bool load);

}  // namespace pot

#endif  // POT_CLIENT_HUB_UPLOAD_H_
