#include "engine/checkpoint/safetensors.h"

#include "tests/engine/checkpoint/checkpoint_test_util.h"

namespace pot {
namespace {

using absl::StatusCode;

constexpr TensorType kAllTypes[] = {
    TensorType::kF32, TensorType::kF16, TensorType::kBF16, TensorType::kF64,
    TensorType::kI8,  TensorType::kU8,  TensorType::kI16,  TensorType::kI32,
    TensorType::kI64, TensorType::kU16, TensorType::kU32,  TensorType::kU64,
    TensorType::kBool};

TEST(Safetensors, WhatIsWrittenIsReadBack) {
  const TempDirectory directory;
  const std::string path = directory / "t.safetensors";
  std::vector<std::pair<std::string, TensorView>> tensors;
  std::vector<std::vector<uint8_t>> contents;
  for (TensorType type : kAllTypes) {
    contents.emplace_back(6 * TensorTypeBytes(type),
                          static_cast<uint8_t>(contents.size() + 1));
    tensors.emplace_back(TensorTypeName(type),
                         ViewOf(type, {2, 3}, contents.back()));
  }
  const std::vector<float> scalar = {2.5f};
  tensors.emplace_back("scalar", ViewOf(TensorType::kF32, {}, scalar));
  tensors.emplace_back("empty", TensorView{TensorType::kF32, {0, 7}, {}});
  tensors.emplace_back("name \"with\" \n \xc3\xa9",
                       TensorView{TensorType::kU8, {0}, {}});
  const std::map<std::string, std::string> metadata = {
      {"format", "pt"}, {"k", "v\n\xe2\x82\xac"}};
  POT_ASSERT_OK(WriteSafetensors(path, tensors, metadata));

  const auto file = SafetensorsFile::Open(path);
  POT_ASSERT_OK(file);
  EXPECT_EQ((*file)->metadata(), metadata);
  EXPECT_EQ((*file)->tensors().size(), tensors.size());
  for (const auto& [name, written] : tensors) {
    const TensorView* read = (*file)->Find(name);
    ASSERT_NE(read, nullptr) << name;
    EXPECT_EQ(read->type, written.type) << name;
    EXPECT_EQ(read->shape, written.shape) << name;
    EXPECT_EQ(read->bytes, written.bytes) << name;
  }
  EXPECT_EQ((*file)->Find("scalar")->num_elements(), 1);
  EXPECT_EQ((*file)->Find("empty")->num_elements(), 0);
  EXPECT_EQ((*file)->Find("absent"), nullptr);
}

TEST(Safetensors, DataBeginsOn64Bytes) {
  const TempDirectory directory;
  const std::vector<float> value = {1.0f};
  // Names of 1 to 70 bytes make every possible header length modulo 64.
  for (int length = 1; length <= 70; ++length) {
    const std::string path = directory / "t.safetensors";
    POT_ASSERT_OK(WriteSafetensors(
        path,
        {{std::string(length, 'x'), ViewOf(TensorType::kF32, {1}, value)}},
        {}));
    const auto file = SafetensorsFile::Open(path);
    POT_ASSERT_OK(file);
    const auto& [name, view] = *(*file)->tensors().begin();
    // A mapping begins on a page.
    EXPECT_EQ(reinterpret_cast<uintptr_t>(view.bytes.data()) % 64, 0u)
        << length;
  }
}

TEST(Safetensors, AnEmptyFileOfTensorsIsAllowed) {
  const std::string bytes = RawSafetensors("{}", "");
  const auto file = SafetensorsFile::Parse(AsBytes(bytes), "t");
  POT_ASSERT_OK(file);
  EXPECT_TRUE((*file)->tensors().empty());
}

TEST(Safetensors, AMappingOutlivesItsReplacement) {
  const TempDirectory directory;
  const std::string path = directory / "t.safetensors";
  const std::vector<float> before(5000, 1.0f), after = {2.0f};
  POT_ASSERT_OK(WriteSafetensors(
      path, {{"w", ViewOf(TensorType::kF32, {5000}, before)}}, {}));
  const auto file = SafetensorsFile::Open(path);
  POT_ASSERT_OK(file);
  POT_ASSERT_OK(WriteSafetensors(
      path, {{"w", ViewOf(TensorType::kF32, {1}, after)}}, {}));
  EXPECT_EQ((*file)->Find("w")->bytes,
            ViewOf(TensorType::kF32, {5000}, before).bytes);
  EXPECT_THAT(NamesIn(directory.path()), testing::ElementsAre("t.safetensors"));
}

TEST(Safetensors, OpenNamesThePath) {
  const TempDirectory directory;
  ExpectError(SafetensorsFile::Open(directory / "absent"),
              StatusCode::kNotFound, directory / "absent");
  ExpectError(SafetensorsFile::Open(directory.path()),
              StatusCode::kInvalidArgument, directory.path());
  WriteAll(directory / "empty", "");
  ExpectError(SafetensorsFile::Open(directory / "empty"),
              StatusCode::kInvalidArgument,
              "empty: a file of 0 bytes lacks the 8 bytes");
}

struct BadWrite {
  std::string what;
  std::vector<std::pair<std::string, TensorView>> tensors;
  std::map<std::string, std::string> metadata;
  std::string message;
};

TEST(SafetensorsWriter, RefusesWhatTheReaderWouldAndLeavesNoFile) {
  const std::vector<float> one = {1.0f};
  const TensorView good = ViewOf(TensorType::kF32, {1}, one);
  const std::vector<BadWrite> cases = {
      {"reserved name", {{"__metadata__", good}}, {}, "reserved"},
      {"duplicate", {{"a", good}, {"a", good}}, {}, "\"a\" is given twice"},
      {"name not UTF-8", {{"\xff", good}}, {}, "not UTF-8"},
      {"metadata not UTF-8", {}, {{"k", "\xc0"}}, "\"k\" is not UTF-8"},
      {"negative dimension",
       {{"a", {TensorType::kF32, {-1}, good.bytes}}},
       {},
       "shape [-1] is not possible"},
      {"overflow",
       {{"a", {TensorType::kF32, {int64_t{1} << 62, 2}, good.bytes}}},
       {},
       "is not possible"},
      {"size",
       {{"a", {TensorType::kF32, {2}, good.bytes}}},
       {},
       "4 bytes given, but shape [2] of F32 has 8"},
      {"dimensions",
       {{"a", {TensorType::kF32, std::vector<int64_t>(9, 1), good.bytes}}},
       {},
       "9 dimensions exceed the limit of 8"},
      {"header too long",
       {},
       {{"k", std::string(SafetensorsFile::kMaxHeaderBytes, 'v')}},
       "exceeds the limit of 16777216"},
  };
  const TempDirectory directory;
  for (const BadWrite& bad : cases) {
    SCOPED_TRACE(bad.what);
    ExpectError(WriteSafetensors(directory / "t.safetensors", bad.tensors,
                                 bad.metadata),
                StatusCode::kInvalidArgument, bad.message);
    EXPECT_TRUE(NamesIn(directory.path()).empty());
  }
}

TEST(SafetensorsWriter, AFailedWriteKeepsTheFileThatWasThere) {
  const TempDirectory directory;
  const std::string path = directory / "t.safetensors";
  const std::vector<float> one = {1.0f};
  POT_ASSERT_OK(
      WriteSafetensors(path, {{"a", ViewOf(TensorType::kF32, {1}, one)}}, {}));
  const std::string before = ReadAll(path);
  EXPECT_FALSE(
      WriteSafetensors(path, {{"a", ViewOf(TensorType::kF32, {2}, one)}}, {})
          .ok());
  EXPECT_EQ(ReadAll(path), before);
  // The target cannot be replaced: the partial file goes, too.
  std::filesystem::create_directory(directory / "taken");
  WriteAll(directory / "taken/file", "x");
  EXPECT_FALSE(WriteSafetensors(directory / "taken",
                                {{"a", ViewOf(TensorType::kF32, {1}, one)}}, {})
                   .ok());
  EXPECT_THAT(NamesIn(directory.path()),
              testing::UnorderedElementsAre("t.safetensors", "taken"));
  ExpectError(WriteSafetensors(directory / "absent/t", {}, {}),
              StatusCode::kNotFound, directory / "absent/t");
}

}  // namespace
}  // namespace pot
