#include "server/training/auto_rollback.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/serving/error_details.h"
#include "server/training/checkpoint_publisher.h"

namespace pot {
namespace {

bool IsServersFault(const absl::Status& status) {
  return absl::IsInternal(status) || absl::IsDataLoss(status) ||
         absl::IsUnknown(status);
}

bool IsNonFinite(const absl::Status& status) {
  return !status.ok() && GetDetails(status).value_or(ErrorDetails()).reason ==
                             "NON_FINITE_LOGITS";
}

}  // namespace

void AutoRollback::Watch(const Probation& probation) {
  MutexLock lock(&mutex_);
  for (const State& state : states_) {
    if (state.probation.job_id == probation.job_id &&
        state.probation.model == probation.model &&
        state.probation.version == probation.version) {
      return;
    }
  }
  State state;
  state.probation = probation;
  states_.push_back(std::move(state));
  ++running_;
}

void AutoRollback::OnCallEnd(const std::string& model, int64_t version,
                             const absl::Status& status) {
  if (running_.load(std::memory_order_relaxed) == 0) return;
  const absl::Time now = now_();
  bool breached = false;
  {
    MutexLock lock(&mutex_);
    for (State& state : states_) {
      const Probation& probation = state.probation;
      if (state.over || !state.breach.empty() || now > probation.end ||
          probation.version != version || probation.model != model) {
        continue;
      }
      ++state.calls;
      if (IsServersFault(status)) ++state.errors;
      const bool too_many =
          static_cast<double>(state.errors) >
          probation.max_error_ratio * static_cast<double>(state.calls);
      if (IsNonFinite(status)) {
        state.breach = absl::StrCat("version ", version,
                                    " computed a logit that is not finite");
      } else if (state.calls >= probation.min_calls && too_many) {
        state.breach = absl::StrCat(
            state.errors, " of ", state.calls, " calls of version ", version,
            " failed, more than a share of ", probation.max_error_ratio);
      }
      breached = breached || !state.breach.empty();
    }
  }
  if (breached && on_breach_ != nullptr) on_breach_();
}

ProbationEnd AutoRollback::RollBack(const Probation& probation,
                                    const std::string& breach) {
  ProbationEnd end;
  end.probation = probation;
  AliasChange change;
  change.model = probation.model;
  change.alias = probation.alias;
  change.cause = AliasChangeCause::kAutoRollback;
  change.comment = PublishComment(probation.job_id, breach);
  change.time = now_();
  const absl::StatusOr<AliasChange> done = repository_->RollbackAlias(
      std::move(change), probation.version, absl::InfiniteFuture());
  end.rolled_back = done.ok();
  end.message = done.ok()
                    ? absl::StrCat("alias ", probation.alias, " of model ",
                                   probation.model, " went back to version ",
                                   done->to_version, ": ", breach)
                    : absl::StrCat("alias ", probation.alias, " of model ",
                                   probation.model, " stays although ", breach,
                                   ": ", done.status().message());
  return end;
}

std::vector<ProbationEnd> AutoRollback::Decide() {
  std::vector<State> ended;
  const absl::Time now = now_();
  {
    MutexLock lock(&mutex_);
    for (State& state : states_) {
      if (state.over) continue;
      if (state.breach.empty() && now <= state.probation.end) continue;
      state.over = true;
      --running_;
      ended.push_back(state);
    }
  }
  std::vector<ProbationEnd> ends;
  for (const State& state : ended) {
    if (state.breach.empty()) {
      ends.push_back({state.probation, false, ""});
    } else {
      ends.push_back(RollBack(state.probation, state.breach));
    }
  }
  return ends;
}

}  // namespace pot
