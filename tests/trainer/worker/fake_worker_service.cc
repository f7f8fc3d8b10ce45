#include "tests/trainer/worker/fake_worker_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/crc32c.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"

namespace pot {
namespace {

absl::Span<const uint8_t> Bytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace

v1::StoredFile FakeWorkerService::AddFile(const std::string& path,
                                          const std::string& content) {
  v1::StoredFile file;
  file.set_path(path);
  file.set_size_bytes(static_cast<int64_t>(content.size()));
  file.set_sha256(Sha256Hex(Bytes(content)));
  files_[file.sha256()] = content;
  return file;
}

absl::Status FakeWorkerService::Enter(const std::string& method,
                                      const v1::LeaseKey* key) {
  MutexLock lock(&mutex_);
  ++calls[method];
  if (dead_) return absl::UnavailableError("there is no server");
  if (refused[method] > 0) {
    --refused[method];
    return absl::UnavailableError("the connection broke before");
  }
  if (key != nullptr && (key->epoch() != epoch || outcome.has_value())) {
    return absl::AbortedError("stale lease");
  }
  return absl::OkStatus();
}

void FakeWorkerService::FailFromNowOn() {
  MutexLock lock(&mutex_);
  dead_ = true;
}

absl::Status FakeWorkerService::Leave(const std::string& method) {
  MutexLock lock(&mutex_);
  if (unanswered[method] == 0) return absl::OkStatus();
  --unanswered[method];
  return absl::UnavailableError("the connection broke after");
}

bool FakeWorkerService::Break() {
  MutexLock lock(&mutex_);
  if (breaks == 0) return false;
  --breaks;
  return true;
}

void FakeWorkerService::StopAcquiring() {
  MutexLock lock(&mutex_);
  stopped_ = true;
}

absl::StatusOr<v1::AcquireLeaseResponse> FakeWorkerService::AcquireLease(
    const v1::AcquireLeaseRequest&) {
  POT_RETURN_IF_ERROR(Enter("AcquireLease", nullptr));
  v1::AcquireLeaseResponse response;
  {
    MutexLock lock(&mutex_);
    if (stopped_) return absl::CancelledError("stopped");
    *response.mutable_lease() = lease;
    response.mutable_lease()->mutable_key()->set_job_id("qat-1");
    response.mutable_lease()->mutable_key()->set_epoch(++epoch);
    if (snapshot.has_value()) {
      *response.mutable_lease()->mutable_snapshot() = *snapshot;
    }
    events.clear();
    stored_through_ = 0;
    outcome.reset();
  }
  return response;
}

absl::StatusOr<v1::HeartbeatResponse> FakeWorkerService::Heartbeat(
    const v1::HeartbeatRequest& request) {
  POT_RETURN_IF_ERROR(Enter("Heartbeat", nullptr));
  v1::HeartbeatResponse response;
  {
    MutexLock lock(&mutex_);
    if (request.lease().epoch() != epoch || outcome.has_value()) {
      response.set_directive(v1::WORKER_DIRECTIVE_LEASE_LOST);
      return response;
    }
  }
  response.set_directive(v1::WORKER_DIRECTIVE_CONTINUE);
  if (directive != nullptr) response = directive(request.progress().step());
  POT_RETURN_IF_ERROR(Leave("Heartbeat"));
  return response;
}

absl::StatusOr<v1::ReportEventsResponse> FakeWorkerService::ReportEvents(
    const v1::ReportEventsRequest& request) {
  POT_RETURN_IF_ERROR(Enter("ReportEvents", &request.lease()));
  v1::ReportEventsResponse response;
  {
    MutexLock lock(&mutex_);
    for (const v1::WorkerEvent& event : request.events()) {
      if (event.worker_sequence() <= stored_through_) continue;
      stored_through_ = event.worker_sequence();
      events.push_back(event);
    }
    response.set_stored_through(stored_through_);
  }
  POT_RETURN_IF_ERROR(Leave("ReportEvents"));
  return response;
}

bool FakeWorkerService::IsWhole(const FakeUpload& upload) {
  for (int i = 0; i < upload.header.files_size(); ++i) {
    if (static_cast<int64_t>(upload.files[i].size()) !=
        upload.header.files(i).size_bytes()) {
      return false;
    }
  }
  return true;
}

absl::StatusOr<v1::GetUploadResponse> FakeWorkerService::GetUpload(
    const v1::GetUploadRequest& request) {
  POT_RETURN_IF_ERROR(Enter("GetUpload", &request.lease()));
  v1::GetUploadResponse response;
  {
    MutexLock lock(&mutex_);
    const auto found = uploads_.find(request.upload_id());
    if (found != uploads_.end()) {
      const FakeUpload& upload = found->second;
      int i = 0;
      while (i + 1 < upload.header.files_size() &&
             static_cast<int64_t>(upload.files[i].size()) ==
                 upload.header.files(i).size_bytes()) {
        ++i;
      }
      response.set_file_index(static_cast<uint32_t>(i));
      response.set_offset(static_cast<int64_t>(upload.files[i].size()));
      response.set_complete(IsWhole(upload));
    }
  }
  POT_RETURN_IF_ERROR(Leave("GetUpload"));
  return response;
}

absl::StatusOr<v1::CompleteResponse> FakeWorkerService::Complete(
    const v1::CompleteRequest& request) {
  {
    MutexLock lock(&mutex_);
    if (outcome.has_value() &&
        outcome->SerializeAsString() == request.SerializeAsString()) {
      return v1::CompleteResponse();
    }
  }
  POT_RETURN_IF_ERROR(Enter("Complete", &request.lease()));
  {
    MutexLock lock(&mutex_);
    if (request.has_trained() &&
        !checkpoints.contains(request.trained().checkpoint_id())) {
      return absl::NotFoundError("no such checkpoint");
    }
    outcome = request;
  }
  POT_RETURN_IF_ERROR(Leave("Complete"));
  return v1::CompleteResponse();
}

absl::Status FakeWorkerService::Fetch(FetchKind kind, const v1::LeaseKey& key,
                                      const std::string& sha256, int64_t offset,
                                      TakeChunk take) {
  const std::string method = kind == FetchKind::kBase      ? "FetchBase"
                             : kind == FetchKind::kDataset ? "FetchDataset"
                                                           : "FetchSnapshot";
  POT_RETURN_IF_ERROR(Enter(method, &key));
  std::string content;
  {
    MutexLock lock(&mutex_);
    if (!files_.contains(sha256)) return absl::NotFoundError("no such file");
    content = files_[sha256];
  }
  int chunks = 0;
  for (auto at = static_cast<size_t>(offset); at < content.size();) {
    if (chunks++ == chunks_before_break && Break()) {
      return absl::UnavailableError("the stream broke");
    }
    v1::TransferChunk chunk;
    chunk.set_offset(static_cast<int64_t>(at));
    chunk.set_data(content.substr(at, static_cast<size_t>(fetch_chunk_bytes)));
    chunk.set_crc32c(Crc32c(Bytes(chunk.data())));
    at += chunk.data().size();
    {
      MutexLock lock(&mutex_);
      if (wrong_crcs > 0) {
        --wrong_crcs;
        chunk.mutable_data()->back() ^= 1;
      }
      fetched_bytes += static_cast<int64_t>(chunk.data().size());
    }
    POT_RETURN_IF_ERROR(take(chunk));
  }
  return absl::OkStatus();
}

absl::StatusOr<FakeUpload> FakeWorkerService::Take(
    const v1::UploadHeader& header, NextChunk next) {
  FakeUpload upload{header, {}};
  upload.files.resize(header.files_size());
  {
    MutexLock lock(&mutex_);
    const auto known = uploads_.find(header.upload_id());
    if (known != uploads_.end() &&
        known->second.header.files_size() == header.files_size()) {
      upload.files = known->second.files;
    }
  }
  const auto keep = [&] {
    MutexLock lock(&mutex_);
    uploads_[header.upload_id()] = upload;
  };
  for (int chunks = 0;; ++chunks) {
    v1::TransferChunk chunk;
    const absl::StatusOr<bool> more = next(&chunk);
    if (!more.ok() || !*more) {
      keep();
      POT_RETURN_IF_ERROR(more.status());
      break;
    }
    std::string& file = upload.files.at(chunk.file_index());
    if (chunk.offset() != static_cast<int64_t>(file.size())) {
      return absl::InvalidArgumentError(
          absl::StrCat("a chunk at ", chunk.offset(), " where ", file.size(),
                       " bytes have come"));
    }
    if (chunk.crc32c() != Crc32c(Bytes(chunk.data()))) {
      return absl::DataLossError("wrong crc");
    }
    file += chunk.data();
    if (chunks == chunks_before_break && Break()) {
      keep();
      return absl::UnavailableError("the stream broke");
    }
  }
  if (!IsWhole(upload)) return absl::InvalidArgumentError("bytes are missing");
  for (int i = 0; i < header.files_size(); ++i) {
    if (Sha256Hex(Bytes(upload.files[i])) != header.files(i).sha256()) {
      return absl::DataLossError("wrong digest");
    }
  }
  return upload;
}

absl::StatusOr<v1::UploadSnapshotResponse> FakeWorkerService::UploadSnapshot(
    const v1::UploadHeader& header, NextChunk next) {
  POT_RETURN_IF_ERROR(Enter("UploadSnapshot", &header.lease()));
  POT_ASSIGN_OR_RETURN(const FakeUpload upload, Take(header, next));
  {
    MutexLock lock(&mutex_);
    v1::Snapshot stored;
    stored.set_step(header.step());
    snapshot_files.clear();
    for (int i = 0; i < header.files_size(); ++i) {
      *stored.add_files() = header.files(i);
      files_[header.files(i).sha256()] = upload.files[i];
      snapshot_files[header.files(i).path()] = upload.files[i];
    }
    snapshot = stored;
    uploads_.erase(header.upload_id());
  }
  POT_RETURN_IF_ERROR(Leave("UploadSnapshot"));
  return v1::UploadSnapshotResponse();
}

absl::StatusOr<v1::UploadCheckpointResponse>
FakeWorkerService::UploadCheckpoint(const v1::CheckpointUploadHeader& header,
                                    NextChunk next) {
  POT_RETURN_IF_ERROR(Enter("UploadCheckpoint", &header.upload().lease()));
  POT_ASSIGN_OR_RETURN(const FakeUpload upload, Take(header.upload(), next));
  {
    MutexLock lock(&mutex_);
    std::map<std::string, std::string> files;
    for (int i = 0; i < upload.header.files_size(); ++i) {
      files[upload.header.files(i).path()] = upload.files[i];
    }
    const std::string& id = upload.header.upload_id();
    if (checkpoints.contains(id) && checkpoints[id] != files) {
      return absl::AlreadyExistsError("other bytes");
    }
    checkpoints[id] = std::move(files);
    evaluations[id] = header.evaluation();
  }
  POT_RETURN_IF_ERROR(Leave("UploadCheckpoint"));
  return v1::UploadCheckpointResponse();
}

}  // namespace pot
