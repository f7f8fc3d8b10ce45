#include "engine/checkpoint/exponent_checkpoint.h"

#include <cmath>
#include <limits>

#include "engine/base/half.h"
#include "engine/quant/pot_quantizer.h"
#include "tests/engine/checkpoint/checkpoint_test_util.h"

namespace pot {
namespace {

using absl::StatusCode;
using testing::ElementsAre;

const char kDigest[] =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

void ExpectSame(const PotMatrix& found, const PotMatrix& expected) {
  EXPECT_EQ(&found.format(), &expected.format());
  EXPECT_EQ(found.rows(), expected.rows());
  EXPECT_EQ(found.cols(), expected.cols());
  EXPECT_EQ(found.granularity(), expected.granularity());
  EXPECT_EQ(found.packed_codes(), expected.packed_codes());
  EXPECT_EQ(found.scales(), expected.scales());
  EXPECT_EQ(found.outliers().positions, expected.outliers().positions);
  EXPECT_EQ(found.outliers().values, expected.outliers().values);
  EXPECT_EQ(found.outliers().scale, expected.outliers().scale);
}

// `matrix` with an outlier in every third place; the storage is the caller's.
struct OutlierStorage {
  std::vector<uint32_t> positions;
  std::vector<int16_t> values;

  PotMatrix AddTo(const PotMatrix& matrix) {
    for (int64_t at = 1; at < matrix.rows() * matrix.cols(); at += 3) {
      positions.push_back(at);
      values.push_back(static_cast<int16_t>(1000 * at - 7));
    }
    return matrix.WithOutliers({0.01f, positions, values}, nullptr).value();
  }
};

std::string VersionOf(const std::string& path) {
  return SafetensorsFile::Open(path).value()->metadata().at("format_version");
}

TEST(ExponentCheckpoint, EveryFormatAndGranularityComesBack) {
  const TempDirectory directory;
  const std::string path = directory / kExponentCheckpointFile;
  auto writer = ExponentCheckpointWriter::Create();
  std::map<std::string, PotMatrix> matrices;
  uint32_t seed = 1;
  for (const PotFormat& format : AllPotFormats()) {
    for (const char* granularity : {"tensor", "row", "g32", "g64", "g128"}) {
      for (int64_t cols : {1, 64, 131}) {
        const std::string name =
            absl::StrCat(format.name, ".", granularity, ".", cols);
        matrices.emplace(name, MakeMatrix(std::string(format.name), 3, cols,
                                          granularity, ++seed));
        writer->AddMatrix(name, matrices.at(name));
      }
    }
  }
  const std::vector<float> exact = {1.0f, -0.333f, 1e-30f};
  const std::vector<float> rounded = {1.0f, -0.333f, 1e-30f, 65504.0f, 2049.0f};
  writer->AddFloats("exact", {3}, exact, /*half=*/false);
  writer->AddFloats("half", {5, 1}, rounded, /*half=*/true);
  POT_ASSERT_OK(writer->Write(path, {kDigest, "nearest", "pot 0.1.0"}));

  const auto checkpoint = ExponentCheckpoint::Open(path);
  POT_ASSERT_OK(checkpoint);
  EXPECT_EQ((*checkpoint)->provenance().base_sha256, kDigest);
  EXPECT_EQ((*checkpoint)->provenance().quantizer, "nearest");
  EXPECT_EQ((*checkpoint)->provenance().tool_version, "pot 0.1.0");
  EXPECT_EQ((*checkpoint)->matrix_names().size(), matrices.size());
  for (const auto& [name, expected] : matrices) {
    SCOPED_TRACE(name);
    EXPECT_TRUE((*checkpoint)->HasMatrix(name));
    EXPECT_FALSE((*checkpoint)->HasFloats(name));
    EXPECT_FALSE((*checkpoint)->HasFloats(name + ".scales"));
    const auto found =
        (*checkpoint)->Matrix(name, expected.rows(), expected.cols());
    POT_ASSERT_OK(found);
    ExpectSame(*found, expected);
  }
  EXPECT_TRUE((*checkpoint)->HasFloats("exact"));
  EXPECT_FALSE((*checkpoint)->HasMatrix("exact"));
  EXPECT_EQ((*checkpoint)->ReadFloats("exact", {3}).value(), exact);
  EXPECT_THAT((*checkpoint)->ReadFloats("half", {5, 1}).value(),
              ElementsAre(1.0f, HalfBitsToFloat(FloatToHalfBits(-0.333f)), 0.0f,
                          65504.0f, 2048.0f));
}

TEST(ExponentCheckpoint, AMatrixKeepsItsMappingAlive) {
  const TempDirectory directory;
  const std::string path = directory / kExponentCheckpointFile;
  OutlierStorage storage;
  const PotMatrix expected =
      storage.AddTo(MakeMatrix("twohot4", 7, 33, "g32", 5));
  auto writer = ExponentCheckpointWriter::Create();
  writer->AddMatrix("w", expected);
  POT_ASSERT_OK(writer->Write(path, {}));
  auto checkpoint = ExponentCheckpoint::Open(path);
  POT_ASSERT_OK(checkpoint);
  const PotMatrix found = (*checkpoint)->Matrix("w", 7, 33).value();
  checkpoint->reset();
  std::filesystem::remove(path);
  ExpectSame(found, expected);
}

TEST(ExponentCheckpoint, ScalesAreUsedInPlaceWhereAlignedAndElseCopied) {
  const TempDirectory directory;
  const std::string path = directory / kExponentCheckpointFile;
  OutlierStorage outliers;
  const PotMatrix expected = outliers.AddTo(MakeMatrix("pot3", 4, 9, "row", 6));
  auto writer = ExponentCheckpointWriter::Create();
  // An odd count of bytes of codes and halves, all after the scales.
  writer->AddFloats("half", {1}, {1.0f}, /*half=*/true);
  writer->AddMatrix("v", MakeMatrix("pot2", 1, 1, "row", 7));
  writer->AddMatrix("w", expected);
  POT_ASSERT_OK(writer->Write(path, {}));
  const std::string file = ReadAll(path);

  for (size_t shift = 0; shift < 8; ++shift) {
    std::vector<uint64_t> storage(file.size() / 8 + 3);
    auto* begin = reinterpret_cast<uint8_t*>(storage.data()) + shift;
    std::memcpy(begin, file.data(), file.size());
    const auto checkpoint =
        ExponentCheckpoint::Parse(absl::MakeSpan(begin, file.size()), "memory");
    POT_ASSERT_OK(checkpoint);
    const auto found = (*checkpoint)->Matrix("w", 4, 9);
    POT_ASSERT_OK(found);
    ExpectSame(*found, expected);
    const auto* scales =
        reinterpret_cast<const uint8_t*>(found->scales().data());
    const bool in_place = scales >= begin && scales < begin + file.size();
    EXPECT_EQ(in_place, shift % alignof(float) == 0) << shift;
  }
}

// Programs that know nothing of outliers refuse files that have some, and read
// the others as before.
TEST(ExponentCheckpoint, TheVersionIsTheOldestThatKnowsTheContent) {
  const TempDirectory directory;
  const PotMatrix matrix = MakeMatrix("pot4", 5, 9, "row", 8);
  OutlierStorage storage;
  auto writer = ExponentCheckpointWriter::Create();
  writer->AddMatrix("v", matrix);
  POT_ASSERT_OK(writer->Write(directory / "without", {}));
  EXPECT_EQ(VersionOf(directory / "without"), "1");
  writer->AddMatrix("w", storage.AddTo(matrix));
  POT_ASSERT_OK(writer->Write(directory / "with", {}));
  EXPECT_EQ(VersionOf(directory / "with"), "2");

  QuantizeOptions options;
  options.format = FindPotFormat("pot3").value();
  options.granularity = Granularity::Parse("g64p2").value();
  const std::vector<float> weights = {1, 2, 3, 4, 5, 6};
  const PotMatrix powers = QuantizePot(weights, 3, 2, options).value();
  writer = ExponentCheckpointWriter::Create();
  writer->AddMatrix("p", powers);
  POT_ASSERT_OK(writer->Write(directory / "powers", {}));
  EXPECT_EQ(VersionOf(directory / "powers"), "2");
  const auto checkpoint = ExponentCheckpoint::Open(directory / "powers");
  POT_ASSERT_OK(checkpoint);
  const PotMatrix found = (*checkpoint)->Matrix("p", 3, 2).value();
  ExpectSame(found, powers);
  EXPECT_EQ(found.packed_factors(), powers.packed_factors());
  EXPECT_THAT((*checkpoint)->float_names(), testing::IsEmpty());
}

TEST(ExponentCheckpoint, TheBytesDependOnTheContentAlone) {
  const TempDirectory directory;
  for (const char* name : {"1", "2"}) {
    auto writer = ExponentCheckpointWriter::Create();
    writer->AddMatrix("w", MakeMatrix("pot4", 5, 70, "g64", 8));
    writer->AddFloats("b", {1}, {3.0f}, /*half=*/false);
    POT_ASSERT_OK(writer->Write(directory / name, {kDigest, "q", "t"}));
  }
  EXPECT_EQ(ReadAll(directory / "1"), ReadAll(directory / "2"));
}

TEST(ExponentCheckpoint, RefusesOtherShapesAndNames) {
  const TempDirectory directory;
  const std::string path = directory / kExponentCheckpointFile;
  auto writer = ExponentCheckpointWriter::Create();
  writer->AddMatrix("w", MakeMatrix("pot4", 2, 3, "row", 9));
  writer->AddFloats("b", {2}, {1, 2}, /*half=*/false);
  POT_ASSERT_OK(writer->Write(path, {}));
  const auto checkpoint = ExponentCheckpoint::Open(path);
  POT_ASSERT_OK(checkpoint);
  ExpectError((*checkpoint)->Matrix("w", 3, 2), StatusCode::kInvalidArgument,
              "matrix \"w\": shape [2, 3], expected [3, 2]");
  ExpectError((*checkpoint)->Matrix("b", 1, 2), StatusCode::kNotFound,
              "no matrix \"b\"");
  ExpectError((*checkpoint)->ReadFloats("w", {2, 3}), StatusCode::kNotFound,
              "no float tensor \"w\"");
  ExpectError((*checkpoint)->ReadFloats("b", {1, 2}),
              StatusCode::kInvalidArgument, "shape [2], expected [1, 2]");
}

TEST(ExponentCheckpointWriter, RefusesWhatCannotBeStored) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const TempDirectory directory;
  const std::string path = directory / kExponentCheckpointFile;
  const auto refuses = [&](const std::string& message, auto fill,
                           const CheckpointProvenance& provenance = {}) {
    auto writer = ExponentCheckpointWriter::Create();
    fill(writer.get());
    ExpectError(writer->Write(path, provenance), StatusCode::kInvalidArgument,
                message);
    EXPECT_TRUE(NamesIn(directory.path()).empty());
  };
  const PotMatrix matrix = MakeMatrix("pot4", 2, 3, "row", 9);
  using Writer = ExponentCheckpointWriter;
  refuses("\"b\": value nan at element 1 is not finite", [&](Writer* writer) {
    writer->AddFloats("b", {2}, {1, nan}, /*half=*/false);
  });
  refuses("value 65520 at element 0 is not finite as F16", [](Writer* writer) {
    writer->AddFloats("b", {1}, {65520}, /*half=*/true);
  });
  refuses("4 bytes given, but shape [2] of F32 has 8", [](Writer* writer) {
    writer->AddFloats("b", {2}, {1}, /*half=*/false);
  });
  refuses("matrix \"w\" is given twice", [&](Writer* writer) {
    writer->AddMatrix("w", matrix);
    writer->AddMatrix("w", matrix);
  });
  refuses("tensor \"w.codes\" is given twice", [&](Writer* writer) {
    writer->AddMatrix("w", matrix);
    writer->AddFloats("w.codes", {1}, {1}, /*half=*/false);
  });
  refuses("base_sha256 \"abc\" must be", [](Writer*) {}, {"abc", "", ""});
  refuses("is not UTF-8", [](Writer*) {}, {"", "\xff", ""});
}

}  // namespace
}  // namespace pot
