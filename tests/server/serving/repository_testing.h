// A model repository in a temporary directory, filled with tiny-bpe.
#ifndef POT_TESTS_SERVER_SERVING_REPOSITORY_TESTING_H_
#define POT_TESTS_SERVER_SERVING_REPOSITORY_TESTING_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "server/serving/model_repository.h"
#include "tests/engine/gpt2/model_testing.h"

namespace pot {

// ErrorDetails::reason; empty without details.
std::string Reason(const absl::Status& status);
// ErrorDetails::metadata[key].
std::string Metadata(const absl::Status& status, const std::string& key);

class RepositoryForTest {
 public:
  // <temp>/root, and <temp>/import as import root.
  RepositoryForTest();

  const std::string& root() const { return root_; }
  const std::string& import_root() const { return import_root_; }
  std::string File(const std::string& model, int64_t version,
                   const std::string& name) const;

  // Publish tiny-bpe the way another process would.
  int64_t AddFloat(const std::string& model);
  int64_t AddPot(const std::string& model, const std::string& format);

  ModelRepositoryOptions Options() const;
  // Aborts on an error.
  std::unique_ptr<ModelRepository> Open() const;

 private:
  TempDirectory directory_;
  std::string root_;
  std::string import_root_;
};

// Flips one bit of the file's byte at `offset`.
void FlipBit(const std::string& path, int64_t offset);

}  // namespace pot

#endif  // POT_TESTS_SERVER_SERVING_REPOSITORY_TESTING_H_
