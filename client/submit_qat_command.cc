#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "client/commands.h"
#include "client/dataset_upload.h"
#include "client/enum_names.h"
#include "client/job_calls.h"
#include "client/job_report.h"
#include "client/job_spec_file.h"
#include "client/job_spec_flags.h"
#include "client/job_watch.h"
#include "client/model_ref.h"
#include "client/text_format.h"
#include "engine/base/status_macros.h"
#include "grpcpp/grpcpp.h"
#include "pot/v1/model.grpc.pb.h"

namespace pot {
namespace {

constexpr char kSelf[] = "self";
constexpr char kDigestPrefix[] = "sha256:";
constexpr char kDefaultFormat[] = "pot4";
// DatasetList's limit.
constexpr size_t kMaxDatasets = 64;

struct Flags {
  std::string config;
  std::string base;
  std::vector<std::string> train;
  std::string validation;
  std::optional<double> holdout_ratio;
  v1::SelfGeneratedData self;
  SpecEdits edits;
  std::string idempotency_key;
  bool dry_run = false;
  bool watch = false;
};

// 128 random bits: unique without asking anybody.
std::string MakeIdempotencyKey() {
  std::random_device random;
  std::string key = "qat-";
  for (int i = 0; i < 4; ++i) absl::StrAppendFormat(&key, "%08x", random());
  return key;
}

// Uploads each file once and knows its digest then.
class Datasets {
 public:
  explicit Datasets(Session* session) : session_(session) {}

  absl::StatusOr<std::string> DigestOf(const std::string& argument) {
    absl::string_view digest = argument;
    if (absl::ConsumePrefix(&digest, kDigestPrefix)) {
      return std::string(digest);
    }
    const auto known = digests_.find(argument);
    if (known != digests_.end()) return known->second;
    POT_ASSIGN_OR_RETURN(const UploadedDataset dataset,
                         UploadDataset(session_, argument));
    session_->console().WriteError(absl::StrCat(FormatUpload(dataset), "\n"));
    digests_[argument] = dataset.sha256;
    return dataset.sha256;
  }

