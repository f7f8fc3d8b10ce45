#include "server/training/qat_job_schema.h"

namespace pot {
namespace {

// Times are nanoseconds since 1970; blobs are serialized messages of
// proto/pot/v1. A job's attempts are its epoch.
constexpr char kVersion1[] = R"sql(
CREATE TABLE datasets (
  sha256 TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  create_time INTEGER NOT NULL,
  last_used INTEGER NOT NULL      -- upload, or end of the last job's use
) WITHOUT ROWID;

CREATE TABLE jobs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,   -- "qat-<id>"
  spec BLOB NOT NULL,                     -- QatJobSpec
  submitter TEXT NOT NULL,
  idempotency_key TEXT,
  fingerprint TEXT NOT NULL,
  estimate BLOB NOT NULL,                 -- JobEstimate
  memory_bytes INTEGER NOT NULL,          -- of it
  num_parameters INTEGER NOT NULL,
  create_time INTEGER NOT NULL,
  start_time INTEGER,
  end_time INTEGER,
  state INTEGER NOT NULL,                 -- QatJobState
  state_message TEXT NOT NULL,
  progress BLOB,                          -- JobProgress
  tokens_per_second REAL NOT NULL,
  progress_event_time INTEGER NOT NULL,
  last_sequence INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  failed_attempts INTEGER NOT NULL,
  worker TEXT NOT NULL,
  wants_cancel INTEGER NOT NULL,
  wants_pause INTEGER NOT NULL,
  wants_stop INTEGER NOT NULL,
  wish_actor TEXT NOT NULL,
  wish_comment TEXT NOT NULL,
  candidate TEXT NOT NULL,                -- checkpoint_id
  gate BLOB,                              -- GateReport
  published BLOB                          -- ModelIdentity
);
CREATE UNIQUE INDEX jobs_by_key ON jobs (submitter, idempotency_key)
  WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_by_state ON jobs (state, id);

CREATE TABLE job_datasets (
  job_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  sha256 TEXT NOT NULL REFERENCES datasets (sha256),
  PRIMARY KEY (job_id, sha256)
) WITHOUT ROWID;
CREATE INDEX job_datasets_by_sha256 ON job_datasets (sha256);

CREATE TABLE events (
  job_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  sequence INTEGER NOT NULL,
  event BLOB NOT NULL,                    -- JobEvent
  PRIMARY KEY (job_id, sequence)
) WITHOUT ROWID;

CREATE TABLE leases (
  job_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  epoch INTEGER NOT NULL,
  worker TEXT NOT NULL,
  worker_major TEXT NOT NULL,             -- of WorkerInfo.version
  expire_time INTEGER NOT NULL,
  worker_sequence INTEGER NOT NULL,
  live INTEGER NOT NULL,
  outcome BLOB,                           -- CompleteRequest without its lease
  PRIMARY KEY (job_id, epoch)
) WITHOUT ROWID;
CREATE INDEX live_leases ON leases (expire_time) WHERE live;

CREATE TABLE checkpoints (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  job_id INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  checkpoint_id TEXT NOT NULL,
  directory TEXT NOT NULL,
  checkpoint BLOB NOT NULL,               -- JobCheckpoint, `best` unset
  UNIQUE (job_id, checkpoint_id)
);

CREATE TABLE snapshots (
  job_id INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
  worker_major TEXT NOT NULL,
  directory TEXT NOT NULL,
  snapshot BLOB NOT NULL                  -- Snapshot
);

CREATE TABLE garbage (
  directory TEXT NOT NULL PRIMARY KEY
) WITHOUT ROWID;
)sql";

constexpr const char* kMigrations[] = {kVersion1};

}  // namespace

absl::Span<const char* const> QatJobMigrations() { return kMigrations; }

}  // namespace pot
