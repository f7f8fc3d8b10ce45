#include "engine/checkpoint/manifest.h"

#include <unistd.h>

#include <functional>

#include "engine/base/sha256.h"
#include "tests/engine/checkpoint/checkpoint_test_util.h"

namespace pot {
namespace {

using absl::StatusCode;

constexpr int64_t kCreated = 1700000000;

class ManifestTest : public testing::Test {
 protected:
  void SetUp() override {
    WriteAll(directory_ / "config.json", "{}");
    WriteAll(directory_ / "weights", std::string(100000, 'w'));
  }

  TempDirectory directory_;
};

TEST_F(ManifestTest, ListsEveryFileWithSizeAndDigest) {
  const auto written = WriteManifest(directory_.path(), kCreated, "pot 0.1.0");
  POT_ASSERT_OK(written);
  const auto manifest = ReadManifest(directory_.path());
  POT_ASSERT_OK(manifest);
  EXPECT_EQ(manifest->created_unix_seconds, kCreated);
  EXPECT_EQ(manifest->tool_version, "pot 0.1.0");
  EXPECT_EQ(manifest->total_bytes(), 100002);
  ASSERT_EQ(manifest->files.size(), 2u);
  // printf '{}' | sha256sum
  EXPECT_EQ(manifest->files.at("config.json").sha256,
            "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
  EXPECT_EQ(manifest->files.at("weights").bytes, 100000);
  EXPECT_EQ(manifest->digest,
            Sha256Hex(AsBytes(ReadAll(directory_ / kManifestFile))));
  EXPECT_EQ(manifest->digest, written->digest);
  POT_EXPECT_OK(VerifyManifest(directory_.path(), *manifest));
}

TEST_F(ManifestTest, TheDigestDependsOnContentNotOnPlace) {
  const TempDirectory other;
  WriteAll(other / "weights", std::string(100000, 'w'));
  WriteAll(other / "config.json", "{}");
  const auto a = WriteManifest(directory_.path(), kCreated, "t");
  const auto b = WriteManifest(other.path(), kCreated, "t");
  WriteAll(other / "config.json", "{ }");
  const auto c = WriteManifest(other.path(), kCreated, "t");
  EXPECT_EQ(a->digest, b->digest);
  EXPECT_NE(a->digest, c->digest);
}

struct Tampering {
  std::string what;
  std::function<void(const TempDirectory&)> tamper;
  std::string message;
};

TEST(ManifestTampering, EveryListedChangeIsDataLoss) {
  const std::vector<Tampering> cases = {
      {"one bit of a file",
       [](const TempDirectory& d) {
         std::string bytes(1000, 'w');
         bytes[500] ^= 1;
         WriteAll(d / "weights", bytes);
       },
       "weights: SHA-256 is "},
      {"a file is longer",
       [](const TempDirectory& d) {
         WriteAll(d / "weights", std::string(1001, 'w'));
       },
       "weights: 1001 bytes, expected 1000"},
      {"a file is truncated",
       [](const TempDirectory& d) { WriteAll(d / "weights", ""); },
       "weights: 0 bytes, expected 1000"},
      {"a file is missing",
       [](const TempDirectory& d) { std::filesystem::remove(d / "weights"); },
       "weights: listed in manifest.json, but missing"},
      {"a file is added",
       [](const TempDirectory& d) { WriteAll(d / "more", "x"); },
       "more: not listed in manifest.json"},
      {"a hidden file is added",
       [](const TempDirectory& d) { WriteAll(d / ".more", "x"); },
       ".more: not listed"},
      {"a directory is added",
       [](const TempDirectory& d) {
         std::filesystem::create_directory(d / "sub");
       },
       "sub: not a regular file"},
      {"a file became a link",
       [](const TempDirectory& d) {
         std::filesystem::rename(d / "weights", d.path() + "-moved");
         std::filesystem::create_symlink(d.path() + "-moved", d / "weights");
       },
       "weights: not a regular file"},
      {"the manifest itself",
       [](const TempDirectory& d) {
         WriteAll(d / kManifestFile, ReadAll(d / kManifestFile) + " ");
       },
       "manifest.json: SHA-256 is "},
  };
  for (const Tampering& tampering : cases) {
    SCOPED_TRACE(tampering.what);
    const TempDirectory directory;
    WriteAll(directory / "weights", std::string(1000, 'w'));
    const auto manifest = WriteManifest(directory.path(), kCreated, "t");
    POT_ASSERT_OK(manifest);
    POT_ASSERT_OK(VerifyManifest(directory.path(), *manifest));
    tampering.tamper(directory);
    ExpectError(VerifyManifest(directory.path(), *manifest),
                StatusCode::kDataLoss, tampering.message);
    std::filesystem::remove(directory.path() + "-moved");
  }
}

struct BadManifest {
  std::string what;
  std::string text;
  std::string message;
};

TEST_F(ManifestTest, EveryListedManifestIsRefusedWithItsReason) {
  const std::string digest(64, 'a');
  const auto with_file = [&](const std::string& name,
                             const std::string& entry) {
    return absl::StrCat(
        "{\"created_unix_seconds\":1,\"tool_version\":\"t\",\"files\":{\"",
        name, "\":", entry, "}}");
  };
  const std::string good_entry =
      absl::StrCat("{\"bytes\":1,\"sha256\":\"", digest, "\"}");
  const std::string bad_name = "must be UTF-8 without slash";
  const std::vector<BadManifest> cases = {
      {"empty", "", "manifest.json"},
      {"not JSON", "files", "manifest.json"},
      {"a list", "[]", "must be a JSON object"},
      {"nested too deep", std::string(100000, '['), "nesting"},
      {"no time", "{\"tool_version\":\"t\",\"files\":{}}",
       "\"created_unix_seconds\" must be"},
      {"time beyond 64 bits",
       "{\"created_unix_seconds\":18446744073709551615,"
       "\"tool_version\":\"t\",\"files\":{}}",
       "\"created_unix_seconds\" must be"},
      {"no tool version", "{\"created_unix_seconds\":1,\"files\":{}}",
       "\"tool_version\" must be"},
      {"no files", "{\"created_unix_seconds\":1,\"tool_version\":\"t\"}",
       "\"files\" must be an object"},
      {"empty files",
       "{\"created_unix_seconds\":1,\"tool_version\":\"t\",\"files\":{}}",
       "at least one file"},
      {"parent directory", with_file("../weights", good_entry), bad_name},
      {"absolute path", with_file("/etc/passwd", good_entry), bad_name},
      {"dots", with_file("..", good_entry), bad_name},
      {"hidden file", with_file(".weights", good_entry), bad_name},
      {"empty name", with_file("", good_entry), bad_name},
      {"control character", with_file("a\\nb", good_entry),
       "file name \"a\\nb\""},
      {"the manifest itself", with_file("manifest.json", good_entry), bad_name},
      {"entry is a string", with_file("w", "\"x\""),
       "file \"w\": its entry must be an object"},
      {"negative size",
       with_file("w",
                 absl::StrCat("{\"bytes\":-1,\"sha256\":\"", digest, "\"}")),
       "\"bytes\" must be a non-negative"},
      {"no digest", with_file("w", "{\"bytes\":1}"),
       "\"sha256\" must be 64 lower-case"},
      {"short digest", with_file("w", "{\"bytes\":1,\"sha256\":\"aa\"}"),
       "\"sha256\" must be 64 lower-case"},
      {"digest of other characters",
       with_file("w", absl::StrCat("{\"bytes\":1,\"sha256\":\"",
                                   std::string(64, 'g'), "\"}")),
       "\"sha256\" must be 64 lower-case"},
      {"sizes overflow",
       absl::StrCat(
           "{\"created_unix_seconds\":1,\"tool_version\":\"t\",\"files\":{",
           "\"a\":{\"bytes\":9223372036854775807,\"sha256\":\"", digest,
           "\"},\"b\":", good_entry, "}}"),
       "add up to more than 9223372036854775807"},
      {"too long", std::string((4 << 20) + 1, ' '), "4194305 bytes"},
  };
  for (const BadManifest& bad : cases) {
    SCOPED_TRACE(bad.what);
    WriteAll(directory_ / kManifestFile, bad.text);
    ExpectError(ReadManifest(directory_.path()), StatusCode::kInvalidArgument,
                bad.message);
  }
}

TEST_F(ManifestTest, ReadNeedsAManifest) {
  ExpectError(ReadManifest(directory_.path()), StatusCode::kNotFound,
              "manifest.json");
}

TEST_F(ManifestTest, WriteRefusesWhatIsNoModelVersion) {
  const TempDirectory empty;
  ExpectError(WriteManifest(empty.path(), kCreated, "t"),
              StatusCode::kInvalidArgument, "holds no file to publish");
  ExpectError(WriteManifest(empty / "absent", kCreated, "t"),
              StatusCode::kNotFound, "absent");
  ExpectError(WriteManifest(directory_.path(), kCreated, "\xff"),
              StatusCode::kInvalidArgument, "is not UTF-8");
  std::filesystem::create_directory(directory_ / "sub");
  ExpectError(WriteManifest(directory_.path(), kCreated, "t"),
              StatusCode::kInvalidArgument, "\"sub\" is not a regular file");
  std::filesystem::remove(directory_ / "sub");
  std::filesystem::create_symlink("/etc/passwd", directory_ / "link");
  ExpectError(WriteManifest(directory_.path(), kCreated, "t"),
              StatusCode::kInvalidArgument, "\"link\" is not a regular file");
  std::filesystem::remove(directory_ / "link");
  WriteAll(directory_ / ".hidden", "x");
  ExpectError(WriteManifest(directory_.path(), kCreated, "t"),
              StatusCode::kInvalidArgument, "file name \".hidden\"");
  EXPECT_FALSE(std::filesystem::exists(directory_ / kManifestFile));
}

}  // namespace
}  // namespace pot
