#ifndef POT_SERVER_TRAINING_QAT_JOB_STORE_IMPL_H_
#define POT_SERVER_TRAINING_QAT_JOB_STORE_IMPL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/mutex.h"
#include "engine/base/status_macros.h"
#include "server/training/qat_job_store.h"
#include "server/training/qat_job_transaction.h"
#include "server/training/qat_job_watchers.h"
#include "server/training/sqlite.h"

namespace pot {

class QatJobStore::Impl {
 public:
  Impl(QatJobStoreOptions options, std::unique_ptr<SqliteDatabase> database)
      : options_(std::move(options)), database_(std::move(database)) {}

  const QatJobStoreOptions& options() const { return options_; }
  int64_t lease_expirations() const { return lease_expirations_; }
  QatJobWatchers* watchers() { return &watchers_; }

  // Runs `body` as one transaction, which is committed when its result, an
  // absl::Status or StatusOr, is OK, and tells the watchers afterwards.
  template <typename Body>
  auto Transact(Body body)
      -> decltype(body(std::declval<QatJobTransaction*>())) {
    std::set<std::string> changed;
    auto result = [&]() -> decltype(body(nullptr)) {
      MutexLock lock(&mutex_);
      QatJobTransaction transaction(database_.get(), &options_);
      POT_RETURN_IF_ERROR(transaction.Begin());
      auto value = body(&transaction);
      if (!value.ok()) return value;
      POT_RETURN_IF_ERROR(transaction.Commit());
      changed = transaction.changed();
      lease_expirations_ += transaction.expired_leases();
      return value;
    }();
    watchers_.Notify(changed);
    return result;
  }

  // Loads the job, lets `change` alter it, saves it and returns it.
  template <typename Change>
  absl::StatusOr<v1::QatJob> Update(absl::string_view job_id, Change change) {
    return Transact(
        [&](QatJobTransaction* transaction) -> absl::StatusOr<v1::QatJob> {
          POT_ASSIGN_OR_RETURN(QatJobRow row, transaction->Load(job_id));
          POT_RETURN_IF_ERROR(change(transaction, &row));
          POT_RETURN_IF_ERROR(transaction->Save(row));
          return std::move(row.job);
        });
  }

 private:
  const QatJobStoreOptions options_;
  Mutex mutex_;
  const std::unique_ptr<SqliteDatabase> database_;  // used under mutex_
  QatJobWatchers watchers_;
  std::atomic<int64_t> lease_expirations_ = 0;
};

}  // namespace pot

#endif  // POT_SERVER_TRAINING_QAT_JOB_STORE_IMPL_H_
