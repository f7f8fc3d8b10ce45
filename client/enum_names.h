// Enumerators as a person reads them; a number for one from a newer server.
#ifndef POT_CLIENT_ENUM_NAMES_H_
#define POT_CLIENT_ENUM_NAMES_H_

#include <string>

#include "pot/v1/common.pb.h"
#include "pot/v1/model.pb.h"
#include "pot/v1/qat_job.pb.h"

namespace pot {

std::string FinishReasonName(v1::FinishReason reason);    // "stop string"
std::string StateName(v1::ModelVersionState state);       // "AVAILABLE"
std::string EventKindName(v1::ModelEventKind kind);       // "CHANGED"
std::string StageName(v1::ImportStage stage);             // "quantizing"
std::string CauseName(v1::AliasChangeCause cause);        // "auto rollback"
std::string ActivationsName(v1::ActivationQuantization);  // "affine"
std::string JobStateName(v1::QatJobState state);          // "RUNNING"
std::string SeverityName(v1::LogSeverity severity);       // "warning"

}  // namespace pot

#endif  // POT_CLIENT_ENUM_NAMES_H_
