#include "trainer/worker/job_inputs.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/quote.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "engine/base/thread_pool.h"
#include "engine/checkpoint/directory.h"
#include "engine/gpt2/engine_version.h"
#include "engine/gpt2/float_model.h"
#include "engine/gpt2/model_files.h"
#include "trainer/training/sample_training_text.h"
#include "trainer/worker/file_transfer.h"
#include "trainer/worker/lease_keeper.h"
#include "trainer/worker/work_directory.h"
#include "trainer/worker/worker_service.h"

namespace pot {
namespace {

using StoredFiles = google::protobuf::RepeatedPtrField<v1::StoredFile>;

constexpr int kMaxFiles = 1024;

// All input files into the cache.
absl::Status FetchInputs(const JobContext& context, const v1::Lease& lease) {
  std::vector<std::pair<FetchKind, v1::StoredFile>> files;
  for (const v1::StoredFile& file : lease.base_files()) {
    files.emplace_back(FetchKind::kBase, file);
  }
  for (const v1::StoredFile& file : lease.teacher_files()) {
    files.emplace_back(FetchKind::kBase, file);
  }
  for (const v1::StoredFile& file : lease.datasets()) {
    files.emplace_back(FetchKind::kDataset, file);
  }
  if (lease.has_validation()) {
    files.emplace_back(FetchKind::kDataset, lease.validation());
  }
  if (files.size() > kMaxFiles) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the lease has ", files.size(), " files; the limit is ", kMaxFiles));
  }
  std::set<std::string> digests;
  std::vector<std::pair<FetchKind, v1::StoredFile>> missing;
  int64_t bytes = 0;
  for (const auto& [kind, file] : files) {
    // A path is made of it.
    if (!IsSha256Hex(file.sha256())) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the lease has a file with the digest ", Quote(file.sha256())));
    }
    if (!digests.insert(file.sha256()).second ||
        context.work->HasCached(file)) {
      continue;
    }
    missing.emplace_back(kind, file);
    if (file.size_bytes() < 0 ||
        __builtin_add_overflow(bytes, file.size_bytes(), &bytes)) {
      return absl::InvalidArgumentError(absl::StrCat("the lease has a file of ",
                                                     file.size_bytes(),
                                                     " bytes after ", bytes));
    }
  }
  POT_RETURN_IF_ERROR(context.work->MakeRoom(bytes, digests));
  for (const auto& [kind, file] : missing) {
    POT_RETURN_IF_ERROR(FetchFile(context.service, context.keeper, kind, file,
                                  context.work->CachePath(file.sha256())));
  }
  context.keeper->Log(
      v1::LOG_SEVERITY_INFO,
      absl::StrCat("input: ", digests.size(), " files, ", missing.size(),
                   " of them fetched, ", bytes, " bytes"));
  return absl::OkStatus();
}

// A model's directory of links into the cache.
absl::Status LinkModel(const WorkDirectory& work, const StoredFiles& files,
                       const std::string& directory) {
  POT_RETURN_IF_ERROR(RemoveTree(directory));
  POT_RETURN_IF_ERROR(MakeDirectory(directory).status());
  for (const v1::StoredFile& file : files) {
    if (!IsPlainName(file.path())) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the lease has a model file named ", Quote(file.path())));
    }
    const std::string to = absl::StrCat(directory, "/", file.path());
    if (link(work.CachePath(file.sha256()).c_str(), to.c_str()) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot link ", to));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadTeacher(const JobContext& context, const v1::Lease& lease,
                         const std::string& job, JobInputs* inputs) {
  if (inputs->options.training.loss.distillation_weight == 0) {
    return absl::OkStatus();
  }
  std::string directory = inputs->base_directory;
  if (!lease.teacher_files().empty()) {
    directory = job + "/teacher";
    POT_RETURN_IF_ERROR(
        LinkModel(*context.work, lease.teacher_files(), directory));
  }
  POT_ASSIGN_OR_RETURN(const Gpt2Config config, ReadGpt2Config(directory));
  auto layout = std::make_unique<const ParameterLayout>(config);
  inputs->teacher_parameters.resize(layout->size());
  POT_RETURN_IF_ERROR(
      layout->Read(directory, absl::MakeSpan(inputs->teacher_parameters)));
  inputs->teacher_layout = std::move(layout);
  return absl::OkStatus();
}

// True while the job is to go on.
bool GoesOn(const JobContext& context) {
  return context.keeper->command() < JobCommand::kPause;
}

absl::StatusOr<TokenCorpus> Tokenize(const JobContext& context,
                                     const std::string& text, TextSlice slice,
                                     const Tokenizer& tokenizer,
                                     ThreadPool* pool) {
  CorpusOptions options;
  options.slice = slice;
  options.pool = pool;
  options.progress = [&context](int64_t, int64_t) { return GoesOn(context); };
  return TokenizeText(text, tokenizer, options);
}

// Data sets are named by their digests, as their submitter knows them.
absl::StatusOr<std::string> ReadDatasets(const WorkDirectory& work,
                                         const StoredFiles& files) {
  std::vector<std::string> paths;
  for (const v1::StoredFile& file : files) {
    paths.push_back(work.CachePath(file.sha256()));
  }
  return ReadTexts(paths);
}

// Tokens [begin, end).
absl::StatusOr<TokenCorpus> Part(const TokenCorpus& corpus, int64_t begin,
                                 int64_t end) {
  TokenCorpus part(corpus.vocab_size());
  std::vector<int32_t> tokens;
  while (begin < end) {
    tokens.resize(std::min<int64_t>(end - begin, 65536));
    corpus.Copy(begin, absl::MakeSpan(tokens));
    POT_RETURN_IF_ERROR(part.Append(tokens));
    begin += static_cast<int64_t>(tokens.size());
  }
  return part;
}

absl::Status MakeSelfText(const JobContext& context, const v1::Lease& lease,
                          const std::string& directory, JobInputs* inputs) {
  context.keeper->Log(v1::LOG_SEVERITY_INFO,
                      "sampling the training text from the base");
  const SelfTextOptions& options = *inputs->options.self_text;
  std::string digest;
  for (const v1::StoredFile& file : lease.base_files()) {
    absl::StrAppend(&digest, file.sha256(), " ");
  }
  POT_ASSIGN_OR_RETURN(
      TokenCorpus text,
      SampleTrainingText(
          directory + "/base", options, context.threads,
          directory + "/self_text", digest,
          [&context](int64_t, int64_t) { return GoesOn(context); }));
  if (lease.has_validation()) {
    inputs->train = std::move(text);
    return absl::OkStatus();
  }
  // Whole sequences, at least one for each.
  const int64_t sequences = text.size() / options.sequence_tokens;
  if (sequences < 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "spec.data.self_generated.tokens make ", sequences, " sequences of ",
        options.sequence_tokens,
        " tokens; to hold some out for evaluation, at least 2 are needed"));
  }
  const auto held_out = static_cast<int64_t>(inputs->options.holdout_ratio *
                                             static_cast<double>(sequences));
  const int64_t cut =
      (sequences - std::max<int64_t>(1, held_out)) * options.sequence_tokens;
  POT_ASSIGN_OR_RETURN(inputs->train, Part(text, 0, cut));
  POT_ASSIGN_OR_RETURN(inputs->validation, Part(text, cut, text.size()));
  return absl::OkStatus();
}

