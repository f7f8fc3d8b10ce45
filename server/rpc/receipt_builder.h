// The replay receipt of one Generate call.
#ifndef POT_SERVER_RPC_RECEIPT_BUILDER_H_
#define POT_SERVER_RPC_RECEIPT_BUILDER_H_

#include <string>

#include "pot/v1/common.pb.h"
#include "pot/v1/inference.pb.h"
#include "server/rpc/request_parser.h"
#include "server/serving/generate_task.h"

namespace pot {

// The request in effect: see v1::ReplayReceipt. Parsed again it gives the same
// task, but for what the answer shall contain.
v1::GenerateRequest EffectiveRequest(const ParsedGenerate& parsed);

// v1::ReplayReceipt.output_sha256 of its sequences.
std::string OutputDigest(const v1::ReplayReceipt& receipt);

class ReceiptBuilder {
 public:
  explicit ReceiptBuilder(const ParsedGenerate& parsed);

  // Every event of the call, once. It has checksums.
  void AddEvent(const TokenEvent& event);
  // `identity` is the answer's.
  v1::ReplayReceipt Build(const v1::ModelIdentity& identity) const;

 private:
  const KvType kv_type_;
  v1::ReplayReceipt receipt_;  // all but what Build() adds
};

}  // namespace pot

#endif  // POT_SERVER_RPC_RECEIPT_BUILDER_H_
