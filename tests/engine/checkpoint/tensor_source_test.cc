#include "engine/checkpoint/tensor_source.h"

#include <unistd.h>

#include <cmath>
#include <functional>
#include <limits>

#include "engine/base/half.h"
#include "engine/base/sha256.h"
#include "test_paths.h"
#include "tests/engine/checkpoint/checkpoint_test_util.h"

namespace pot {
namespace {

using absl::StatusCode;
using testing::ElementsAre;

constexpr char kSingle[] = "model.safetensors";
constexpr char kIndex[] = "model.safetensors.index.json";

// A file with one F32 tensor [1] of each name.
void WriteTensors(const std::string& path,
                  const std::vector<std::string>& names, float value) {
  const std::vector<float> values = {value};
  std::vector<std::pair<std::string, TensorView>> tensors;
  for (const std::string& name : names) {
    tensors.emplace_back(name, ViewOf(TensorType::kF32, {1}, values));
  }
  POT_ASSERT_OK(WriteSafetensors(path, tensors, {}));
}

std::string IndexOf(const std::string& weight_map) {
  return absl::StrCat("{\"metadata\":{},\"weight_map\":", weight_map, "}");
}

TEST(TensorSource, ReadsOneFileAndWidensExactly) {
  const TempDirectory directory;
  const std::vector<float> f32 = {1.5f, -0.0f, 1e-40f, 3e38f, 5, 6};
  const std::vector<uint16_t> f16 = {0x3c00, 0x0001, 0xfbff};
  const std::vector<uint16_t> bf16 = {0x3f80, 0xc049, 0x0001};
  // The odd byte first leaves every other tensor unaligned.
  const std::vector<uint8_t> byte = {7};
  POT_ASSERT_OK(
      WriteSafetensors(directory / kSingle,
                       {{"mask", ViewOf(TensorType::kU8, {1}, byte)},
                        {"f32", ViewOf(TensorType::kF32, {2, 3}, f32)},
                        {"f16", ViewOf(TensorType::kF16, {3}, f16)},
                        {"bf16", ViewOf(TensorType::kBF16, {3}, bf16)},
                        {"empty", {TensorType::kF32, {0}, {}}}},
                       {}));
  const auto source = TensorSource::Open(directory.path());
  POT_ASSERT_OK(source);
  EXPECT_THAT((*source)->names(),
              ElementsAre("bf16", "empty", "f16", "f32", "mask"));
  EXPECT_TRUE((*source)->Has("f16"));
  EXPECT_FALSE((*source)->Has("f1"));
  EXPECT_EQ((*source)->ReadFloats("f32", {2, 3}).value(), f32);
  EXPECT_THAT((*source)->ReadFloats("f16", {3}).value(),
              ElementsAre(1.0f, 0x1p-24f, -65504.0f));
  EXPECT_THAT((*source)->ReadFloats("bf16", {3}).value(),
              ElementsAre(1.0f, -3.140625f, 0x1p-133f));
  EXPECT_TRUE((*source)->ReadFloats("empty", {0}).value().empty());
  EXPECT_EQ((*source)->Digest().value(),
            Sha256Hex(AsBytes(ReadAll(directory / kSingle))));
}

TEST(TensorSource, RefusesWrongShapesTypesAndNames) {
  const TempDirectory directory;
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const std::vector<int32_t> integers = {1, 2};
  POT_ASSERT_OK(
      WriteSafetensors(directory / kSingle,
                       {{"w", ViewOf(TensorType::kF32, {2, 3}, values)},
                        {"i", ViewOf(TensorType::kI32, {2}, integers)}},
                       {}));
  const auto source = TensorSource::Open(directory.path());
  POT_ASSERT_OK(source);
  ExpectError((*source)->ReadFloats("absent\n", {1}), StatusCode::kNotFound,
              "no tensor \"absent\\n\"");
  ExpectError((*source)->ReadFloats("w", {3, 2}), StatusCode::kInvalidArgument,
              "tensor \"w\": shape [2, 3], expected [3, 2]");
  ExpectError((*source)->ReadFloats("w", {6}), StatusCode::kInvalidArgument,
              "shape [2, 3], expected [6]");
  ExpectError((*source)->ReadFloats("w", {}), StatusCode::kInvalidArgument,
              "shape [2, 3], expected []");
  ExpectError((*source)->ReadFloats("i", {2}), StatusCode::kInvalidArgument,
              "tensor \"i\": type I32, expected F32, F16 or BF16");
}

TEST(TensorSource, NamesTheIndexOfAValueThatIsNotFinite) {
  const TempDirectory directory;
  std::vector<float> nan(6, 1.0f), inf(6, 1.0f);
  nan[4] = std::numeric_limits<float>::quiet_NaN();
  inf[5] = -std::numeric_limits<float>::infinity();
  const std::vector<uint16_t> half = {0x3c00, 0x7c00};
  const std::vector<uint16_t> bfloat = {0x7fc0};
  POT_ASSERT_OK(
      WriteSafetensors(directory / kSingle,
                       {{"nan", ViewOf(TensorType::kF32, {2, 3}, nan)},
                        {"inf", ViewOf(TensorType::kF32, {6}, inf)},
                        {"half", ViewOf(TensorType::kF16, {2}, half)},
                        {"bfloat", ViewOf(TensorType::kBF16, {}, bfloat)}},
                       {}));
  const auto source = TensorSource::Open(directory.path());
  POT_ASSERT_OK(source);
  ExpectError((*source)->ReadFloats("nan", {2, 3}),
              StatusCode::kInvalidArgument,
              "value nan at index [1, 1] is not finite");
  ExpectError((*source)->ReadFloats("inf", {6}), StatusCode::kInvalidArgument,
              "value -inf at index [5] is not finite");
  ExpectError((*source)->ReadFloats("half", {2}), StatusCode::kInvalidArgument,
              "value inf at index [1] is not finite");
  ExpectError((*source)->ReadFloats("bfloat", {}), StatusCode::kInvalidArgument,
              "value nan at index [] is not finite");
}

TEST(TensorSource, ReadsShards) {
  const TempDirectory directory;
  WriteTensors(directory / "b.safetensors", {"x"}, 1);
  WriteTensors(directory / "a.safetensors", {"y", "z"}, 2);
  WriteAll(directory / kIndex,
           IndexOf("{\"x\":\"b.safetensors\",\"y\":\"a.safetensors\"}"));
  const auto source = TensorSource::Open(directory.path());
  POT_ASSERT_OK(source);
  // z stands in a shard, though not in the index.
  EXPECT_THAT((*source)->names(), ElementsAre("x", "y", "z"));
  EXPECT_THAT((*source)->ReadFloats("x", {1}).value(), ElementsAre(1.0f));
  EXPECT_THAT((*source)->ReadFloats("y", {1}).value(), ElementsAre(2.0f));
  EXPECT_EQ((*source)->Digest().value(),
            Sha256Hex(AsBytes(ReadAll(directory / "a.safetensors") +
                              ReadAll(directory / "b.safetensors"))));
}

TEST(TensorSource, SurvivesThatItsFileIsCutOrReplaced) {
  const TempDirectory directory, copy;
  const std::vector<float> values(5000, 1.5f);
  const auto write = [&] {
    POT_ASSERT_OK(WriteSafetensors(
        directory / kSingle, {{"w", ViewOf(TensorType::kF32, {5000}, values)}},
        {}));
  };
  const std::function<void()> changes[] = {
      // A mapping would end here as a bus error.
      [&] { std::filesystem::resize_file(directory / kSingle, 0); },
      [&] { std::filesystem::resize_file(directory / kSingle, 9000); },
      [&] { std::filesystem::resize_file(directory / kSingle, 90000); },
      [&] { std::filesystem::remove(directory / kSingle); },
      write,
  };
  for (const auto& change : changes) {
    write();
    const auto source = TensorSource::Open(directory.path());
    POT_ASSERT_OK(source);
    EXPECT_EQ((*source)->ReadFloats("w", {5000}).value(), values);
    change();
    const std::string message = "model.safetensors was changed while";
    ExpectError((*source)->ReadFloats("w", {5000}),
                StatusCode::kFailedPrecondition, message);
    ExpectError((*source)->Digest(), StatusCode::kFailedPrecondition, message);
    ExpectError((*source)->CopyFiles(copy.path()),
                StatusCode::kFailedPrecondition, message);
  }
}

TEST(TensorSource, CopiesShardsAndIndexUnderTheirNames) {
  const TempDirectory directory, copy;
  WriteTensors(directory / "real", {"x"}, 1);
  std::filesystem::create_symlink("real", directory / "b.safetensors");
  WriteTensors(directory / "a.safetensors", {"y"}, 2);
  WriteAll(directory / kIndex,
           IndexOf("{\"x\":\"b.safetensors\",\"y\":\"a.safetensors\"}"));
  const auto source = TensorSource::Open(directory.path());
  POT_ASSERT_OK(source);
  POT_ASSERT_OK((*source)->CopyFiles(copy.path()));
  EXPECT_THAT(
      NamesIn(copy.path()),
      testing::UnorderedElementsAre("a.safetensors", "b.safetensors", kIndex));
  for (const std::string name : {"a.safetensors", "b.safetensors", kIndex}) {
    EXPECT_FALSE(std::filesystem::is_symlink(copy / name));
    EXPECT_EQ(ReadAll(copy / name), ReadAll(directory / name));
  }
}

TEST(TensorSource, TheSingleFileGoesBeforeAnIndex) {
  const TempDirectory directory;
  WriteTensors(directory / kSingle, {"x"}, 1);
  WriteAll(directory / kIndex, "not JSON");
  POT_EXPECT_OK(TensorSource::Open(directory.path()));
}

TEST(TensorSource, NeedsOneOfTheTwoFiles) {
  const TempDirectory directory;
  ExpectError(TensorSource::Open(directory.path()), StatusCode::kNotFound,
              "has neither model.safetensors nor model.safetensors.index.json");
  ExpectError(TensorSource::Open(directory / "absent"), StatusCode::kNotFound,
              "absent has neither");
}

struct BadIndex {
  std::string what;
  std::string index;
  std::string message;
};

TEST(TensorSourceHostile, EveryListedIndexIsRefusedWithItsReason) {
  const TempDirectory parent;
  WriteTensors(parent / "x.safetensors", {"x"}, 1);
  const std::string directory = parent / "model";
  std::filesystem::create_directory(directory);
  WriteTensors(directory + "/a.safetensors", {"x", "y"}, 1);
  WriteTensors(directory + "/b.safetensors", {"y"}, 1);
  WriteAll(directory + "/c.safetensors", "garbage");
  WriteTensors(directory + "/.hidden.safetensors", {"x"}, 1);
  std::filesystem::create_directory(directory + "/d.safetensors");
  std::filesystem::create_directory(directory + "/sub");
  WriteTensors(directory + "/sub/x.safetensors", {"x"}, 1);
  ASSERT_EQ(symlink((parent / "x.safetensors").c_str(),
                    (directory + "/out.safetensors").c_str()),
            0);
  ASSERT_EQ(
      symlink("loop.safetensors", (directory + "/loop.safetensors").c_str()),
      0);
  ASSERT_EQ(symlink("nowhere", (directory + "/dangling.safetensors").c_str()),
            0);
  ASSERT_EQ(symlink(kIndex, (directory + "/self.safetensors").c_str()), 0);

  const auto to = [](const std::string& shard) {
    return IndexOf(absl::StrCat("{\"x\":\"", shard, "\"}"));
  };
  std::string many = "{";
  for (int i = 0; i <= 1000; ++i) {
    absl::StrAppend(&many, i == 0 ? "" : ",", "\"t", i, "\":\"s", i,
                    ".safetensors\"");
  }
  const std::string plain_name =
      "must be the plain name of a .safetensors file";
  const std::vector<BadIndex> cases = {
      {"empty", "", "index.json"},
      {"not JSON", "weights", "index.json"},
      {"a list", "[]", "must be a JSON object"},
      {"no weight_map", "{}", "\"weight_map\" must be an object"},
      {"weight_map is a list", IndexOf("[]"), "\"weight_map\" must be"},
      {"empty weight_map", IndexOf("{}"), "at least one tensor"},
      {"duplicate tensor",
       IndexOf("{\"x\":\"a.safetensors\",\"x\":\"b.safetensors\"}"),
       "duplicate key \"x\""},
      {"shard is a number", IndexOf("{\"x\":3}"),
       "the shard of \"x\" must be a string, not number"},
      {"shard without a name", to(""), plain_name},
      {"parent directory", to("../x.safetensors"), plain_name},
      {"absolute path", to(parent / "x.safetensors"), plain_name},
      {"subdirectory", to("sub/x.safetensors"), plain_name},
      {"current directory", to("./a.safetensors"), plain_name},
      {"backslash", to("..\\\\x.safetensors"), plain_name},
      {"hidden file", to(".hidden.safetensors"), plain_name},
      {"NUL in the name", to("a\\u0000.safetensors"), plain_name},
      {"other suffix", to("/etc/passwd"), plain_name},
      {"the index itself", to(kIndex), plain_name},
      {"link to the index", to("self.safetensors"), "index.json"},
      {"link out of the directory", to("out.safetensors"),
       "out.safetensors is a link to "},
      {"link to itself", to("loop.safetensors"), "loop.safetensors"},
      {"link to nothing", to("dangling.safetensors"), "dangling.safetensors"},
      {"a directory", to("d.safetensors"), "not a regular file"},
      {"missing shard", to("e.safetensors"),
       "shard \"e.safetensors\" is missing"},
      {"broken shard", to("c.safetensors"), "c.safetensors: "},
      {"tensor is not in its shard", to("b.safetensors"),
       "tensor \"x\" is not in its shard \"b.safetensors\""},
      {"tensor in two shards",
       IndexOf("{\"x\":\"a.safetensors\",\"y\":\"b.safetensors\"}"),
       "tensor \"y\" is in two shards, \"a.safetensors\" and "
       "\"b.safetensors\""},
      {"too many shards", IndexOf(many + "}"),
       "1001 shards exceed the limit of 1000"},
      {"nested too deep", IndexOf(std::string(100000, '[')), "nesting"},
      {"too long", std::string((16 << 20) + 1, ' '), "16777217 bytes"},
  };
  for (const BadIndex& bad : cases) {
    SCOPED_TRACE(bad.what);
    WriteAll(directory + "/" + kIndex, bad.index);
    ExpectError(TensorSource::Open(directory), StatusCode::kInvalidArgument,
                bad.message);
  }
}

TEST(TensorSourceHostile, TheSingleFileMayNotBeALinkOutside) {
  const TempDirectory directory, other;
  WriteTensors(other / "x.safetensors", {"x"}, 1);
  std::filesystem::create_symlink(other / "x.safetensors", directory / kSingle);
  ExpectError(TensorSource::Open(directory.path()),
              StatusCode::kInvalidArgument, "is a link to");
  // A sibling whose name merely begins like the directory's is outside, too.
  const std::string sibling = directory.path() + "-sibling";
  std::filesystem::create_directory(sibling);
  WriteTensors(sibling + "/x.safetensors", {"x"}, 1);
  std::filesystem::remove(directory / kSingle);
  std::filesystem::create_symlink(sibling + "/x.safetensors",
                                  directory / kSingle);
  ExpectError(TensorSource::Open(directory.path()),
              StatusCode::kInvalidArgument, "is a link to");
  std::filesystem::remove_all(sibling);
}

TEST(TensorSource, LinksInsideAndIntoTheHubCacheAreFollowed) {
  const TempDirectory cache;
  std::filesystem::create_directories(cache / "snapshots/abc");
  std::filesystem::create_directories(cache / "blobs");
  WriteTensors(cache / "blobs/0123", {"x"}, 1);
  std::filesystem::create_symlink("../../blobs/0123",
                                  cache / "snapshots/abc/model.safetensors");
  POT_EXPECT_OK(TensorSource::Open(cache / "snapshots/abc"));

  const TempDirectory directory;
  WriteTensors(directory / "real.safetensors", {"x"}, 1);
  std::filesystem::create_symlink("real.safetensors", directory / kSingle);
  POT_EXPECT_OK(TensorSource::Open(directory.path()));
}

TEST(TensorSource, ReadsTheSharedModel) {
  const std::string directory = POT_SHARED_DIR "/models/shakespeare-char";
  if (!std::filesystem::exists(directory)) {
    GTEST_SKIP() << "SKIPPED, NOT PASSED: " << directory << " is missing";
  }
  const auto source = TensorSource::Open(directory);
  POT_ASSERT_OK(source);
  size_t elements = 0;
  const auto file = SafetensorsFile::Open(directory + "/model.safetensors");
  POT_ASSERT_OK(file);
  for (const auto& [name, view] : (*file)->tensors()) {
    const auto floats = (*source)->ReadFloats(name, view.shape);
    POT_ASSERT_OK(floats);
    elements += floats->size();
  }
  EXPECT_GT(elements, 0u);
  EXPECT_EQ((*source)->Digest().value(),
            Sha256File(directory + "/model.safetensors").value());
}

}  // namespace
}  // namespace pot
