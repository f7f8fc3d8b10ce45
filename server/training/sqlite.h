// SQLite with statuses, and without its header.
#ifndef POT_SERVER_TRAINING_SQLITE_H_
#define POT_SERVER_TRAINING_SQLITE_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

struct sqlite3;
struct sqlite3_stmt;

namespace pot {

// A value for a "?" of a statement.
class SqliteValue {
 public:
  // Implicit, so that values stand in braces: {job_id, 7, nullptr}.
  SqliteValue(std::nullptr_t) {}                                // NOLINT
  SqliteValue(int value) : value_(int64_t{value}) {}            // NOLINT
  SqliteValue(int64_t value) : value_(value) {}                 // NOLINT
  SqliteValue(double value) : value_(value) {}                  // NOLINT
  SqliteValue(const char* text) : value_(std::string(text)) {}  // NOLINT
  SqliteValue(std::string text) : value_(std::move(text)) {}    // NOLINT
  SqliteValue(absl::string_view text)                           // NOLINT
      : value_(std::string(text)) {}
  static SqliteValue Blob(std::string bytes);

 private:
  friend class SqliteDatabase;
  std::variant<std::monostate, int64_t, double, std::string> value_;
  bool blob_ = false;
};

class SqliteDatabase;

// The rows of one query, one after the other:
//   while (rows.Next()) Use(rows.Int(0));
//   POT_RETURN_IF_ERROR(rows.status());
class SqliteRows {
 public:
  SqliteRows(SqliteRows&& other) noexcept;
  ~SqliteRows();

  // False after the last row, and after an error.
  bool Next();
  const absl::Status& status() const { return status_; }

  // Columns from 0, only after Next() was true. NULL is 0 or empty.
  bool IsNull(int column) const;
  int64_t Int(int column) const;
  double Real(int column) const;
  std::string Bytes(int column) const;  // text or blob

 private:
  friend class SqliteDatabase;
  SqliteRows(SqliteDatabase* database, std::string sql)
      : database_(database), sql_(std::move(sql)) {}

  SqliteDatabase* database_;
  std::string sql_;
  sqlite3_stmt* statement_ = nullptr;
  absl::Status status_;
};

// One connection. Not thread-safe. Errors name the file and what SQLite said:
// RESOURCE_EXHAUSTED (DISK_BUDGET) for a full disk, DATA_LOSS for a damaged
// file, FAILED_PRECONDITION for one that cannot be opened, written or locked,
// INTERNAL otherwise.
class SqliteDatabase {
 public:
  // Makes the file when it is not there. Write-ahead log, every commit synced
  // to disk, foreign keys enforced. The connection is the only one: another
  // process gets FAILED_PRECONDITION after `busy_timeout_ms`.
  static absl::StatusOr<std::unique_ptr<SqliteDatabase>> Open(
      const std::string& path, int busy_timeout_ms = 5000);
  ~SqliteDatabase();
  SqliteDatabase(const SqliteDatabase&) = delete;
  SqliteDatabase& operator=(const SqliteDatabase&) = delete;

  // Statements are prepared once and kept, by their text. The rows must not
  // outlive the database.
  SqliteRows Query(absl::string_view sql,
                   absl::Span<const SqliteValue> values = {});
  SqliteRows Query(absl::string_view sql,
                   std::initializer_list<SqliteValue> values) {
    return Query(sql, absl::MakeConstSpan(values.begin(), values.size()));
  }
  // A statement without rows.
  absl::Status Run(absl::string_view sql,
                   std::initializer_list<SqliteValue> values = {});
  // Several statements without values.
  absl::Status RunScript(const std::string& script);

  // Rows that the last statement changed; identifier of the last new row.
  int64_t changes() const;
  int64_t last_row_id() const;

 private:
  friend class SqliteRows;
  explicit SqliteDatabase(std::string path) : path_(std::move(path)) {}
  absl::Status Error(int code, absl::string_view doing) const;
  void GiveBack(const std::string& sql, sqlite3_stmt* statement);

  const std::string path_;
  sqlite3* connection_ = nullptr;
  std::map<std::string, sqlite3_stmt*> idle_;
};

// Everything between Begin() and Commit() happens or nothing does.
class SqliteTransaction {
 public:
  explicit SqliteTransaction(SqliteDatabase* database) : database_(database) {}
  // Rolls back unless committed.
  ~SqliteTransaction();
  SqliteTransaction(const SqliteTransaction&) = delete;
  SqliteTransaction& operator=(const SqliteTransaction&) = delete;

  absl::Status Begin();
  absl::Status Commit();

 private:
  SqliteDatabase* const database_;
  bool open_ = false;
};

// Brings a database from the version in its user_version, 0 when it is new, to
// migrations.size(): script i leads from version i to i + 1, each in its own
// transaction. FAILED_PRECONDITION, naming both versions, when the database is
// of a later one.
absl::Status MigrateSqlite(SqliteDatabase* database,
                           absl::Span<const char* const> migrations);

}  // namespace pot

#endif  // POT_SERVER_TRAINING_SQLITE_H_