absl::Status MakeCorpora(const JobContext& context, const v1::Lease& lease,
                         const std::string& directory,
                         const Tokenizer& tokenizer, JobInputs* inputs) {
  ThreadPool pool(context.threads);
  if (inputs->options.self_text.has_value()) {
    POT_RETURN_IF_ERROR(MakeSelfText(context, lease, directory, inputs));
  } else {
    POT_ASSIGN_OR_RETURN(const std::string text,
                         ReadDatasets(*context.work, lease.datasets()));
    const double cut =
        lease.has_validation() ? 1 : 1 - inputs->options.holdout_ratio;
    POT_ASSIGN_OR_RETURN(inputs->train,
                         Tokenize(context, text, {0, cut}, tokenizer, &pool));
    if (!lease.has_validation()) {
      POT_ASSIGN_OR_RETURN(inputs->validation,
                           Tokenize(context, text, {cut, 1}, tokenizer, &pool));
    }
  }
  if (lease.has_validation()) {
    StoredFiles files;
    *files.Add() = lease.validation();
    POT_ASSIGN_OR_RETURN(const std::string text,
                         ReadDatasets(*context.work, files));
    POT_ASSIGN_OR_RETURN(
        inputs->validation,
        Tokenize(context, text, TextSlice(), tokenizer, &pool));
  }
  const int64_t max_tokens = inputs->options.loop.evaluation_tokens;
  const int64_t size = inputs->validation.size();
  const int64_t used = max_tokens < 0 ? size : std::min(max_tokens, size);
  if (used < 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the validation text has ", used,
        " tokens; an evaluation needs at least 2: give more text, or a greater "
        "spec.data.holdout_ratio"));
  }
  std::vector<int32_t> tokens;
  for (int64_t begin = 1; begin < used;) {
    tokens.resize(std::min<int64_t>(used - begin, 65536));
    inputs->validation.Copy(begin, absl::MakeSpan(tokens));
    for (const int32_t token : tokens) {
      inputs->validation_bytes +=
          static_cast<int64_t>(tokenizer.TokenBytes(token).size());
    }
    begin += static_cast<int64_t>(tokens.size());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<JobInputs>> PrepareJob(
    const JobContext& context, const v1::Lease& lease,
    const std::string& directory) {
  POT_RETURN_IF_ERROR(FetchInputs(context, lease));
  auto inputs = std::make_unique<JobInputs>();
  const std::string base = directory + "/base";
  inputs->base_directory = base;
  POT_RETURN_IF_ERROR(LinkModel(*context.work, lease.base_files(), base));
  POT_ASSIGN_OR_RETURN(const FloatModel model, FloatModel::Open(base));
  POT_ASSIGN_OR_RETURN(inputs->provenance.base_sha256, model.source().Digest());
  inputs->layout = std::make_unique<const ParameterLayout>(model.config());
  inputs->provenance.quantizer = "qat";
  inputs->provenance.tool_version = kEngineVersion;
  POT_ASSIGN_OR_RETURN(inputs->model_files, ReadModelFiles(base));
  POT_ASSIGN_OR_RETURN(inputs->options,
                       JobOptionsOf(lease.spec(), model.config()));
  POT_ASSIGN_OR_RETURN(const auto tokenizer,
                       LoadTokenizer(base, model.config()));
  POT_RETURN_IF_ERROR(
      MakeCorpora(context, lease, directory, *tokenizer, inputs.get()));
  POT_RETURN_IF_ERROR(ReadTeacher(context, lease, directory, inputs.get()));
  context.keeper->Log(
      v1::LOG_SEVERITY_INFO,
      absl::StrCat(model.config().num_parameters(), " parameters, ",
                   inputs->train.size(), " tokens to train on, ",
                   inputs->validation.size(), " for validation, ",
                   inputs->options.training.precision == Precision::kBf16
                       ? "bf16"
                       : "f32",
                   ", ", context.threads, " threads"));
  return inputs;
}

}  // namespace pot
