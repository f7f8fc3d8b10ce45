#include "client/job_curves.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace pot {
namespace {

template <typename Point>
void Append(const Point& point, std::vector<Point>* points) {
  while (!points->empty() && points->back().step >= point.step) {
    points->pop_back();
  }
  points->push_back(point);
}

}  // namespace

void JobCurves::Add(const v1::JobEvent& event) {
  if (event.has_progress()) {
    const v1::JobProgress& progress = event.progress();
    const Training point = {progress.step(), progress.train_loss(),
                            progress.smoothed_train_loss(),
                            progress.learning_rate()};
    if (std::isfinite(point.loss) && std::isfinite(point.smoothed_loss) &&
        std::isfinite(point.learning_rate)) {
      Append(point, &training_);
    }
  }
  if (event.has_evaluation()) {
    const v1::CheckpointEvaluation& evaluation = event.evaluation();
    const Validation point = {evaluation.step(), evaluation.nats_per_token(),
                              evaluation.standard_error(),
                              evaluation.perplexity()};
    if (std::isfinite(point.nats) && std::isfinite(point.standard_error)) {
      Append(point, &validation_);
    }
  }
  if (event.has_gate() && event.gate().base().nats_per_token() > 0 &&
      std::isfinite(event.gate().base().nats_per_token())) {
    base_nats_ = event.gate().base().nats_per_token();
  }
}

const JobCurves::Validation* JobCurves::best() const {
  const auto found = std::min_element(
      validation_.begin(), validation_.end(),
      [](const Validation& a, const Validation& b) { return a.nats < b.nats; });
  return found == validation_.end() ? nullptr : &*found;
}

std::vector<JobCurves::Training> Thin(
    const std::vector<JobCurves::Training>& training, size_t max_points) {
  if (training.size() <= max_points) return training;
  const size_t shares = std::max<size_t>(1, max_points / 2);
  std::vector<JobCurves::Training> thin;
  for (size_t i = 0; i < shares; ++i) {
    const auto at = [&](size_t share) {
      return training.begin() +
             static_cast<std::ptrdiff_t>(share * training.size() / shares);
    };
    auto [low, high] = std::minmax_element(
        at(i), at(i + 1),
        [](const JobCurves::Training& a, const JobCurves::Training& b) {
          return a.loss < b.loss;
        });
    thin.push_back(*std::min(low, high));
    if (low != high) thin.push_back(*std::max(low, high));
  }
  return thin;
}

}  // namespace pot
