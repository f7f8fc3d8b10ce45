// The calls that the sections make of a server.
#ifndef POT_TESTS_BENCH_BENCH_CLIENT_H_
#define POT_TESTS_BENCH_BENCH_CLIENT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pot/v1/model.pb.h"
#include "pot/v1/qat_job.pb.h"

namespace pot {

class BenchClient {
 public:
  explicit BenchClient(const std::string& address);
  ~BenchClient();
  BenchClient(const BenchClient&) = delete;
  BenchClient& operator=(const BenchClient&) = delete;

  // Likeliest tokens of "gpt2", one message each, after a prompt of
  // `prompt_tokens`, each time another one, so that the server has no part of
  // it cached. The seconds from one message to the next, the first from the
  // call. Any number of threads may call it.
  absl::StatusOr<std::vector<double>> Stream(int64_t prompt_tokens,
                                             int64_t new_tokens);

  // Once the server has loaded it.
  absl::StatusOr<v1::ModelVersion> WaitForModel(const std::string& name);

  // Submits the job with `text` as its training data; gives its id.
  absl::StatusOr<std::string> SubmitQat(v1::QatJobSpec spec,
                                        const std::string& text);
  absl::StatusOr<v1::QatJob> GetJob(const std::string& id);
  absl::Status CancelJob(const std::string& id);

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace pot

#endif  // POT_TESTS_BENCH_BENCH_CLIENT_H_
