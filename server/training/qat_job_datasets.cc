// Rows of datasets; see qat_job_store.h.
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

}  // namespace pot
