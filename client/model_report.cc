#include "client/model_report.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/enum_names.h"
#include "client/table.h"
#include "client/text_format.h"

namespace pot {
namespace {

constexpr auto kRight = Table::Align::kRight;

std::string UtcTime(const google::protobuf::Timestamp& time,
                    const char* format) {
  return absl::FormatTime(format, ToTime(time), absl::UTCTimeZone());
}

std::string VersionName(const v1::ModelVersion& version) {
  return absl::StrCat(Printable(version.name()), "@", version.version());
}

std::string VersionOrNone(int64_t version) {
  return version == 0 ? "none" : absl::StrCat(version);
}

}  // namespace

std::string FormatName(const v1::Quantization& quantization) {
  std::string name = quantization.format();
  if (!quantization.granularity().empty() && name != "f32") {
    absl::StrAppend(&name, " ", quantization.granularity());
  }
  if (!quantization.embedding_format().empty() &&
      quantization.embedding_format() != quantization.format()) {
    absl::StrAppend(&name, ", embedding ", quantization.embedding_format());
  }
  return name.empty() ? "-" : Printable(name);
}

std::string FormatWeights(const v1::ModelVersion& version) {
  const std::string floats = FormatBytes(version.fp32_bytes());
  if (version.resident_bytes() <= 0) {
    return absl::StrCat("not in memory, ", floats, " as fp32");
  }
  const std::string saving =
      FormatSaving(version.resident_bytes(), version.fp32_bytes());
  return absl::StrCat(FormatBytes(version.resident_bytes()), " in memory, ",
                      saving == "same"
                          ? "the same as fp32"
                          : absl::StrCat(saving, " than fp32 (", floats, ")"));
}

absl::Time ToTime(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) +
         absl::Nanoseconds(time.nanos());
}

std::string FormatModelTable(
    const google::protobuf::RepeatedPtrField<v1::ModelVersion>& versions,
    absl::Time now) {
  Table table({{"model"},
               {"version", kRight},
               {"state"},
               {"format"},
               {"weights", kRight},
               {"vs fp32", kRight},
               {"aliases"},
               {"age", kRight}});
  for (const v1::ModelVersion& version : versions) {
    table.AddRow({Printable(version.name()), absl::StrCat(version.version()),
                  StateName(version.state()),
                  FormatName(version.quantization()),
                  FormatBytes(version.resident_bytes()),
                  FormatSaving(version.resident_bytes(), version.fp32_bytes()),
                  version.aliases().empty()
                      ? "-"
                      : Printable(absl::StrJoin(version.aliases(), ", ")),
                  version.has_create_time()
                      ? FormatAge(now - ToTime(version.create_time()))
                      : "-"});
  }
  return table.ToString();
}

std::string FormatModel(const v1::ModelVersion& version) {
  std::string text;
  const auto line = [&text](const char* label, const std::string& value) {
    if (!value.empty()) absl::StrAppendFormat(&text, "%-16s%s\n", label, value);
  };
  const v1::ModelConfig& config = version.config();
  line("model", VersionName(version));
  line("state", StateName(version.state()));
  line("message", Printable(version.state_message()));
  line("aliases", Printable(absl::StrJoin(version.aliases(), ", ")));
  line("format", FormatName(version.quantization()));
  line("method", Printable(version.quantization().method()));
  if (version.quantization().format() != "f32") {
    line("activations", ActivationsName(version.activations()));
  }
  line("architecture",
       absl::StrCat(config.layers(), " layers, ", config.heads(), " heads, ",
                    config.embedding_width(), " wide (", config.inner_width(),
                    " inside), context ", config.positions(), ", vocabulary ",
                    config.vocabulary(),
                    config.tied_head() ? ", tied head" : ""));
  line("parameters", FormatCount(version.parameters()));
  line("weights", FormatWeights(version));
  line("files", FormatBytes(version.file_bytes()));
  if (version.load_seconds() > 0) {
    line("loaded in", absl::StrFormat("%.3f s", version.load_seconds()));
  }
  if (version.has_eval_perplexity()) {
    line("perplexity",
         absl::StrFormat("%.4f, by its maker", version.eval_perplexity()));
  }
  if (version.has_create_time()) {
    line("created", UtcTime(version.create_time(), "%Y-%m-%d %H:%M:%S UTC"));
  }
  line("job", Printable(version.job_id()));
  line("digest", Printable(version.digest()));
  line("made from", Printable(version.base_digest()));
  return text;
}

std::string FormatAliasChange(const v1::AliasChange& change) {
  return absl::StrCat(Printable(change.name()), ": alias ",
                      Printable(change.alias()), " ",
                      VersionOrNone(change.from_version()), " -> ",
                      VersionOrNone(change.to_version()));
}

std::string FormatAliasHistory(
    const google::protobuf::RepeatedPtrField<v1::AliasChange>& changes) {
  Table table({{"no.", kRight},
               {"time (UTC)"},
               {"alias"},
               {"from", kRight},
               {"to", kRight},
               {"cause"},
               {"by"},
               {"comment"}});
  for (const v1::AliasChange& change : changes) {
    table.AddRow({absl::StrCat(change.sequence()),
                  UtcTime(change.time(), "%Y-%m-%d %H:%M:%S"),
                  Printable(change.alias()),
                  VersionOrNone(change.from_version()),
                  VersionOrNone(change.to_version()), CauseName(change.cause()),
                  change.actor().empty() ? "-" : Printable(change.actor()),
                  Printable(change.comment())});
  }
  return table.ToString();
}

std::string FormatDiff(const v1::DiffVersionsResponse& diff) {
  Table table({{"tensor"},
               {"shape"},
               {VersionName(diff.left())},
               {VersionName(diff.right())},
               {"changed codes", kRight},
               {"relative error\u00b2", kRight},
               {"largest change", kRight}});
  for (const v1::TensorDiff& tensor : diff.tensors()) {
    table.AddRow(
        {Printable(tensor.name()), absl::StrJoin(tensor.shape(), "x"),
         FormatName(tensor.left()), FormatName(tensor.right()),
         tensor.has_changed_codes() ? FormatCount(tensor.changed_codes()) : "-",
         absl::StrFormat("%.3e", tensor.relative_squared_error()),
         absl::StrFormat("%.3e", tensor.max_absolute_difference())});
  }
  return table.ToString();
}

std::string FormatModelEvent(const v1::WatchModelsResponse& event) {
  const v1::ModelVersion& version = event.version();
  std::string text = absl::StrCat(UtcTime(event.time(), "%H:%M:%S"), " ",
                                  EventKindName(event.kind()));
  if (!event.has_version()) return text;
  absl::StrAppend(&text, " ", VersionName(version));
  if (event.kind() == v1::MODEL_EVENT_KIND_DELETED) return text;
  absl::StrAppend(&text, " ", StateName(version.state()), " ",
                  FormatName(version.quantization()));
  if (!version.aliases().empty()) {
    absl::StrAppend(&text, " aliases ",
                    Printable(absl::StrJoin(version.aliases(), ",")));
  }
  if (!version.state_message().empty()) {
    absl::StrAppend(&text, " (", Printable(version.state_message()), ")");
  }
  return text;
}

}  // namespace pot
