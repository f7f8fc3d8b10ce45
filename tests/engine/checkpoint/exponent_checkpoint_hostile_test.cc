// Exponent checkpoints that are good safetensors files and yet no checkpoint.
#include <functional>
#include <limits>

#include "engine/checkpoint/exponent_checkpoint.h"
#include "engine/checkpoint/safetensors.h"
#include "tests/engine/checkpoint/checkpoint_test_util.h"

namespace pot {
namespace {

using absl::StatusCode;

constexpr char kBook[] = "[0,1,2,4,8,16,32,64,-128,-1,-2,-4,-8,-16,-32,-64]";

struct Tensor {
  TensorType type;
  std::vector<int64_t> shape;
  std::string bytes;
};

// The parts of a good file, one 2x3 matrix "w" and floats "b", to be spoilt.
struct Parts {
  std::map<std::string, Tensor> tensors = {
      {"w.scales",
       {TensorType::kF32, {2, 1}, std::string("\0\0\x80\x3e\0\0\0\xbf", 8)}},
      {"w.codes", {TensorType::kU8, {2, 2}, std::string("\x92\0\x4a\x08", 4)}},
      {"b", {TensorType::kF32, {1}, std::string("\0\0\x80\x3f", 4)}},
  };
  std::map<std::string, std::string> metadata = {
      {"format", "pot-exponents"},
      {"format_version", "1"},
      {"tool_version", "t"},
      {"base_sha256", ""},
      {"quantizer", "q"},
      {"book.pot4", kBook},
      {"pot.w", Describe("pot4", "row", "3")},
  };

  static std::string Describe(const std::string& format,
                              const std::string& granularity,
                              const std::string& group,
                              const std::string& rows = "2",
                              const std::string& cols = "3") {
    return absl::StrCat("{\"format\":\"", format, "\",\"granularity\":\"",
                        granularity, "\",\"group\":", group, ",\"rows\":", rows,
                        ",\"cols\":", cols, "}");
  }

  // 1 * 0.5 at row 0, column 1, and -2 * 0.5 at row 1, column 2.
  void AddOutliers() {
    metadata["format_version"] = "2";
    metadata["pot.w"] = Describe("pot4", "row", "3", "2", "3,\"outliers\":2");
    tensors["w.outlier_positions"] = {
        TensorType::kU32, {2}, std::string("\1\0\0\0\5\0\0\0", 8)};
    tensors["w.outlier_values"] = {
        TensorType::kI16, {2}, std::string("\1\0\xfe\xff", 4)};
    tensors["w.outlier_scale"] = {
        TensorType::kF32, {1}, std::string("\0\0\0\x3f", 4)};
  }

