#include "server/training/sqlite.h"

#include <filesystem>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/training/qat_job_schema.h"
#include "tests/server/training/job_testing.h"

namespace pot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kTwoVersions[] = {
    "CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (1);",
    "ALTER TABLE t ADD COLUMN b TEXT NOT NULL DEFAULT 'new';"};

std::vector<std::string> Strings(SqliteDatabase* database, const char* sql) {
  std::vector<std::string> strings;
  SqliteRows rows = database->Query(sql);
  while (rows.Next()) strings.push_back(rows.Bytes(0));
  EXPECT_TRUE(rows.status().ok()) << rows.status();
  return strings;
}

std::unique_ptr<SqliteDatabase> OpenAt(const std::string& path) {
  auto database = SqliteDatabase::Open(path, 0);
  EXPECT_TRUE(database.ok()) << database.status();
  return database.ok() ? *std::move(database) : nullptr;
}

TEST(SqliteTest, ValuesComeBackAsTheyWere) {
  TempDirectory directory;
  auto database = OpenAt(directory.path() + "/db");
  ASSERT_TRUE(database->RunScript("CREATE TABLE t (a, b, c, d, e)").ok());
  const std::string bytes("\0\xff'", 3);
  ASSERT_TRUE(database
                  ->Run("INSERT INTO t VALUES (?, ?, ?, ?, ?)",
                        {int64_t{-1} << 62, 0.1, "it's",
                         SqliteValue::Blob(bytes), nullptr})
                  .ok());
  SqliteRows rows = database->Query("SELECT * FROM t");
  ASSERT_TRUE(rows.Next());
  EXPECT_EQ(rows.Int(0), int64_t{-1} << 62);
  EXPECT_EQ(rows.Real(1), 0.1);
  EXPECT_EQ(rows.Bytes(2), "it's");
  EXPECT_EQ(rows.Bytes(3), bytes);
  EXPECT_TRUE(rows.IsNull(4));
  EXPECT_FALSE(rows.Next());
}

TEST(SqliteTest, MigratesOldDatabasesAndKeepsTheirRows) {
  TempDirectory directory;
  const std::string path = directory.path() + "/db";
  {
    auto database = OpenAt(path);
    ASSERT_TRUE(
        MigrateSqlite(database.get(), absl::MakeSpan(kTwoVersions, 1)).ok());
  }
  auto database = OpenAt(path);
  ASSERT_TRUE(MigrateSqlite(database.get(), kTwoVersions).ok());
  // A second time, there is nothing to do.
  ASSERT_TRUE(MigrateSqlite(database.get(), kTwoVersions).ok());
  EXPECT_THAT(Strings(database.get(), "SELECT b FROM t"), ElementsAre("new"));
  const absl::Status newer =
      MigrateSqlite(database.get(), absl::MakeSpan(kTwoVersions, 1));
  EXPECT_EQ(newer.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(newer.message()),
              HasSubstr("of version 2, but this program knows none beyond 1"));
}

TEST(SqliteTest, AMigrationThatFailsLeavesTheVersionBefore) {
  TempDirectory directory;
  auto database = OpenAt(directory.path() + "/db");
  constexpr const char* kBroken[] = {
      kTwoVersions[0], "UPDATE t SET a = 2; SELECT * FROM missing;"};
  EXPECT_FALSE(MigrateSqlite(database.get(), kBroken).ok());
  EXPECT_THAT(Strings(database.get(), "SELECT a FROM t"), ElementsAre("1"));
  EXPECT_THAT(Strings(database.get(), "PRAGMA user_version"), ElementsAre("1"));
}

TEST(SqliteTest, OneProcessOneConnection) {
  TempDirectory directory;
  const std::string path = directory.path() + "/db";
  auto database = OpenAt(path);
  const auto second = SqliteDatabase::Open(path, 0);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr("another process"));
}

TEST(SqliteTest, TheSchemaIsDurableAndChecksReferences) {
  TempDirectory directory;
  auto database = OpenAt(directory.path() + "/db");
  ASSERT_TRUE(MigrateSqlite(database.get(), QatJobMigrations()).ok());
  EXPECT_THAT(Strings(database.get(), "PRAGMA journal_mode"),
              ElementsAre("wal"));
  EXPECT_THAT(Strings(database.get(), "PRAGMA synchronous"), ElementsAre("2"));
  EXPECT_FALSE(database->Run("INSERT INTO events VALUES (7, 1, x'00')").ok());
}

TEST(SqliteTest, WhatIsNoDatabaseIsDataLoss) {
  TempDirectory directory;
  const std::string path = directory.path() + "/db";
  WriteText(path, std::string(5000, 'x'));
  EXPECT_EQ(SqliteDatabase::Open(path, 0).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(SqliteDatabase::Open(directory.path(), 0).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace pot
