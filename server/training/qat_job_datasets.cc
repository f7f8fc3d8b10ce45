// Rows of datasets, and housekeeping; see qat_job_store.h.
#include <map>
#include <utility>

#include "engine/base/status_macros.h"
#include "server/training/proto_time.h"
#include "server/training/qat_job_store_impl.h"

namespace pot {
namespace {

constexpr char kColumns[] =
    "SELECT sha256, name, size_bytes, create_time FROM datasets ";

v1::Dataset ReadDataset(const SqliteRows& rows) {
  v1::Dataset dataset;
  dataset.set_sha256(rows.Bytes(0));
  dataset.set_name(rows.Bytes(1));
  dataset.set_size_bytes(rows.Int(2));
  SetProtoTime(absl::FromUnixNanos(rows.Int(3)), dataset.mutable_create_time());
  return dataset;
}

}  // namespace

absl::StatusOr<v1::Dataset> QatJobStore::AddDataset(absl::string_view sha256,
                                                    absl::string_view name,
                                                    int64_t size_bytes) {
  POT_RETURN_IF_ERROR(impl_->Transact([&](QatJobTransaction* transaction) {
    const int64_t now = absl::ToUnixNanos(transaction->now());
    return transaction->db()->Run(
        "INSERT INTO datasets (sha256, name, size_bytes, create_time, "
        "last_used) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (sha256) DO UPDATE SET last_used = excluded.last_used",
        {sha256, name, size_bytes, now, now});
  }));
  return GetDataset(sha256);
}

absl::StatusOr<v1::Dataset> QatJobStore::GetDataset(absl::string_view sha256) {
  return impl_->Transact(
      [&](QatJobTransaction* transaction) -> absl::StatusOr<v1::Dataset> {
        SqliteRows rows = transaction->db()->Query(
            std::string(kColumns) + "WHERE sha256 = ?", {sha256});
        if (rows.Next()) return ReadDataset(rows);
        POT_RETURN_IF_ERROR(rows.status());
        return DatasetNotFound(sha256);
      });
}

absl::StatusOr<std::vector<v1::Dataset>> QatJobStore::ListDatasets() {
  return impl_->Transact([&](QatJobTransaction* transaction)
                             -> absl::StatusOr<std::vector<v1::Dataset>> {
    std::vector<v1::Dataset> datasets;
    SqliteRows rows = transaction->db()->Query(kColumns);
    while (rows.Next()) datasets.push_back(ReadDataset(rows));
    POT_RETURN_IF_ERROR(rows.status());
    return datasets;
  });
}

absl::StatusOr<std::vector<std::string>> QatJobStore::RemoveUnusedDatasets(
    absl::Duration age) {
  return impl_->Transact([&](QatJobTransaction* transaction)
                             -> absl::StatusOr<std::vector<std::string>> {
    std::vector<std::string> removed;
    SqliteRows rows = transaction->db()->Query(
        "DELETE FROM datasets WHERE last_used <= ? AND NOT EXISTS "
        "(SELECT 1 FROM job_datasets WHERE job_datasets.sha256 = "
        "datasets.sha256) RETURNING sha256",
        {absl::ToUnixNanos(transaction->now() - age)});
    while (rows.Next()) removed.push_back(rows.Bytes(0));
    POT_RETURN_IF_ERROR(rows.status());
    return removed;
  });
}

absl::StatusOr<std::vector<std::string>> QatJobStore::Garbage() {
  return impl_->Transact([&](QatJobTransaction* transaction)
                             -> absl::StatusOr<std::vector<std::string>> {
    std::vector<std::string> directories;
    SqliteRows rows = transaction->db()->Query("SELECT directory FROM garbage");
    while (rows.Next()) directories.push_back(rows.Bytes(0));
    POT_RETURN_IF_ERROR(rows.status());
    return directories;
  });
}

absl::Status QatJobStore::ForgetGarbage(absl::string_view directory) {
  return impl_->Transact([&](QatJobTransaction* transaction) {
    return transaction->db()->Run("DELETE FROM garbage WHERE directory = ?",
                                  {directory});
  });
}

absl::StatusOr<std::vector<ThroughputSample>> QatJobStore::Throughput(
    int limit) {
  return impl_->Transact([&](QatJobTransaction* transaction)
                             -> absl::StatusOr<std::vector<ThroughputSample>> {
    std::vector<ThroughputSample> samples;
    SqliteRows rows = transaction->db()->Query(
        "SELECT num_parameters, tokens_per_second FROM jobs "
        "WHERE tokens_per_second > 0 AND num_parameters > 0 "
        "ORDER BY id DESC LIMIT ?",
        {limit});
    while (rows.Next()) {
      samples.push_back(
          {.num_parameters = rows.Int(0), .tokens_per_second = rows.Real(1)});
    }
    POT_RETURN_IF_ERROR(rows.status());
    return samples;
  });
}

absl::StatusOr<std::map<v1::QatJobState, int64_t>> QatJobStore::CountByState() {
  using Counts = std::map<v1::QatJobState, int64_t>;
  return impl_->Transact(
      [&](QatJobTransaction* transaction) -> absl::StatusOr<Counts> {
        Counts counts;
        SqliteRows rows = transaction->db()->Query(
            "SELECT state, COUNT(*) FROM jobs GROUP BY state");
        while (rows.Next()) {
          counts[static_cast<v1::QatJobState>(rows.Int(0))] = rows.Int(1);
        }
        POT_RETURN_IF_ERROR(rows.status());
        return counts;
      });
}

}  // namespace pot
