#include "server/serving/error_details.h"

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

TEST(ErrorDetailsTest, ComeBackAsTheyWere) {
  const absl::Status status = WithDetails(
      absl::ResourceExhaustedError("too many"),
      {.reason = "QUEUE_FULL",
       .metadata = {{"limit", "3:4"}, {"value", std::string("\0\xff", 2)}},
       .retry_after = absl::Milliseconds(1500),
       .field = "sampling.top_p"});
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "too many");
  const auto details = GetDetails(status);
  ASSERT_TRUE(details.has_value());
  EXPECT_EQ(details->reason, "QUEUE_FULL");
  EXPECT_EQ(details->field, "sampling.top_p");
  EXPECT_EQ(details->retry_after, absl::Milliseconds(1500));
  EXPECT_THAT(details->metadata,
              ElementsAre(Pair("limit", "3:4"),
                          Pair("value", std::string("\0\xff", 2))));
}

TEST(ErrorDetailsTest, EmptyDetailsAreDetailsToo) {
  const auto details = GetDetails(WithDetails(absl::InternalError("x"), {}));
  ASSERT_TRUE(details.has_value());
  EXPECT_EQ(details->reason, "");
  EXPECT_FALSE(details->retry_after.has_value());
  EXPECT_TRUE(details->metadata.empty());
}

TEST(ErrorDetailsTest, WhatWasAttachedFirstStays) {
  absl::Status status =
      WithDetails(absl::InvalidArgumentError("x"),
                  {.reason = "INVALID_FIELD", .metadata = {{"limit", "1"}}});
  status = WithDetails(status, {.reason = "OTHER",
                                .metadata = {{"limit", "2"}, {"value", "9"}},
                                .retry_after = absl::Seconds(1),
                                .field = "n"});
  const auto details = GetDetails(status);
  ASSERT_TRUE(details.has_value());
  EXPECT_EQ(details->reason, "INVALID_FIELD");
  EXPECT_EQ(details->field, "n");
  EXPECT_EQ(details->retry_after, absl::Seconds(1));
  EXPECT_THAT(details->metadata,
              ElementsAre(Pair("limit", "1"), Pair("value", "9")));
}

TEST(ErrorDetailsTest, OkCarriesNone) {
  const absl::Status status =
      WithDetails(absl::OkStatus(), {.reason = "QUEUE_FULL"});
  EXPECT_TRUE(status.ok());
  EXPECT_FALSE(GetDetails(status).has_value());
}

TEST(ErrorDetailsTest, ForeignBytesAreNoDetails) {
  EXPECT_FALSE(GetDetails(absl::InternalError("x")).has_value());
  for (const char* bytes : {"", "x", "1", "1:", "5:ab", "1:a", "1:a1:b",
                            "1:a1:b1:x", "1:a1:b0:", "1:a1:b0:0:1:k",
                            "99999999999999999999:a", "-1:a", "1:a1:b0:x"}) {
    absl::Status status = absl::InternalError("x");
    status.SetPayload("pot.ErrorDetails", absl::Cord(bytes));
    EXPECT_FALSE(GetDetails(status).has_value()) << bytes;
  }
}

TEST(ErrorDetailsTest, AFullDiskIsABudget) {
  const absl::Status full = DiskError(ENOSPC, "cannot write the text");
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_EQ(GetDetails(full)->reason, "DISK_BUDGET");
  EXPECT_EQ(full.message().substr(0, 22), "cannot write the text:");
  const absl::Status denied = DiskError(EACCES, "cannot write the text");
  EXPECT_TRUE(absl::IsPermissionDenied(denied)) << denied;
  EXPECT_FALSE(GetDetails(denied).has_value());
}

}  // namespace
}  // namespace pot
