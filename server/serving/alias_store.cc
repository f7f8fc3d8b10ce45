#include "server/serving/alias_store.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/base/characters.h"
#include "engine/base/file.h"
#include "engine/base/quote.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/version_store.h"
#include "server/serving/alias_record.h"
#include "server/serving/append_file.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

constexpr size_t kMaxAlias = 64;

void Apply(const AliasChange& change, std::map<std::string, int64_t>* targets) {
  if (change.to_version == 0) {
    targets->erase(change.alias);
  } else {
    (*targets)[change.alias] = change.to_version;
  }
}

absl::Status Corrupt(absl::string_view message) {
  return WithDetails(absl::DataLossError(message),
                     {.reason = "CORRUPT_CHECKPOINT"});
}

absl::Status CheckTarget(absl::string_view model, absl::string_view alias,
                         int64_t target, std::optional<int64_t> expected) {
  if (!expected.has_value() || *expected == target) return absl::OkStatus();
  return WithDetails(
      absl::AbortedError(absl::StrCat(
          "alias ", alias, " of model ", model, " names version ", target,
          ", not ", *expected, "; 0 stands for an alias that does not exist")),
      {.reason = "ALIAS_MISMATCH",
       .metadata = {{"limit", absl::StrCat(*expected)},
                    {"value", absl::StrCat(target)}}});
}

}  // namespace

absl::Status ValidateAlias(absl::string_view alias) {
  const bool valid =
      IsName(alias, kMaxAlias) &&
      !std::all_of(alias.begin(), alias.end(), absl::ascii_isdigit);
  if (valid) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "alias ", Quote(alias), " must be 1 to ", kMaxAlias,
      " of [A-Za-z0-9._-], begin with a letter or a digit and not be digits "
      "alone"));
}

std::string AliasStore::Path(absl::string_view model) const {
  return absl::StrCat(root_, "/", model, "/aliases.jsonl");
}

absl::StatusOr<AliasStore::File*> AliasStore::ReadLocked(
    absl::string_view model) {
  POT_RETURN_IF_ERROR(ValidateModelName(model));
  const auto known = files_.find(model);
  if (known != files_.end()) return &known->second;

  const std::string path = Path(model);
  absl::StatusOr<std::string> text = ReadFile(path, kMaxFileBytes);
  if (absl::IsNotFound(text.status())) text = std::string();
  if (!text.ok()) return Corrupt(text.status().message());
  File file;
  absl::string_view rest = *text;
  for (size_t end = rest.find('\n'); end != absl::string_view::npos;
       end = rest.find('\n')) {
    const std::string what =
        absl::StrCat(path, ": line ", file.changes.size() + 1);
    auto change = ParseAliasChange(rest.substr(0, end), what);
    if (!change.ok()) return Corrupt(change.status().message());
    const int64_t last =
        file.changes.empty() ? 0 : file.changes.back().sequence;
    if (change->sequence != last + 1) {
      return Corrupt(absl::StrCat(what, ": sequence ", change->sequence,
                                  " must be ", last + 1));
    }
    change->model = std::string(model);
    pot::Apply(*change, &file.targets);
    file.changes.push_back(*std::move(change));
    rest.remove_prefix(end + 1);
    file.bytes += static_cast<int64_t>(end) + 1;
  }
  return &files_.emplace(std::string(model), std::move(file)).first->second;
}

absl::StatusOr<std::map<std::string, int64_t>> AliasStore::Aliases(
    absl::string_view model) {
  MutexLock lock(&mutex_);
  POT_ASSIGN_OR_RETURN(const File* file, ReadLocked(model));
  return file->targets;
}

absl::Status AliasStore::CheckExpected(absl::string_view model,
                                       absl::string_view alias,
                                       std::optional<int64_t> expected) {
  MutexLock lock(&mutex_);
  POT_ASSIGN_OR_RETURN(const File* file, ReadLocked(model));
  const auto present = file->targets.find(std::string(alias));
  return CheckTarget(model, alias,
                     present == file->targets.end() ? 0 : present->second,
                     expected);
}

absl::StatusOr<AliasChange> AliasStore::Apply(AliasChange change,
                                              std::optional<int64_t> expected) {
  POT_RETURN_IF_ERROR(ValidateAlias(change.alias));
  if (change.to_version < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "version ", change.to_version, " of an alias must be at least 0"));
  }
  MutexLock lock(&mutex_);
  POT_ASSIGN_OR_RETURN(File * file, ReadLocked(change.model));
  const auto present = file->targets.find(change.alias);
  const bool exists = present != file->targets.end();
  change.from_version = exists ? present->second : 0;
  POT_RETURN_IF_ERROR(
      CheckTarget(change.model, change.alias, change.from_version, expected));
  if (!exists && change.to_version == 0) {
    return WithDetails(
        absl::NotFoundError(absl::StrCat("model ", change.model,
                                         " has no alias ", change.alias)),
        {.reason = "ALIAS_NOT_FOUND", .metadata = {{"value", change.alias}}});
  }
  change.sequence = static_cast<int64_t>(file->changes.size()) + 1;
  const std::string line = AliasChangeToJson(change) + "\n";
  const int64_t bytes = file->bytes + static_cast<int64_t>(line.size());
  if (bytes > kMaxFileBytes) {
    return WithDetails(
        absl::ResourceExhaustedError(absl::StrCat(
            "the history of aliases of model ", change.model, " would have ",
            bytes, " bytes; the limit is ", kMaxFileBytes)),
        {.reason = "DISK_BUDGET",
         .metadata = {{"limit", absl::StrCat(kMaxFileBytes)},
                      {"value", absl::StrCat(bytes)}}});
  }
  POT_RETURN_IF_ERROR(AppendSynced(Path(change.model), file->bytes, line));
  // As it will be read again.
  POT_ASSIGN_OR_RETURN(AliasChange stored,
                       ParseAliasChange(AliasChangeToJson(change), "alias"));
  stored.model = change.model;
  file->bytes = bytes;
  pot::Apply(stored, &file->targets);
  file->changes.push_back(stored);
  return stored;
}

absl::StatusOr<std::vector<AliasChange>> AliasStore::History(
    absl::string_view model, absl::string_view alias, int64_t limit) {
  MutexLock lock(&mutex_);
  POT_ASSIGN_OR_RETURN(const File* file, ReadLocked(model));
  std::vector<AliasChange> newest;
  for (auto change = file->changes.rbegin();
       change != file->changes.rend() && newest.size() < limit; ++change) {
    if (alias.empty() || change->alias == alias) newest.push_back(*change);
  }
  return newest;
}

}  // namespace pot
