#include "server/security/scope.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/base/quote.h"

namespace pot {
namespace {

constexpr std::pair<Scope, const char*> kNames[] = {
    {Scope::kInfer, "infer"},
    {Scope::kAdmin, "admin"},
    {Scope::kTrain, "train"},
    {Scope::kWorker, "worker"},
};

constexpr char kInference[] = "pot.v1.InferenceService";
constexpr char kModel[] = "pot.v1.ModelService";
constexpr char kTraining[] = "pot.v1.TrainingService";
constexpr char kTrainer[] = "pot.v1.TrainerWorkerService";

constexpr ScopeSet kInfer = ScopesOf(Scope::kInfer);
constexpr ScopeSet kAdmin = ScopesOf(Scope::kAdmin);
constexpr ScopeSet kTrain = ScopesOf(Scope::kTrain);
constexpr ScopeSet kWorker = ScopesOf(Scope::kWorker);
// Whoever names models must be able to see them.
constexpr ScopeSet kLook = kInfer | kAdmin | kTrain;

constexpr MethodScope kMethods[] = {
    {kInference, "Generate", kInfer},
    {kInference, "GenerateStream", kInfer},
    {kInference, "Score", kInfer},
    {kInference, "Perplexity", kInfer},
    {kInference, "Tokenize", kInfer},
    {kInference, "Detokenize", kInfer},
    {kModel, "ListModels", kLook},
    {kModel, "GetModel", kLook},
    {kModel, "WatchModels", kLook},
    {kModel, "DiffVersions", kLook},
    // Says who did what.
    {kModel, "ListAliasHistory", kAdmin | kTrain},
    {kModel, "LoadModel", kAdmin},
    {kModel, "UnloadModel", kAdmin},
    {kModel, "RegisterCheckpoint", kAdmin},
    {kModel, "ImportModel", kAdmin},
    {kModel, "SetAlias", kAdmin},
    {kModel, "RollbackAlias", kAdmin},
    {kModel, "DeleteVersion", kAdmin},
    {kTraining, "UploadDataset", kTrain},
    {kTraining, "SubmitQat", kTrain},
    {kTraining, "GetJob", kTrain},
    {kTraining, "ListJobs", kTrain},
    {kTraining, "WatchJob", kTrain},
    {kTraining, "CancelJob", kTrain},
    {kTraining, "PauseJob", kTrain},
    {kTraining, "ResumeJob", kTrain},
    {kTraining, "StopEarlyAndPublish", kTrain},
    {kTraining, "ListCheckpoints", kTrain},
    // With `force` it needs kAdmin besides.
    {kTraining, "PublishCheckpoint", kTrain},
    {kTraining, "DeleteJob", kTrain},
    {kTrainer, "AcquireLease", kWorker},
    {kTrainer, "Heartbeat", kWorker},
    {kTrainer, "ReportEvents", kWorker},
    {kTrainer, "FetchDataset", kWorker},
    {kTrainer, "FetchBase", kWorker},
    {kTrainer, "FetchSnapshot", kWorker},
    {kTrainer, "GetUpload", kWorker},
    {kTrainer, "UploadSnapshot", kWorker},
    {kTrainer, "UploadCheckpoint", kWorker},
    {kTrainer, "Complete", kWorker},
};

}  // namespace

absl::StatusOr<ScopeSet> ParseScopes(absl::string_view text) {
  ScopeSet scopes = 0;
  for (const absl::string_view name : absl::StrSplit(text, ',')) {
    ScopeSet found = 0;
    for (const auto& [scope, known] : kNames) {
      if (name == known) found = ScopesOf(scope);
    }
    if (found == 0 || (scopes & found) != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "scopes must be some of infer,admin,train,worker, each once; got ",
          Quote(text)));
    }
    scopes |= found;
  }
  return scopes;
}

std::string ScopeNames(ScopeSet scopes, absl::string_view separator) {
  std::vector<const char*> names;
  for (const auto& [scope, name] : kNames) {
    if ((scopes & ScopesOf(scope)) != 0) names.push_back(name);
  }
  return absl::StrJoin(names, separator);
}

absl::Span<const MethodScope> MethodScopes() { return kMethods; }

ScopeSet ScopesForMethod(absl::string_view method) {
  for (const MethodScope& entry : kMethods) {
    if (method == entry.method) return entry.scopes;
  }
  return 0;
}

}  // namespace pot
