// Tokens that took long to make, kept in a directory.
#ifndef POT_TRAINER_DATA_TOKEN_CACHE_H_
#define POT_TRAINER_DATA_TOKEN_CACHE_H_

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "trainer/data/token_corpus.h"

namespace pot {

// The corpus that `directory` (made when absent) holds under `key`, else what
// `make` returns, stored under it. A damaged file is replaced. The file's name
// is `<SHA-256 of the key>.tokens`.
absl::StatusOr<TokenCorpus> CachedTokens(
    const std::string& directory, absl::string_view key, int64_t vocab_size,
    absl::FunctionRef<absl::StatusOr<TokenCorpus>()> make);

}  // namespace pot

#endif  // POT_TRAINER_DATA_TOKEN_CACHE_H_
