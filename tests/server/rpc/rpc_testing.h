// What the tests of the services share: the tiny model, and errors as text.
#ifndef POT_TESTS_SERVER_RPC_RPC_TESTING_H_
#define POT_TESTS_SERVER_RPC_RPC_TESTING_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/kernels/kernel_table.h"
#include "engine/loaded_model.h"
#include "gtest/gtest.h"
#include "server/serving/error_details.h"
#include "test_paths.h"

namespace pot {

// 3 layers, 64 positions, 300 tokens of which 299 is <|endoftext|>.
inline std::string TinyModelDirectory() {
  return std::string(POT_SOURCE_DIR) + "/tests/testdata/tiny-bpe";
}

inline std::shared_ptr<const LoadedModel> LoadTinyModel() {
  LoadOptions options;
  options.kernels = FindKernelTable("scalar").value();
  auto model = LoadModel(TinyModelDirectory(), {"tiny", 1, "digest"}, options);
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *model : nullptr;
}

// "INVALID_ARGUMENT INVALID_FIELD sampling.n limit=[1, 16] value=0: <message>"
inline std::string Describe(const absl::Status& status) {
  const ErrorDetails details = GetDetails(status).value_or(ErrorDetails());
  std::string text = absl::StrCat(absl::StatusCodeToString(status.code()), " ",
                                  details.reason, " ", details.field);
  for (const auto& [key, value] : details.metadata) {
    absl::StrAppend(&text, " ", key, "=", value);
  }
  return absl::StrCat(text, ": ", status.message());
}

}  // namespace pot

#endif  // POT_TESTS_SERVER_RPC_RPC_TESTING_H_
