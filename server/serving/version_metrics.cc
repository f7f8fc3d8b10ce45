#include "server/serving/version_metrics.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace pot {
namespace {

bool IsShown(ModelVersionState state) {
  return state != ModelVersionState::kRegistered &&
         state != ModelVersionState::kUnloaded;
}

}  // namespace

void VersionMetrics::OnEvent(const ModelEvent& event) {
  if (event.kind == ModelEvent::Kind::kSnapshotDone) return;
  const ModelVersionInfo& info = event.version;
  const bool shown =
      event.kind != ModelEvent::Kind::kDeleted && IsShown(info.state);
  MutexLock lock(&mutex_);
  if (event.kind != ModelEvent::Kind::kDeleted) NoteAliases(info);
  if (shown) {
    versions_[{info.name, info.version}] = info;
  } else {
    versions_.erase({info.name, info.version});
    serving_->Drop(info.name, info.version);
  }
}

void VersionMetrics::NoteAliases(const ModelVersionInfo& info) {
  for (const std::string& name : info.aliases) {
    Alias& alias = aliases_[{info.name, name}];
    if (alias.version != 0 && alias.version != info.version) ++alias.moves;
    alias.version = info.version;
    alias.present = true;
  }
  // The event of the version that gains an alias may come after that of the one
  // that loses it.
  for (auto& [key, alias] : aliases_) {
    if (key.first == info.name && alias.version == info.version) {
      alias.present = std::find(info.aliases.begin(), info.aliases.end(),
                                key.second) != info.aliases.end();
    }
  }
}

void VersionMetrics::Collect(const std::map<std::string, double>& perplexities,
                             MetricFamilies* families) const {
  MetricFamily infos{
      "pot_model_info", "Versions that are AVAILABLE.", MetricType::kGauge, {}};
  MetricFamily states{"pot_model_state",
                      "The present state of versions.",
                      MetricType::kGauge,
                      {}};
  MetricFamily seconds{
      "pot_model_load_seconds", "What its load took.", MetricType::kGauge, {}};
  MetricFamily bytes{"pot_model_resident_bytes",
                     "Its weights in memory.",
                     MetricType::kGauge,
                     {}};
  MetricFamily perplexity{"pot_model_eval_perplexity",
                          "On the validation text of the job that made it.",
                          MetricType::kGauge,
                          {}};
  MetricFamily named{"pot_model_alias_version",
                     "What the alias names.",
                     MetricType::kGauge,
                     {}};
  MetricFamily swaps{"pot_model_swaps_total",
                     "Moves of the alias from one version to another.",
                     MetricType::kCounter,
                     {}};
  {
    MutexLock lock(&mutex_);
    for (const auto& [key, info] : versions_) {
      const MetricLabels labels = {{"model", info.name},
                                   {"version", absl::StrCat(info.version)}};
      const auto with = [&labels](MetricLabels more) {
        more.insert(more.begin(), labels.begin(), labels.end());
        return more;
      };
      states.Add(
          with({{"state", std::string(ModelVersionStateName(info.state))}}), 1);
      if (info.state != ModelVersionState::kAvailable) continue;
      infos.Add(with({{"sha256", info.digest},
                      {"format", info.format},
                      {"granularity",
                       info.granularity.empty() ? "none" : info.granularity}}),
                1);
      seconds.Add(labels, info.load_seconds);
      bytes.Add(labels, static_cast<double>(info.resident_bytes));
      const auto known = perplexities.find(info.digest);
      if (known != perplexities.end()) perplexity.Add(labels, known->second);
    }
    for (const auto& [key, alias] : aliases_) {
      const MetricLabels labels = {{"model", key.first}, {"alias", key.second}};
      swaps.Add(labels, static_cast<double>(alias.moves));
      if (alias.present) {
        named.Add(labels, static_cast<double>(alias.version));
      }
    }
  }
  for (MetricFamily* family :
       {&infos, &states, &seconds, &bytes, &perplexity, &named, &swaps}) {
    families->push_back(std::move(*family));
  }
}

}  // namespace pot
