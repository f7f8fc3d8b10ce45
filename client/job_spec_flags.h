#ifndef POT_CLIENT_JOB_SPEC_FLAGS_H_
#define POT_CLIENT_JOB_SPEC_FLAGS_H_

#include <functional>
#include <vector>

#include "client/cli/command.h"
#include "pot/v1/qat_job.pb.h"

namespace pot {

// What flags say about a specification, to be applied to the one that the file
// of --config holds.
class SpecEdits {
 public:
  using Edit = std::function<void(v1::QatJobSpec*)>;

  void Add(Edit edit) { edits_.push_back(std::move(edit)); }
  // One that takes a whole part away; parts are taken away before anything is
  // set.
  void AddRemoval(Edit edit) { removals_.push_back(std::move(edit)); }

  void Apply(v1::QatJobSpec* spec) const;

 private:
  std::vector<Edit> removals_, edits_;
};

// Flags for the fields of QatJobSpec that a person sets, but base and data.
// Ranges are the server's to check. `edits` must outlive the parse.
void AddJobSpecFlags(const Command& app, SpecEdits* edits);

}  // namespace pot

#endif  // POT_CLIENT_JOB_SPEC_FLAGS_H_
