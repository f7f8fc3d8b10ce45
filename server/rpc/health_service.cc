#include "server/rpc/health_service.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "server/rpc/caller.h"
#include "server/rpc/status.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

using Response = HealthService::Response;

// Longer than any name.
constexpr size_t kMaxServiceBytes = 200;

absl::Status UnknownName() {
  return WithDetails(absl::NotFoundError("no such name in the health service"),
                     {.reason = "MODEL_NOT_FOUND"});
}

// Sends the status whenever it is another than the one sent last, one write at
// a time; holds itself until gRPC is done with it.
class WatchReactor final : public grpc::ServerWriteReactor<Response>,
                           public HealthWatcher,
                           public std::enable_shared_from_this<WatchReactor> {
 public:
  WatchReactor(HealthStatuses* statuses, std::string service)
      : statuses_(statuses), service_(std::move(service)) {}

  void Begin(absl::Status begun) {
    self_ = shared_from_this();
    if (begun.ok() && !statuses_->Watch(service_, self_)) {
      begun = WithDetails(
          absl::ResourceExhaustedError("too many unknown names are watched"),
          {.reason = "QUEUE_FULL"});
    }
    if (begun.ok()) {
      Advance();
    } else {
      End(begun);
    }
  }

  void OnChange() override { Advance(); }
  void OnWriteDone(bool ok) override {
    {
      MutexLock lock(&mutex_);
      writing_ = false;
      if (!ok) over_ = true;
    }
    Advance();
  }
  void OnCancel() override {
    {
      MutexLock lock(&mutex_);
      over_ = true;
    }
    Advance();
  }
  void OnDone() override {
    const std::shared_ptr<WatchReactor> last(std::move(self_));
  }

 private:
  Response::ServingStatus Current() const {
    const std::optional<bool> serving = statuses_->Get(service_);
    if (!serving.has_value()) return Response::SERVICE_UNKNOWN;
    return *serving ? Response::SERVING : Response::NOT_SERVING;
  }

  // Writes, or finishes, without the lock: gRPC may answer on this thread.
  void Advance() {
    bool write = false;
    {
      MutexLock lock(&mutex_);
      if (writing_ || finished_) return;
      if (!over_) {
        const Response::ServingStatus status = Current();
        if (status == sent_) return;
        sent_ = status;
        message_.set_status(status);
        write = writing_ = true;
      } else {
        finished_ = true;
      }
    }
    if (write) {
      StartWrite(&message_);
    } else {
      Finish(ToGrpcStatus(absl::CancelledError("the client is gone")));
    }
  }

  void End(const absl::Status& status) {
    {
      MutexLock lock(&mutex_);
      finished_ = true;
    }
    Finish(ToGrpcStatus(status));
  }

  HealthStatuses* const statuses_;
  const std::string service_;
  std::shared_ptr<WatchReactor> self_;
  Mutex mutex_;
  Response::ServingStatus sent_ ABSL_GUARDED_BY(mutex_) = Response::UNKNOWN;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  Response message_;  // of the one who set writing_
};

}  // namespace

void HealthStatuses::Collect(Entry* entry, Alive* watchers) {
  auto& all = entry->watchers;
  all.erase(std::remove_if(all.begin(), all.end(),
                           [watchers](const auto& watcher) {
                             auto alive = watcher.lock();
                             if (alive == nullptr) return true;
                             watchers->push_back(std::move(alive));
                             return false;
                           }),
            all.end());
}

void HealthStatuses::SetServingStatus(const std::string& service,
                                      bool serving) {
  Alive watchers;
  {
    MutexLock lock(&mutex_);
    Entry& entry = entries_[service];
    entry.serving = serving && !shut_down_;
    Collect(&entry, &watchers);
  }
  for (const auto& watcher : watchers) watcher->OnChange();
}

void HealthStatuses::SetServingStatus(bool serving) {
  Alive watchers;
  {
    MutexLock lock(&mutex_);
    for (auto& [service, entry] : entries_) {
      if (!entry.serving.has_value()) continue;
      entry.serving = serving && !shut_down_;
      Collect(&entry, &watchers);
    }
  }
  for (const auto& watcher : watchers) watcher->OnChange();
}

void HealthStatuses::Shutdown() {
  {
    MutexLock lock(&mutex_);
    shut_down_ = true;
  }
  SetServingStatus(false);
}

std::optional<bool> HealthStatuses::Get(const std::string& service) const {
  MutexLock lock(&mutex_);
  const auto entry = entries_.find(service);
  return entry == entries_.end() ? std::nullopt : entry->second.serving;
}

bool HealthStatuses::Watch(const std::string& service,
                           const std::shared_ptr<HealthWatcher>& watcher) {
  Alive alive;  // Their last owners must not be in the lock.
  MutexLock lock(&mutex_);
  if (entries_.size() >= kMaxNames) {
    // Names that nobody set and nobody watches any more.
    for (auto entry = entries_.begin(); entry != entries_.end();) {
      Collect(&entry->second, &alive);
      const bool unused =
          !entry->second.serving.has_value() && entry->second.watchers.empty();
      entry = unused ? entries_.erase(entry) : std::next(entry);
    }
    if (entries_.size() >= kMaxNames && entries_.count(service) == 0) {
      return false;
    }
  }
  Entry& entry = entries_[service];
  Collect(&entry, &alive);
  entry.watchers.push_back(watcher);
  return true;
}

absl::Status HealthService::Authorize(const grpc::CallbackServerContext& rpc,
                                      const std::string& service) const {
  if (access_ == nullptr || service.empty()) return absl::OkStatus();
  return access_->Authenticate(AuthorizationOf(rpc)).status();
}

grpc::ServerUnaryReactor* HealthService::Check(grpc::CallbackServerContext* rpc,
                                               const Request* request,
                                               Response* response) {
  grpc::ServerUnaryReactor* const reactor = rpc->DefaultReactor();
  absl::Status status = Authorize(*rpc, request->service());
  if (status.ok()) {
    const std::optional<bool> serving = statuses_->Get(request->service());
    if (!serving.has_value()) status = UnknownName();
    response->set_status(serving.value_or(false) ? Response::SERVING
                                                 : Response::NOT_SERVING);
  }
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

grpc::ServerWriteReactor<Response>* HealthService::Watch(
    grpc::CallbackServerContext* rpc, const Request* request) {
  const auto reactor =
      std::make_shared<WatchReactor>(statuses_, request->service());
  absl::Status status = Authorize(*rpc, request->service());
  if (status.ok() && request->service().size() > kMaxServiceBytes) {
    status = UnknownName();
  }
  reactor->Begin(status);
  return reactor.get();
}

}  // namespace pot
