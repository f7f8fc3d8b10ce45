#include "engine/base/sha256.h"

#include "absl/strings/string_view.h"
#include "engine/base/file.h"
#include "gtest/gtest.h"

namespace pot {
namespace {

absl::Span<const uint8_t> Bytes(absl::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// NIST's examples for FIPS 180-4: empty, one block, two blocks, 10^6 letters.
TEST(Sha256Test, KnownAnswers) {
  EXPECT_EQ(Sha256Hex({}),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256Hex(Bytes("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256Hex(Bytes(
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(Sha256Hex(Bytes(std::string(1000000, 'a'))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256Test, PiecesEqualTheWhole) {
  Sha256 sha256;
  sha256.Update(Bytes("a"));
  sha256.Update({});
  sha256.Update(Bytes("bc"));
  EXPECT_EQ(sha256.HexDigest(), Sha256Hex(Bytes("abc")));
}

TEST(Sha256Test, LooksLikeOne) {
  EXPECT_TRUE(IsSha256Hex(Sha256Hex({})));
  EXPECT_FALSE(IsSha256Hex(Sha256Hex({}).substr(1)));
  EXPECT_FALSE(IsSha256Hex(std::string(64, 'A')));
  EXPECT_FALSE(IsSha256Hex(""));
}

TEST(Sha256Test, FileLongerThanOnePiece) {
  const std::string path = testing::TempDir() + "/sha256_test_file";
  const std::string contents((size_t{1} << 20) * 2 + 17, 'x');
  ASSERT_TRUE(WriteFile(path, contents).ok());
  const absl::StatusOr<std::string> digest = Sha256File(path);
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_EQ(*digest, Sha256Hex(Bytes(contents)));
}

TEST(Sha256Test, MissingFileIsNotFound) {
  EXPECT_EQ(Sha256File(testing::TempDir() + "/no/such").status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace pot
