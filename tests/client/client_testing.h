// Runs pot-client inside the test, with its streams in memory.
#ifndef POT_TESTS_CLIENT_CLIENT_TESTING_H_
#define POT_TESTS_CLIENT_CLIENT_TESTING_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/interrupter.h"

namespace pot {

struct ClientRun {
  int exit_code = 0;
  std::string out;
  std::string err;
};

struct ClientInput {
  std::string in = {};
  // Standard input is a pipe, not a file.
  bool in_is_pipe = false;
  // Nobody reads standard output.
  bool out_is_closed = false;
  // Standard error is a terminal of this width; 0: it is none.
  int err_columns = 0;
  std::map<std::string, std::string> environment = {};
  // Runs beside the client, e.g. to interrupt it; `out_bytes` tells how much
  // the client has written to standard output.
  std::function<void(Interrupter*, const std::function<int64_t()>& out_bytes)>
      beside = {};
  absl::Time now = absl::FromUnixSeconds(1'800'000'000);
};

ClientRun RunPotClient(const std::vector<std::string>& arguments,
                       const ClientInput& input = {});

}  // namespace pot

#endif  // POT_TESTS_CLIENT_CLIENT_TESTING_H_