  std::string Write(const TempDirectory& directory) const {
    std::vector<std::pair<std::string, TensorView>> views;
    for (const char* name :
         {"w.scales", "b", "extra", "w.outlier_scale", "w.outlier_positions",
          "w.outlier_values", "w.codes", "w.factors"}) {
      const auto found = tensors.find(name);
      if (found == tensors.end()) continue;
      views.emplace_back(name,
                         TensorView{found->second.type, found->second.shape,
                                    AsBytes(found->second.bytes)});
    }
    const std::string path = directory / kExponentCheckpointFile;
    EXPECT_TRUE(WriteSafetensors(path, views, metadata).ok());
    return path;
  }
};

std::string FloatBytes(float value) {
  std::string bytes(4, '\0');
  std::memcpy(bytes.data(), &value, 4);
  return bytes;
}

struct BadCheckpoint {
  std::string what;
  std::function<void(Parts*)> spoil;
  std::string message;
};

std::vector<BadCheckpoint> BadCheckpoints() {
  const auto metadata = [](std::string key, std::string value) {
    return [=](Parts* parts) { parts->metadata[key] = value; };
  };
  const auto describe = [&](auto... fields) {
    return metadata("pot.w", Parts::Describe(fields...));
  };
  const auto without = [](std::string key) {
    return [=](Parts* parts) {
      parts->metadata.erase(key);
      parts->tensors.erase(key);
    };
  };
  const auto scales = [](float first) {
    return [=](Parts* parts) {
      parts->tensors["w.scales"].bytes.replace(0, 4, FloatBytes(first));
    };
  };
  // Groups of 32 with powers of two, one group a row.
  const auto factors = [](const std::string& bytes, const char* version) {
    return [=](Parts* parts) {
      parts->metadata["format_version"] = version;
      // 65 columns would be three groups.
      const bool wide = bytes == "12";
      parts->metadata["pot.w"] =
          Parts::Describe("pot4", "g32p2", "32", "2", wide ? "65" : "3");
      if (wide) {
        parts->tensors["w.codes"] = {
            TensorType::kU8, {2, 33}, std::string(66, '\0')};
      }
      if (bytes.empty()) return;
      parts->tensors["w.factors"] = {TensorType::kU8, {2, 1}, bytes};
    };
  };
  // Two outliers of "w", one in each row, spoilt by `spoil`.
  const auto outliers = [](std::function<void(Parts*)> spoil) {
    return [=](Parts* parts) {
      parts->AddOutliers();
      spoil(parts);
    };
  };
  const auto positions = [&](uint32_t first, uint32_t second) {
    return outliers([=](Parts* parts) {
      std::string& bytes = parts->tensors["w.outlier_positions"].bytes;
      std::memcpy(bytes.data(), &first, 4);
      std::memcpy(bytes.data() + 4, &second, 4);
    });
  };
  const auto outlier_scale = [&](float scale) {
    return outliers([=](Parts* parts) {
      parts->tensors["w.outlier_scale"].bytes = FloatBytes(scale);
    });
  };
  const auto without_tensor = [&](const char* name) {
    return outliers([=](Parts* parts) { parts->tensors.erase(name); });
  };
  return {
      {"powers of two in version 1", describe("pot4", "g32p2", "32"),
       "matrix \"w\" has granularity g32p2, which format version 1 does not"},
      {"no factors", factors("", "2"), "tensor \"w.factors\" is missing"},
      {"factors of too many groups", factors("12", "2"),
       "\"w.factors\" is U8 [2, 1], its description needs"},
      {"padding of factors is not zero", factors("\1\x11", "2"),
       "matrix \"w\": padding bits after the codes of row 1 are not zero"},
      {"factors without their granularity",
       [](Parts* parts) {
         parts->tensors["w.factors"] = {TensorType::kU8, {2, 1}, "\1\2"};
       },
       "tensor \"w.factors\" is U8, but belongs to no matrix"},
      {"outliers in version 1",
       outliers([](Parts* parts) { parts->metadata["format_version"] = "1"; }),
       "matrix \"w\" has outliers, which format version 1 does not know"},
      {"outliers that the description does not have",
       outliers([](Parts* parts) {
         parts->metadata["pot.w"] = Parts::Describe("pot4", "row", "3");
       }),
       "tensor \"w.outlier_positions\" is U32, but belongs to no matrix"},
      {"more outliers than weights", outliers([](Parts* parts) {
         parts->metadata["pot.w"] =
             Parts::Describe("pot4", "row", "3", "2", "3,\"outliers\":7");
       }),
       "\"outliers\" must be an integer in [1, 6], not number 7"},
      {"more outliers than positions", outliers([](Parts* parts) {
         parts->metadata["pot.w"] =
             Parts::Describe("pot4", "row", "3", "2", "3,\"outliers\":3");
       }),
       "\"w.outlier_positions\" is U32 [2], its description needs U32 [3]"},
      {"no positions of outliers", without_tensor("w.outlier_positions"),
       "tensor \"w.outlier_positions\" is missing"},
      {"no values of outliers", without_tensor("w.outlier_values"),
       "tensor \"w.outlier_values\" is missing"},
      {"no scale of outliers", without_tensor("w.outlier_scale"),
       "tensor \"w.outlier_scale\" is missing"},
      {"outlier beyond the matrix", positions(1, 6),
       "matrix \"w\": outlier 1 is at 6 of 2 x 3 weights"},
      {"outlier far beyond the matrix", positions(1, 0xffffffff),
       "matrix \"w\": outlier 1 is at 4294967295 of 2 x 3 weights"},
      {"outliers in disorder", positions(5, 1),
       "outlier 1 is at 1, the one before at 5; positions must ascend"},
      {"an outlier twice", positions(1, 1),
       "outlier 1 is at 1, the one before at 1; positions must ascend"},
      {"scale of outliers is NaN",
       outlier_scale(std::numeric_limits<float>::quiet_NaN()),
       "scale of the outliers is nan"},
      {"scale of outliers is infinite",
       outlier_scale(std::numeric_limits<float>::infinity()),
       "scale of the outliers is inf"},
      {"scale of outliers is 0", outlier_scale(0),
       "scale of the outliers is 0"},
      {"no format", without("format"), "metadata \"format\" is \"\", not"},
      {"another format", metadata("format", "pt"),
       "metadata \"format\" is \"pt\", not \"pot-exponents\""},
      {"no format version", without("format_version"),
       "format version \"\"; this program reads versions 1 and 2"},
      {"format version 3", metadata("format_version", "3"),
       "format version \"3\"; this program reads versions 1 and 2"},
      {"short base digest", metadata("base_sha256", "0123"),
       "\"base_sha256\" is \"0123\""},
      {"base digest in capitals", metadata("base_sha256", std::string(64, 'A')),
       "\"base_sha256\" is"},
      {"description is not JSON", metadata("pot.w", "pot4"),
       "metadata \"pot.w\""},
      {"description is a list", metadata("pot.w", "[]"),
       "must be a JSON object"},
      {"description nested too deep",
       metadata("pot.w", std::string(100000, '[')), "nesting"},
      {"unknown format name", describe("pot9", "row", "3"), "pot9"},
      {"format is a number",
       metadata("pot.w",
                "{\"format\":4,\"granularity\":\"row\",\"group\":3,"
                "\"rows\":2,\"cols\":3}"),
       "\"format\" must be a string"},
      {"unknown granularity", describe("pot4", "g48", "3"), "g48"},
      {"rows 0", describe("pot4", "row", "3", "0"),
       "\"rows\" must be an integer in [1, 16777216], not number 0"},
      {"rows negative", describe("pot4", "row", "3", "-2"),
       "\"rows\" must be an integer in [1, 16777216]"},
      {"rows huge", describe("pot4", "row", "3", "9223372036854775807"),
       "\"rows\" must be an integer in [1, 16777216]"},
      {"cols 0", describe("pot4", "row", "3", "2", "0"),
       "\"cols\" must be an integer in [1, 65536]"},
      {"cols over the limit", describe("pot4", "row", "3", "2", "65537"),
       "\"cols\" must be an integer in [1, 65536], not number 65537"},
      {"cols a string", describe("pot4", "row", "3", "2", "\"3\""),
       "\"cols\" must be an integer in [1, 65536], not string"},
      {"cols not ASCII", describe("pot4", "row", "3", "2", "\"\xC3\xA9\""),
       "not string \"\\u00e9\""},
      {"group missing",
       metadata("pot.w",
                "{\"format\":\"pot4\",\"granularity\":\"row\","
                "\"rows\":2,\"cols\":3}"),
       "\"group\" must be an integer"},
      {"group contradicts the granularity", describe("pot4", "row", "2"),
       "\"group\" is 2, but granularity row of 3 columns has 3"},
      {"no book", without("book.pot4"), "metadata \"book.pot4\" is missing"},
      {"another book", metadata("book.pot4", "[0,1]"),
       "metadata \"book.pot4\" is \"[0,1]\", but this program's levels are"},
      {"no codes", without("w.codes"), "tensor \"w.codes\" is missing"},
      {"no scales", without("w.scales"), "tensor \"w.scales\" is missing"},
      {"codes of another type",
       [](Parts* parts) { parts->tensors["w.codes"].type = TensorType::kI8; },
       "\"w.codes\" is I8 [2, 2], its description needs U8 [2, 2]"},
      {"codes of another shape",
       [](Parts* parts) { parts->tensors["w.codes"].shape = {4}; },
       "\"w.codes\" is U8 [4], its description needs U8 [2, 2]"},
      {"more columns than codes", describe("pot4", "row", "5", "2", "5"),
       "needs U8 [2, 3]"},
      {"more rows than codes", describe("pot4", "row", "3", "3"),
       "needs U8 [3, 2]"},
      {"scale count wrong",
       [](Parts* parts) {
         parts->tensors["w.scales"] = {TensorType::kF32, {1, 1}, FloatBytes(1)};
       },
       "\"w.scales\" is F32 [1, 1], its description needs F32 [2, 1]"},
      {"scales transposed",
       [](Parts* parts) {
         parts->tensors["w.scales"].shape = {1, 2};
       },
       "its description needs F32 [2, 1]"},
      {"scales per row for granularity tensor", describe("pot4", "tensor", "3"),
       "needs F32 [1, 1]"},
      {"scales of another type",
       [](Parts* parts) { parts->tensors["w.scales"].type = TensorType::kI32; },
       "\"w.scales\" is I32 [2, 1]"},
      {"scale is NaN", scales(std::numeric_limits<float>::quiet_NaN()),
       "matrix \"w\": scale 0 is nan"},
      {"scale is infinite", scales(-std::numeric_limits<float>::infinity()),
       "matrix \"w\": scale 0 is -inf"},
      {"scale makes a weight infinite", scales(3e38f),
       "matrix \"w\": scale 0 is 3e+38"},
      {"padding bits are not zero",
       [](Parts* parts) { parts->tensors["w.codes"].bytes[3] = '\x18'; },
       "matrix \"w\": padding bits after the codes of row 1 are not zero"},
      {"codes without a description", without("pot.w"),
       "tensor \"w.codes\" is U8, but belongs to no matrix"},
      {"an integer tensor",
       [](Parts* parts) {
         parts->tensors["extra"] = {TensorType::kI32, {1}, FloatBytes(1)};
       },
       "tensor \"extra\" is I32, but belongs to no matrix"},
  };
}

TEST(ExponentCheckpointHostile, TheUnspoiltFileIsGood) {
  const TempDirectory directory;
  const auto checkpoint = ExponentCheckpoint::Open(Parts().Write(directory));
  POT_ASSERT_OK(checkpoint);
  POT_EXPECT_OK((*checkpoint)->Matrix("w", 2, 3));
}

TEST(ExponentCheckpointHostile, TheUnspoiltOutliersAreGood) {
  const TempDirectory directory;
  Parts parts;
  parts.AddOutliers();
  const auto checkpoint = ExponentCheckpoint::Open(parts.Write(directory));
  POT_ASSERT_OK(checkpoint);
  const PotMatrix matrix = (*checkpoint)->Matrix("w", 2, 3).value();
  EXPECT_EQ((*checkpoint)->float_names(), std::vector<std::string>({"b"}));
  std::vector<float> row(3);
  matrix.DequantizeRow(0, absl::MakeSpan(row));
  EXPECT_THAT(row, testing::ElementsAre(0.5f, 0.25f, 0.0f));
  matrix.DequantizeRow(1, absl::MakeSpan(row));
  EXPECT_THAT(row, testing::ElementsAre(1.0f, -4.0f, 63.0f));
}

TEST(ExponentCheckpointHostile, EveryListedFileIsRefusedWithItsReason) {
  const TempDirectory directory;
  for (const BadCheckpoint& bad : BadCheckpoints()) {
    SCOPED_TRACE(bad.what);
    Parts parts;
    bad.spoil(&parts);
    const std::string path = parts.Write(directory);
    const auto checkpoint = ExponentCheckpoint::Open(path);
    ExpectError(checkpoint, StatusCode::kInvalidArgument, bad.message);
    EXPECT_THAT(std::string(checkpoint.status().message()),
                testing::StartsWith(path));
  }
}

TEST(ExponentCheckpointHostile, NaNWeightsAreFoundWhenRead) {
  const TempDirectory directory;
  Parts parts;
  parts.tensors["b"].bytes =
      FloatBytes(std::numeric_limits<float>::quiet_NaN());
  const auto checkpoint = ExponentCheckpoint::Open(parts.Write(directory));
  POT_ASSERT_OK(checkpoint);
  ExpectError((*checkpoint)->ReadFloats("b", {1}), StatusCode::kInvalidArgument,
              "tensor \"b\": value nan at index [0] is not finite");
}

TEST(ExponentCheckpointHostile, TruncationAtEveryByteIsRefused) {
  const TempDirectory directory;
  const std::string whole = ReadAll(Parts().Write(directory));
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::vector<uint8_t> cut(whole.begin(), whole.begin() + size);
    ExpectError(ExponentCheckpoint::Parse(cut, "t"),
                StatusCode::kInvalidArgument, "t: ");
  }
}

TEST(ExponentCheckpointHostile, UnknownMetadataIsIgnored) {
  const TempDirectory directory;
  Parts parts;
  parts.metadata["note"] = "later versions may say more";
  parts.metadata["book.pot99"] = "[0]";
  POT_EXPECT_OK(ExponentCheckpoint::Open(parts.Write(directory)));
}

}  // namespace
}  // namespace pot