 private:
  Session* const session_;
  std::map<std::string, std::string> digests_;
};

absl::Status CheckData(const Flags& flags, const v1::QatJobSpec& spec) {
  const bool self = std::find(flags.train.begin(), flags.train.end(), kSelf) !=
                    flags.train.end();
  if (self && flags.train.size() > 1) {
    return absl::InvalidArgumentError(
        "--train self cannot have files beside it (a file of that name is "
        "./self)");
  }
  if (flags.train.empty() &&
      spec.data().source_case() == v1::TrainingData::SOURCE_NOT_SET) {
    return absl::InvalidArgumentError(
        "no text to train on: --train FILE, or --train self");
  }
  if (flags.train.size() > kMaxDatasets) {
    return absl::InvalidArgumentError(
        absl::StrCat("--train has ", flags.train.size(),
                     " files; a job has at most ", kMaxDatasets));
  }
  const bool trains_on_self =
      flags.train.empty() ? spec.data().has_self_generated() : self;
  if (!trains_on_self && flags.self.ByteSizeLong() > 0) {
    return absl::InvalidArgumentError(
        "--self-tokens, --self-temperature and --self-greedy-prefix need "
        "--train self");
  }
  return absl::OkStatus();
}

absl::Status FillData(Session* session, const Flags& flags,
                      v1::TrainingData* data) {
  Datasets datasets(session);
  if (!flags.train.empty()) data->clear_source();
  if (flags.train == std::vector<std::string>{kSelf}) {
    data->mutable_self_generated();
  } else {
    for (const std::string& argument : flags.train) {
      POT_ASSIGN_OR_RETURN(*data->mutable_datasets()->add_sha256(),
                           datasets.DigestOf(argument));
    }
  }
  if (data->has_self_generated()) {
    data->mutable_self_generated()->MergeFrom(flags.self);
  }
  if (flags.holdout_ratio.has_value()) {
    data->set_holdout_ratio(*flags.holdout_ratio);
    data->clear_validation_sha256();
  }
  if (!flags.validation.empty()) {
    POT_ASSIGN_OR_RETURN(*data->mutable_validation_sha256(),
                         datasets.DigestOf(flags.validation));
    data->clear_holdout_ratio();
  }
  const auto& digests = data->datasets().sha256();
  if (std::find(digests.begin(), digests.end(), data->validation_sha256()) !=
      digests.end()) {
    session->console().WriteError(
        "pot-client: warning: the validation text is trained on, too; its "
        "perplexity will not show overfitting\n");
  }
  return absl::OkStatus();
}

// A name alone means the default version, which most often is a quantized one;
// what is trained then is the floating-point version that it was made from, or
// the only one there is.
absl::Status ChooseFloatVersion(Session* session, v1::ModelRef* base) {
  if (base->selector_case() != v1::ModelRef::SELECTOR_NOT_SET) {
    return absl::OkStatus();
  }
  v1::ListModelsRequest request;
  request.set_name(base->name());
  v1::ListModelsResponse response;
  Call call(session->connection());
  POT_RETURN_IF_ERROR(
      call.ToStatus(v1::ModelService::NewStub(session->connection().channel())
                        ->ListModels(call.context(), request, &response)));
  std::string origin;
  std::vector<const v1::ModelVersion*> floats;
  for (const v1::ModelVersion& version : response.versions()) {
    const auto& aliases = version.aliases();
    const bool is_default =
        std::find(aliases.begin(), aliases.end(), "default") != aliases.end();
    const bool is_float = version.quantization().format() == "f32";
    if (is_default && is_float) return absl::OkStatus();
    if (is_default) origin = version.base_digest();
    if (is_float) floats.push_back(&version);
  }
  const v1::ModelVersion* chosen = floats.size() == 1 ? floats[0] : nullptr;
  for (const v1::ModelVersion* const version : floats) {
    if (!origin.empty() && version->digest() == origin) chosen = version;
  }
  // The server says what is wrong.
  if (chosen == nullptr) return absl::OkStatus();
  base->set_version(chosen->version());
  session->console().WriteError(absl::StrCat("base ", FormatModelRef(*base),
                                             ", the floating-point version\n"));
  return absl::OkStatus();
}

absl::StatusOr<v1::QatJobSpec> MakeSpec(Session* session, const Flags& flags) {
  v1::QatJobSpec spec;
  if (!flags.config.empty()) {
    POT_ASSIGN_OR_RETURN(spec, ReadJobSpec(flags.config));
  }
  flags.edits.Apply(&spec);
  if (!flags.base.empty()) {
    POT_ASSIGN_OR_RETURN(*spec.mutable_base(), ParseModelRef(flags.base));
  }
  if (spec.base().name().empty()) {
    return absl::InvalidArgumentError(
        "no model to train: --base NAME, NAME@VERSION or NAME@ALIAS");
  }
  if (spec.quantization().format().empty()) {
    spec.mutable_quantization()->set_format(kDefaultFormat);
  }
  POT_RETURN_IF_ERROR(CheckData(flags, spec));
  POT_RETURN_IF_ERROR(FillData(session, flags, spec.mutable_data()));
  POT_RETURN_IF_ERROR(ChooseFloatVersion(session, spec.mutable_base()));
  return spec;
}

// The server may have accepted the job all the same.
bool MayBeAccepted(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsCancelled(status) || absl::IsUnknown(status);
}

absl::Status WriteDryRun(Session* session,
                         const v1::SubmitQatResponse& response) {
  session->console().WriteError("dry run: nothing is queued\n");
  if (!session->text_output()) return WriteJson(session, response);
  return session->console().Write(
      absl::StrCat(FormatJob(response.job(), /*all_fields=*/true), "\n",
                   FormatEstimate(response.estimate())));
}

absl::Status WriteAccepted(Session* session, const Flags& flags,
                           const v1::SubmitQatResponse& response) {
  const v1::QatJob& job = response.job();
  if (response.existing()) {
    session->console().WriteError(
        "the idempotency key found this job; nothing new is queued\n");
  }
  if (flags.watch) {
    if (!session->text_output()) return absl::OkStatus();
    return session->console().Write(
        absl::StrCat("job ", Printable(job.job_id()), ": ",
                     FormatEstimateLine(response.estimate()), "\n"));
  }
  if (!session->text_output()) return WriteJson(session, response);
  // The id alone is the data, for $(...).
  POT_RETURN_IF_ERROR(
      session->console().Write(absl::StrCat(Printable(job.job_id()), "\n")));
  session->console().WriteError(absl::StrCat(
      JobStateName(job.state()), ": ", FormatEstimateLine(response.estimate()),
      "; watch it with: ", WatchCommand(session, job.job_id()), "\n"));
  return absl::OkStatus();
}

absl::Status Submit(Session* session, const Flags& flags) {
  v1::SubmitQatRequest request;
  POT_ASSIGN_OR_RETURN(*request.mutable_spec(), MakeSpec(session, flags));
  request.set_dry_run(flags.dry_run);
  if (!flags.dry_run) {
    request.set_idempotency_key(flags.idempotency_key.empty()
                                    ? MakeIdempotencyKey()
                                    : flags.idempotency_key);
  }
  const std::string& key = request.idempotency_key();
  if (!flags.dry_run && flags.idempotency_key.empty()) {
    session->console().WriteError(absl::StrCat("idempotency key ", key, "\n"));
  }
  v1::SubmitQatResponse response;
  Call call(session->connection());
  const absl::Status status = call.ToStatus(
      TrainingStub(session)->SubmitQat(call.context(), request, &response));
  if (!flags.dry_run && MayBeAccepted(status)) {
    session->console().WriteError(
        absl::StrCat("pot-client: the job may be queued; the same command with "
                     "--idempotency-key ",
                     Printable(key), " finds it or queues it once\n"));
  }
  POT_RETURN_IF_ERROR(status);
  if (flags.dry_run) return WriteDryRun(session, response);
  POT_RETURN_IF_ERROR(WriteAccepted(session, flags, response));
  if (!flags.watch) return absl::OkStatus();
  return WatchJob(session, response.job().job_id(), /*after_sequence=*/0);
}

void AddDataFlags(const Command& command, const std::shared_ptr<Flags>& flags) {
  command.SetFlagGroup("Data");
  command
      .AddListFlag(
          "--train",
          [flags](const std::vector<std::string>& values) {
            flags->train = values;
            return absl::OkStatus();
          },
          "UTF-8 texts, trained on as one; '-' is standard input, "
          "sha256:DIGEST "
          "one that the server has, 'self' what the base writes itself")
      .TakesMany()
      .TypeName("FILE");
  const Flag validation = AddValueFlag<std::string>(
      command, "--val",
      [flags](const std::string& v) { flags->validation = v; },
      "Text to evaluate on [the last part of the training text]");
  validation.TypeName("FILE");
  AddValueFlag<double>(
      command, "--holdout-ratio",
      [flags](double v) { flags->holdout_ratio = v; },
      "Share of the training text for that [0.1]")
      .Excludes(validation);
  AddValueFlag<int64_t>(
      command, "--self-tokens",
      [flags](int64_t v) { flags->self.set_tokens(v); },
      "Tokens that the base writes for --train self [1048576]");
  AddValueFlag<double>(
      command, "--self-temperature",
      [flags](double v) { flags->self.set_temperature(v); },
      "Of that text [1]");
  AddValueFlag<int32_t>(
      command, "--self-greedy-prefix",
      [flags](int32_t v) { flags->self.set_greedy_prefix_tokens(v); },
      "Tokens of each sequence drawn greedily after a random one [4]");
  command.SetFlagGroup("Options");
}

}  // namespace

void AddSubmitQatCommand(const Command& app, CommandFunction* selected) {
  auto flags = std::make_shared<Flags>();
  const Command command = app.AddCommand(
      "submit-qat", "Train a quantized version of a model and publish it");
  AddValueFlag<std::string>(
      command, "--base", [flags](const std::string& v) { flags->base = v; },
      "What to train: NAME, NAME@VERSION, NAME@ALIAS or NAME@sha256:DIGEST")
      .TypeName("MODEL");
  AddValueFlag<std::string>(
      command, "--config", [flags](const std::string& v) { flags->config = v; },
      "The job as JSON of the API's QatJobSpec; flags win over it")
      .TypeName("FILE");
  command.AddSwitch("--watch", &flags->watch,
                    "Show the job until it ends; Ctrl-C leaves it alone");
  command.AddSwitch("--dry-run", &flags->dry_run,
                    "Check and estimate, but queue nothing");
  AddValueFlag<std::string>(
      command, "--idempotency-key",
      [flags](const std::string& v) { flags->idempotency_key = v; },
      "Name of this submission: repeated, it finds the job [random]");
  AddDataFlags(command, flags);
  AddJobSpecFlags(command, &flags->edits);
  command.OnSelected([flags, selected] {
    *selected = [flags](Session* session) { return Submit(session, *flags); };
  });
}

}  // namespace pot
