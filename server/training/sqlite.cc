#include "server/training/sqlite.h"

#include <sqlite3.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "server/serving/error_details.h"

namespace pot {

SqliteValue SqliteValue::Blob(std::string bytes) {
  SqliteValue value(std::move(bytes));
  value.blob_ = true;
  return value;
}

SqliteRows::SqliteRows(SqliteRows&& other) noexcept
    : database_(other.database_),
      sql_(std::move(other.sql_)),
      statement_(std::exchange(other.statement_, nullptr)),
      status_(std::move(other.status_)) {}

SqliteRows::~SqliteRows() {
  if (statement_ != nullptr) database_->GiveBack(sql_, statement_);
}

bool SqliteRows::Next() {
  if (!status_.ok() || statement_ == nullptr) return false;
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) status_ = database_->Error(code, sql_);
  database_->GiveBack(sql_, std::exchange(statement_, nullptr));
  return false;
}

bool SqliteRows::IsNull(int column) const {
  return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

int64_t SqliteRows::Int(int column) const {
  return sqlite3_column_int64(statement_, column);
}

double SqliteRows::Real(int column) const {
  return sqlite3_column_double(statement_, column);
}

std::string SqliteRows::Bytes(int column) const {
  const void* const data = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  if (data == nullptr) return "";
  return std::string(static_cast<const char*>(data), static_cast<size_t>(size));
}

absl::StatusOr<std::unique_ptr<SqliteDatabase>> SqliteDatabase::Open(
    const std::string& path, int busy_timeout_ms) {
  std::unique_ptr<SqliteDatabase> database(new SqliteDatabase(path));
  const int code =
      sqlite3_open_v2(path.c_str(), &database->connection_,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                          SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                      nullptr);
  if (code != SQLITE_OK) return database->Error(code, "open");
  sqlite3_busy_timeout(database->connection_, busy_timeout_ms);
  // The lock is taken by the first write transaction and kept.
  POT_RETURN_IF_ERROR(
      database->RunScript("PRAGMA locking_mode = EXCLUSIVE;"
                          "PRAGMA journal_mode = WAL;"
                          "PRAGMA synchronous = FULL;"
                          "PRAGMA foreign_keys = ON;"
                          "BEGIN IMMEDIATE; COMMIT;"));
  return database;
}

SqliteDatabase::~SqliteDatabase() {
  for (const auto& [sql, statement] : idle_) sqlite3_finalize(statement);
  sqlite3_close_v2(connection_);
}

absl::Status SqliteDatabase::Error(int code, absl::string_view doing) const {
  const std::string message =
      absl::StrCat(path_, ": ", sqlite3_errstr(code), ": ",
                   connection_ == nullptr ? "" : sqlite3_errmsg(connection_),
                   " (", doing.substr(0, 200), ")");
  switch (code & 0xff) {
    case SQLITE_FULL:
      return WithDetails(absl::ResourceExhaustedError(message),
                         {.reason = "DISK_BUDGET"});
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::DataLossError(message);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::FailedPreconditionError(
          absl::StrCat(message, "; another process uses the database"));
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
      return absl::FailedPreconditionError(message);
    default:
      return absl::InternalError(message);
  }
}

SqliteRows SqliteDatabase::Query(absl::string_view sql,
                                 absl::Span<const SqliteValue> values) {
  SqliteRows rows(this, std::string(sql));
  const auto idle = idle_.find(rows.sql_);
  if (idle != idle_.end()) {
    rows.statement_ = idle->second;
    idle_.erase(idle);
  } else {
    const int code = sqlite3_prepare_v3(
        connection_, rows.sql_.c_str(), static_cast<int>(rows.sql_.size()),
        SQLITE_PREPARE_PERSISTENT, &rows.statement_, nullptr);
    if (code != SQLITE_OK) {
      rows.status_ = Error(code, sql);
      return rows;
    }
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const int index = static_cast<int>(i) + 1;
    const auto& value = values[i].value_;
    int code = SQLITE_OK;
    if (const auto* const number = std::get_if<int64_t>(&value)) {
      code = sqlite3_bind_int64(rows.statement_, index, *number);
    } else if (const auto* const real = std::get_if<double>(&value)) {
      code = sqlite3_bind_double(rows.statement_, index, *real);
    } else if (const auto* const text = std::get_if<std::string>(&value)) {
      code = values[i].blob_
                 ? sqlite3_bind_blob64(rows.statement_, index, text->data(),
                                       text->size(), SQLITE_TRANSIENT)
                 : sqlite3_bind_text64(rows.statement_, index, text->data(),
                                       text->size(), SQLITE_TRANSIENT,
                                       SQLITE_UTF8);
    } else {
      code = sqlite3_bind_null(rows.statement_, index);
    }
    if (code != SQLITE_OK) {
      rows.status_ = Error(code, sql);
      break;
    }
  }
  return rows;
}

absl::Status SqliteDatabase::Run(absl::string_view sql,
                                 std::initializer_list<SqliteValue> values) {
  SqliteRows rows = Query(sql, values);
  while (rows.Next()) {
  }
  return rows.status();
}

absl::Status SqliteDatabase::RunScript(const std::string& script) {
  const int code =
      sqlite3_exec(connection_, script.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Error(code, script);
}

int64_t SqliteDatabase::changes() const {
  return sqlite3_changes64(connection_);
}

int64_t SqliteDatabase::last_row_id() const {
  return sqlite3_last_insert_rowid(connection_);
}

void SqliteDatabase::GiveBack(const std::string& sql, sqlite3_stmt* statement) {
  sqlite3_reset(statement);
  sqlite3_clear_bindings(statement);
  if (!idle_.emplace(sql, statement).second) sqlite3_finalize(statement);
}

SqliteTransaction::~SqliteTransaction() {
  // Fails only where SQLite has rolled back already.
  if (open_) static_cast<void>(database_->Run("ROLLBACK"));
}

absl::Status SqliteTransaction::Begin() {
  POT_RETURN_IF_ERROR(database_->Run("BEGIN IMMEDIATE"));
  open_ = true;
  return absl::OkStatus();
}

absl::Status SqliteTransaction::Commit() {
  POT_RETURN_IF_ERROR(database_->Run("COMMIT"));
  open_ = false;
  return absl::OkStatus();
}

absl::Status MigrateSqlite(SqliteDatabase* database,
                           absl::Span<const char* const> migrations) {
  int64_t version = 0;
  {
    SqliteRows rows = database->Query("PRAGMA user_version");
    if (rows.Next()) version = rows.Int(0);
    POT_RETURN_IF_ERROR(rows.status());
  }
  const int64_t newest = static_cast<int64_t>(migrations.size());
  if (version < 0 || version > newest) {
    return absl::FailedPreconditionError(
        absl::StrCat("the job database is of version ", version,
                     ", but this program knows none beyond ", newest,
                     "; run the program that wrote it, or a later one"));
  }
  for (; version < newest; ++version) {
    SqliteTransaction transaction(database);
    POT_RETURN_IF_ERROR(transaction.Begin());
    POT_RETURN_IF_ERROR(
        database->RunScript(migrations[static_cast<size_t>(version)]));
    POT_RETURN_IF_ERROR(database->RunScript(
        absl::StrCat("PRAGMA user_version = ", version + 1)));
    POT_RETURN_IF_ERROR(transaction.Commit());
  }
  return absl::OkStatus();
}

}  // namespace pot
