#ifndef POT_SERVER_RPC_HAND_OVER_H_
#define POT_SERVER_RPC_HAND_OVER_H_

#include <atomic>

namespace pot {

// What one thread did before Give() is there for the thread that Take()s. Of
// reactors that do one thing at a time: gRPC orders their reads and writes, but
// in a library that ThreadSanitizer does not look into.
class HandOver {
 public:
  void Give() { turns_.fetch_add(1, std::memory_order_release); }
  void Take() const {
    static_cast<void>(turns_.load(std::memory_order_acquire));
  }

 private:
  std::atomic<int> turns_{0};
};

}  // namespace pot

#endif  // POT_SERVER_RPC_HAND_OVER_H_
