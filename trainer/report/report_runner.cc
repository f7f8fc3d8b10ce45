#include "trainer/report/report_runner.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxRowBytes = 1 << 20;

absl::Status MakeDirectory(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (!error) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("cannot make ", path, ": ", error.message()));
}

// Members that are not equal, or only in one of the two.
std::vector<std::string> Differences(const nlohmann::json& a,
                                     const nlohmann::json& b) {
  std::vector<std::string> names;
  for (const auto& [name, value] : a.items()) {
    if (!b.contains(name) || b.at(name) != value) names.push_back(name);
  }
  for (const auto& [name, value] : b.items()) {
    if (!a.contains(name)) names.push_back(name);
  }
  return names;
}

class Runner {
 public:
  Runner(const ReportInputs& inputs, const std::vector<ReportCase>& cases,
         const ReportRunOptions& options,
         const std::function<void(double, const ReportCase&)>& progress)
      : inputs_(inputs),
        cases_(cases),
        options_(options),
        progress_(progress),
        rows_(cases.size()),
        statuses_(cases.size()),
        shares_(cases.size(), 0.0) {}

  absl::StatusOr<ReportRun> Run() {
    POT_RETURN_IF_ERROR(
        MakeDirectory(absl::StrCat(options_.directory, "/rows")));
    ReportRun run;
    for (size_t i = 0; i < cases_.size(); ++i) {
      POT_RETURN_IF_ERROR(ReadRow(i));
      if (!rows_[i].has_value()) continue;
      shares_[i] = 1;
      ++run.reused;
    }
    std::vector<std::thread> workers;
    for (int job = 0; job < options_.jobs; ++job) {
      workers.emplace_back([this] { Work(); });
    }
    for (std::thread& worker : workers) worker.join();
    // If it is empty; not before, as a worker may be about to use it.
    std::error_code error;
    fs::remove(absl::StrCat(options_.directory, "/models"), error);
    for (size_t i = 0; i < cases_.size(); ++i) {
      if (rows_[i].has_value()) {
        run.rows.push_back(*std::move(rows_[i]));
      } else {
        run.failures.emplace_back(cases_[i], statuses_[i]);
      }
    }
    return run;
  }

 private:
  std::string RowPath(size_t i) const {
    return absl::StrCat(options_.directory, "/rows/", cases_[i].Key(), ".json");
  }

  const nlohmann::json& Identity(size_t i) const {
    return NeedsCalibration(cases_[i]) ? options_.calibrated_identity
                                       : options_.identity;
  }

  // No row when there is no file.
  absl::Status ReadRow(size_t i) {
    const std::string path = RowPath(i);
    const absl::StatusOr<std::string> text = ReadFile(path, kMaxRowBytes);
    if (absl::IsNotFound(text.status())) return absl::OkStatus();
    POT_RETURN_IF_ERROR(text.status());
    POT_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(*text, path));
    if (!json.is_object() || !json.contains("identity") ||
        !json.at("identity").is_object() || !json.contains("row")) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " is no row of a report"));
    }
    const std::vector<std::string> differences =
        Differences(json.at("identity"), Identity(i));
    if (!differences.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, " was measured with another ", absl::StrJoin(differences, ", "),
          ": choose another --out, or remove it"));
    }
    POT_ASSIGN_OR_RETURN(ReportRow row, RowFromJson(json.at("row"), path));
    if (row.which != cases_[i]) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " is the row of ", row.which.Label()));
    }
    rows_[i] = std::move(row);
    return absl::OkStatus();
  }

  absl::Status WriteRow(size_t i) const {
    const std::string path = RowPath(i);
    const std::string part = absl::StrCat(path, ".part");
    const nlohmann::json json = {{"identity", Identity(i)},
                                 {"row", RowToJson(*rows_[i])}};
    POT_RETURN_IF_ERROR(WriteFile(part, json.dump(2) + "\n"));
    if (std::rename(part.c_str(), path.c_str()) == 0) return absl::OkStatus();
    return absl::InternalError(
        absl::StrCat("cannot write ", path, ": ", std::strerror(errno)));
  }

  void Work() {
    for (size_t i; (i = next_.fetch_add(1)) < cases_.size();) {
      if (rows_[i].has_value()) continue;
      statuses_[i] = Measure(i);
      if (!statuses_[i].ok()) rows_[i].reset();
      Advance(i, 1);
    }
  }

  absl::Status Measure(size_t i) {
    const ReportCase& which = cases_[i];
    const std::string scratch =
        absl::StrCat(options_.directory, "/models/", which.Key());
    std::error_code error;
    fs::remove_all(scratch, error);
    POT_RETURN_IF_ERROR(MakeDirectory(scratch));
    const absl::Status status = MeasureIn(scratch, i);
    if (!options_.keep_models || which.is_float()) {
      fs::remove_all(scratch, error);
    }
    return status;
  }

  absl::Status MeasureIn(const std::string& scratch, size_t i) {
    const ReportCase& which = cases_[i];
    {
      const std::shared_lock<std::shared_mutex> together(quiet_);
      POT_ASSIGN_OR_RETURN(
          rows_[i], MeasureCase(inputs_, which, scratch,
                                std::max(1, options_.threads / options_.jobs),
                                [&](double share) { Advance(i, share); }));
    }
    if (options_.measure_speed) {
      const std::unique_lock<std::shared_mutex> alone(quiet_);
      POT_ASSIGN_OR_RETURN(
          rows_[i]->decode_tokens_per_second,
          MeasureDecodeSpeed(which.is_float() ? inputs_.model : scratch,
                             inputs_, options_.threads));
    }
    return WriteRow(i);
  }

  void Advance(size_t i, double share) {
    const std::lock_guard<std::mutex> lock(mutex_);
    shares_[i] = share;
    if (progress_ == nullptr) return;
    double done = 0;
    for (const double other : shares_) done += other;
    progress_(done, cases_[i]);
  }

  const ReportInputs& inputs_;
  const std::vector<ReportCase>& cases_;
  const ReportRunOptions& options_;
  const std::function<void(double, const ReportCase&)>& progress_;

  std::atomic<size_t> next_{0};
  // Each element belongs to the thread that took its case.
  std::vector<std::optional<ReportRow>> rows_;
  std::vector<absl::Status> statuses_;
  // Held by whoever computes; alone by whoever measures time.
  std::shared_mutex quiet_;
  std::mutex mutex_;
  std::vector<double> shares_;
};

}  // namespace

absl::StatusOr<ReportRun> RunReport(
    const ReportInputs& inputs, const std::vector<ReportCase>& cases,
    const ReportRunOptions& options,
    const std::function<void(double, const ReportCase&)>& progress) {
  return Runner(inputs, cases, options, progress).Run();
}

}  // namespace pot
