#ifndef POT_CLIENT_CONNECTION_H_
#define POT_CLIENT_CONNECTION_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/interrupter.h"
#include "client/transport/channel_security.h"

namespace grpc {
class Channel;
class ClientContext;
class Status;
}  // namespace grpc

namespace pot {

// A channel to one server. Nothing connects before the first call. Calls that
// fail with UNAVAILABLE before anything came back are tried up to four times,
// but not those whose repetition could do harm.
class Connection {
 public:
  // `timeout` is that of each call. Borrows `interrupter`.
  Connection(std::string server, absl::Duration timeout,
             Interrupter* interrupter, ChannelSecurity security);

  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  // A transport connection of its own, on which no call is tried again: for
  // measuring, where each call counts.
  std::shared_ptr<grpc::Channel> NewPlainChannel() const;
  const std::string& server() const { return server_; }
  absl::Duration timeout() const { return timeout_; }
  Interrupter* interrupter() const { return interrupter_; }

 private:
  const std::string server_;
  const absl::Duration timeout_;
  Interrupter* const interrupter_;
  const ChannelSecurity security_;
  std::shared_ptr<grpc::Channel> channel_;
};

// One call: its deadline, and its cancellation by Ctrl-C.
class Call {
 public:
  explicit Call(const Connection& connection);
  // With a deadline of its own; `timeout` may be infinite.
  Call(const Connection& connection, absl::Duration timeout);
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  grpc::ClientContext* context() { return context_.get(); }
  // Of the call's end, with its details as text.
  absl::Status ToStatus(const grpc::Status& status) const;

 private:
  const Connection& connection_;
  std::unique_ptr<grpc::ClientContext> context_;
  int callback_ = 0;
};

}  // namespace pot

#endif  // POT_CLIENT_CONNECTION_H_
