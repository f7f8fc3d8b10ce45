#ifndef POT_CLIENT_JOB_CURVES_H_
#define POT_CLIENT_JOB_CURVES_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "pot/v1/qat_job.pb.h"

namespace pot {

// What a job's events measured, by step.
class JobCurves {
 public:
  struct Training {
    int64_t step;
    double loss;
    double smoothed_loss;
    double learning_rate;
  };
  struct Validation {
    int64_t step;
    double nats;
    double standard_error;
    double perplexity;
  };

  // In the order of the events. A step that comes again, after a job went back
  // to a snapshot, replaces what was measured from it on. Figures that are not
  // finite are left out.
  void Add(const v1::JobEvent& event);

  const std::vector<Training>& training() const { return training_; }
  const std::vector<Validation>& validation() const { return validation_; }
  // Lowest nats; null before the first.
  const Validation* best() const;
  // The base on the same text, from the gate's report.
  const std::optional<double>& base_nats() const { return base_nats_; }

 private:
  std::vector<Training> training_;
  std::vector<Validation> validation_;
  std::optional<double> base_nats_;
};

// At most about `max_points` of the series: of each equal share of it the
// points with the lowest and the highest loss, so that spikes stay.
std::vector<JobCurves::Training> Thin(
    const std::vector<JobCurves::Training>& training, size_t max_points);

}  // namespace pot

#endif  // POT_CLIENT_JOB_CURVES_H_
