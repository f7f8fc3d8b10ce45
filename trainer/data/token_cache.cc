#include "trainer/data/token_cache.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"

namespace pot {

absl::StatusOr<TokenCorpus> CachedTokens(
    const std::string& directory, absl::string_view key, int64_t vocab_size,
    absl::FunctionRef<absl::StatusOr<TokenCorpus>()> make) {
  const std::string name =
      Sha256Hex({reinterpret_cast<const uint8_t*>(key.data()), key.size()});
  const std::string path = absl::StrCat(directory, "/", name, ".tokens");
  absl::StatusOr<TokenCorpus> cached = TokenCorpus::Load(path, key, vocab_size);
  if (cached.ok()) return cached;
  POT_ASSIGN_OR_RETURN(TokenCorpus corpus, make());
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return absl::UnavailableError(absl::StrCat(
        "cannot create the cache '", directory, "': ", error.message()));
  }
  POT_RETURN_IF_ERROR(corpus.Save(path, key));
  return corpus;
}

}  // namespace pot
