#include "server/rpc/wire.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pot/v1/inference.pb.h"
#include "tests/server/rpc/rpc_testing.h"

namespace pot {
namespace {

using ::testing::HasSubstr;

class WireTest : public testing::Test {
 protected:
  void SetUp() override { SilenceProtobufUtf8Errors(); }
};

// Wire bytes of a field of type string, which setters of C++ do not check.
TEST_F(WireTest, WrongStringsAreNamedWithPathAndOffset) {
  v1::GenerateRequest request;
  request.set_text(std::string("ab\xff"));
  EXPECT_THAT(
      Describe(ParseMessage(request.SerializePartialAsString(), &request)),
      HasSubstr("INVALID_ARGUMENT INVALID_UTF8 text value=2"));

  v1::GenerateRequest stops;
  stops.mutable_stopping()->add_stop_strings(std::string("fine"));
  stops.mutable_stopping()->add_stop_strings(std::string("\xc3"));
  EXPECT_THAT(Describe(ParseMessage(stops.SerializePartialAsString(), &stops)),
              HasSubstr("INVALID_UTF8 stopping.stop_strings[1] value=0"));
}

TEST_F(WireTest, OtherBytesAreMalformed) {
  v1::GenerateRequest request;
  EXPECT_THAT(Describe(ParseMessage("\xff\xff\xff", &request)),
              HasSubstr("INVALID_ARGUMENT MALFORMED_MESSAGE"));
  EXPECT_THAT(Describe(ParseMessage("\x1a\x7f", &request)),
              HasSubstr("pot.v1.GenerateRequest"));
}

TEST_F(WireTest, MessagesSurviveAndTheBufferStaysReadable) {
  v1::TokenizeRequest request;
  request.set_text("gr\xc3\xbc\xc3\x9f dich");
  grpc::ByteBuffer bytes;
  ASSERT_TRUE(SerializeMessage(request, &bytes).ok());
  for (int i = 0; i < 2; ++i) {
    v1::TokenizeRequest parsed;
    ASSERT_TRUE(ParseMessage(bytes, &parsed).ok());
    EXPECT_EQ(parsed.text(), request.text());
  }
}

}  // namespace
}  // namespace pot
