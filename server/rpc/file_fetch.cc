#include "server/rpc/file_fetch.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/crc32c.h"
#include "engine/base/status_macros.h"
#include "server/rpc/hand_over.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

constexpr int64_t kChunkBytes = int64_t{256} << 10;

// One thing at a time, so that nothing here needs a lock: the search on the
// pool, then a write, then its OnWriteDone, .., the finish. Deletes itself when
// gRPC is done with it, which is after the finish.
class FetchReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  using Wrap =
      std::function<absl::Status(v1::TransferChunk chunk, grpc::ByteBuffer*)>;
  FetchReactor(std::unique_ptr<Call> call, int64_t offset, Wrap wrap)
      : call_(std::move(call)), offset_(offset), wrap_(std::move(wrap)) {}
  ~FetchReactor() override {
    if (fd_ >= 0) close(fd_);
  }

  void Begin(const absl::StatusOr<FetchedFile>& file) {
    const absl::Status status = Open(file);
    if (status.ok()) {
      Next();
    } else {
      End(status);
    }
  }
  void End(const absl::Status& status) {
    const grpc::Status end = call_->End(status);
    turn_.Give();
    Finish(end);
  }

  void OnWriteDone(bool ok) override {
    turn_.Take();
    if (ok && !cancelled_) {
      Next();
    } else {
      End(WithDetails(absl::CancelledError("the client is gone"),
                      {.reason = "CLIENT_CANCELLED"}));
    }
  }
  void OnCancel() override { cancelled_ = true; }
  void OnDone() override {
    turn_.Take();
    delete this;
  }

 private:
  absl::Status Open(const absl::StatusOr<FetchedFile>& file) {
    POT_RETURN_IF_ERROR(file.status());
    size_ = file->size;
    if (offset_ < 0 || offset_ > size_) {
      return WithDetails(
          absl::OutOfRangeError(absl::StrCat("offset must be in [0, ", size_,
                                             "]; it is ", offset_)),
          {.reason = "OFFSET_OUT_OF_RANGE",
           .metadata = {{"limit", absl::StrCat(size_)},
                        {"value", absl::StrCat(offset_)}},
           .field = "offset"});
    }
    fd_ = open(file->path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd_ < 0) return absl::ErrnoToStatus(errno, "cannot open the file");
    return absl::OkStatus();
  }

  absl::Status ReadChunk(v1::TransferChunk* chunk) {
    std::string* const data = chunk->mutable_data();
    data->resize(static_cast<size_t>(std::min(kChunkBytes, size_ - offset_)));
    size_t done = 0;
    while (done < data->size()) {
      const ssize_t n =
          pread(fd_, data->data() + done, data->size() - done,
                static_cast<off_t>(offset_ + static_cast<int64_t>(done)));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return absl::ErrnoToStatus(errno, "cannot read the file");
      if (n == 0) {
        return absl::DataLossError(
            absl::StrCat("the file ends before its ", size_, " bytes"));
      }
      done += static_cast<size_t>(n);
    }
    chunk->set_offset(offset_);
    chunk->set_crc32c(Crc32c(absl::MakeConstSpan(
        reinterpret_cast<const uint8_t*>(data->data()), data->size())));
    offset_ += static_cast<int64_t>(data->size());
    return absl::OkStatus();
  }

  void Next() {
    if (offset_ == size_) return End(absl::OkStatus());
    v1::TransferChunk chunk;
    message_.Clear();
    absl::Status status = ReadChunk(&chunk);
    if (status.ok()) status = wrap_(std::move(chunk), &message_);
    if (!status.ok()) return End(status);
    turn_.Give();
    StartWrite(&message_);
  }

  const std::unique_ptr<Call> call_;
  int64_t offset_;  // of the next chunk
  const Wrap wrap_;
  int64_t size_ = 0;
  int fd_ = -1;
  grpc::ByteBuffer message_;
  std::atomic<bool> cancelled_ = false;
  HandOver turn_;
};

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* StartFileFetch(
    std::unique_ptr<Call> call, const absl::Status& begun, WorkerPool* pool,
    std::function<absl::StatusOr<FetchedFile>()> find, int64_t offset,
    std::function<absl::Status(v1::TransferChunk chunk, grpc::ByteBuffer*)>
        wrap) {
  auto* const reactor =
      new FetchReactor(std::move(call), offset, std::move(wrap));
  absl::Status status = begun;
  if (status.ok()) {
    status = pool->Submit(
        [reactor, find = std::move(find)] { reactor->Begin(find()); });
  }
  if (!status.ok()) reactor->End(status);
  return reactor;
}

}  // namespace pot
