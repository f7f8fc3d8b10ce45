#include "server/rpc/status.h"

#include <string>

#include "engine/base/utf8.h"
#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "server/serving/error_details.h"

namespace pot {
namespace {

google::rpc::Status Details(const grpc::Status& status) {
  google::rpc::Status details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  return details;
}

google::rpc::ErrorInfo Info(const grpc::Status& status) {
  google::rpc::ErrorInfo info;
  EXPECT_TRUE(Details(status).details(0).UnpackTo(&info));
  return info;
}

TEST(ToGrpcStatusTest, OkIsOk) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_EQ(ErrorReason(absl::OkStatus()), "");
}

TEST(ToGrpcStatusTest, DetailsBecomeMessagesOfGoogleRpc) {
  const grpc::Status status =
      ToGrpcStatus(WithDetails(absl::ResourceExhaustedError("full"),
                               {.reason = "QUEUE_FULL",
                                .metadata = {{"limit", "8"}, {"value", "9"}},
                                .retry_after = absl::Milliseconds(1500),
                                .field = "model"}));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "full");
  const google::rpc::Status details = Details(status);
  EXPECT_EQ(details.code(), 8);
  EXPECT_EQ(details.message(), "full");
  ASSERT_EQ(details.details_size(), 3);
  EXPECT_EQ(Info(status).reason(), "QUEUE_FULL");
  EXPECT_EQ(Info(status).domain(), "pot.v1");
  EXPECT_EQ(Info(status).metadata().at("limit"), "8");
  EXPECT_EQ(Info(status).metadata().at("value"), "9");
  google::rpc::RetryInfo retry;
  ASSERT_TRUE(details.details(1).UnpackTo(&retry));
  EXPECT_EQ(retry.retry_delay().seconds(), 1);
  EXPECT_EQ(retry.retry_delay().nanos(), 500000000);
  google::rpc::BadRequest bad;
  ASSERT_TRUE(details.details(2).UnpackTo(&bad));
  EXPECT_EQ(bad.field_violations(0).field(), "model");
  EXPECT_EQ(bad.field_violations(0).description(), "full");
}

TEST(ToGrpcStatusTest, EveryCodeKeepsItsNumberAndHasAReason) {
  for (int code = 1; code <= 16; ++code) {
    const grpc::Status status = ToGrpcStatus(
        absl::Status(static_cast<absl::StatusCode>(code), "message"));
    EXPECT_EQ(static_cast<int>(status.error_code()), code);
    EXPECT_FALSE(Info(status).reason().empty()) << code;
  }
}

// Trailers are limited, and gRPC would fail the call if they were not fit.
TEST(ToGrpcStatusTest, LongAndIllFormedTextsAreMadeToFit) {
  std::string text;
  while (text.size() < 5000) text += "\xc3\xa9\xff";
  const grpc::Status status =
      ToGrpcStatus(WithDetails(absl::InvalidArgumentError(text),
                               {.reason = "R", .metadata = {{"value", text}}}));
  EXPECT_LE(status.error_message().size(), kMaxErrorMessageBytes);
  EXPECT_EQ(FindInvalidUtf8(status.error_message()),
            status.error_message().size());
  EXPECT_LE(Info(status).metadata().at("value").size(), kMaxErrorValueBytes);
}

}  // namespace
}  // namespace pot
