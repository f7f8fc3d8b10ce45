// Holds README.md of engine/checkpoint to what the program does: its worked
// example, and its Python snippet.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <regex>

#include "absl/strings/escaping.h"
#include "absl/strings/str_replace.h"
#include "engine/checkpoint/exponent_checkpoint.h"
#include "engine/quant/pot_quantizer.h"
#include "nlohmann/json.hpp"
#include "test_paths.h"
#include "tests/engine/checkpoint/checkpoint_test_util.h"

namespace pot {
namespace {

// The content of the document's fenced blocks of one language.
std::vector<std::string> Fences(const std::string& language) {
  const std::string text =
      ReadAll(POT_SOURCE_DIR "/engine/checkpoint/README.md");
  std::vector<std::string> fences;
  const std::string open = "```" + language + "\n";
  for (size_t at = text.find(open); at != std::string::npos;
       at = text.find(open, at + 1)) {
    const size_t begin = at + open.size();
    fences.push_back(text.substr(begin, text.find("```", begin) - begin));
  }
  return fences;
}

const std::vector<float> kExampleWeights = {0.5f, -0.3f, 0.0f,  //
                                            0.9f, -3.1f, 64.0f};
const std::vector<float> kExampleScales = {0.25f, -0.5f};

std::string WriteExample(const std::string& path) {
  QuantizeOptions options;
  options.format = FindPotFormat("pot4").value();
  std::vector<PotCode> codes(kExampleWeights.size());
  for (int row = 0; row < 2; ++row) {
    QuantizeGroup(absl::MakeConstSpan(kExampleWeights).subspan(3 * row, 3),
                  kExampleScales[row], options,
                  absl::MakeSpan(codes).subspan(3 * row, 3));
  }
  auto writer = ExponentCheckpointWriter::Create();
  writer->AddMatrix(
      "w", PotMatrix::FromCodes(options.format, 2, 3, options.granularity,
                                codes, kExampleScales)
               .value());
  EXPECT_TRUE(writer->Write(path, {"", "example", "pot 0.1.0"}).ok());
  return ReadAll(path);
}

TEST(FormatDocument, WorkedExampleIsWhatTheWriterWrites) {
  const TempDirectory directory;
  const std::string file = WriteExample(directory / "w.safetensors");
  ASSERT_GE(file.size(), 8u);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), 8);

  const auto headers = Fences("json");
  ASSERT_EQ(headers.size(), 1u);
  EXPECT_EQ(nlohmann::json::parse(headers[0]).dump(2),
            nlohmann::json::parse(file.substr(8, header_bytes)).dump(2));

  // The first hex block is the header length, the second the data section.
  const auto hex = Fences("hex");
  ASSERT_EQ(hex.size(), 2u);
  const auto bytes = [](const std::string& text) {
    return absl::HexStringToBytes(
        absl::StrReplaceAll(text, {{" ", ""}, {"\n", ""}}));
  };
  EXPECT_EQ(absl::BytesToHexString(bytes(hex[0])),
            absl::BytesToHexString(file.substr(0, 8)));
  EXPECT_EQ(absl::BytesToHexString(bytes(hex[1])),
            absl::BytesToHexString(file.substr(8 + header_bytes)));
}

TEST(FormatDocument, TheFuzzersSeedIsTheWorkedExample) {
  const TempDirectory directory;
  EXPECT_EQ(ReadAll(POT_SOURCE_DIR
                    "/tests/fuzz/corpus/safetensors_fuzzer/worked_example"),
            WriteExample(directory / "w.safetensors"));
}

TEST(FormatDocument, WorkedExampleDecodesAsTheTableSays) {
  const TempDirectory directory;
  WriteExample(directory / "w.safetensors");
  const auto checkpoint = ExponentCheckpoint::Open(directory / "w.safetensors");
  POT_ASSERT_OK(checkpoint);
  const auto matrix = (*checkpoint)->Matrix("w", 2, 3);
  POT_ASSERT_OK(matrix);
  EXPECT_THAT(Dequantize(*matrix),
              testing::ElementsAre(0.5f, -0.25f, 0.0f, 1.0f, -4.0f, 64.0f));
}

class PythonSnippet : public testing::Test {
 protected:
  static constexpr char kPython[] = "/usr/bin/python3";

  void SetUp() override {
    const std::string probe =
        std::string(kPython) + " -c 'import numpy' >/dev/null 2>&1";
    if (std::system(probe.c_str()) != 0) {
      GTEST_SKIP() << "SKIPPED, NOT PASSED: " << kPython
                   << " lacks numpy (Debian: python3-numpy), so the document's "
                      "snippet was not run";
    }
    const auto fences = Fences("python");
    ASSERT_EQ(fences.size(), 1u);
    WriteAll(directory_ / "decode.py",
             fences[0] +
                 "\nimport sys\n"
                 "weights = decode(sys.argv[1], sys.argv[2])\n"
                 "assert weights.dtype == np.float32, weights.dtype\n"
                 "weights.astype('<f4').tofile(sys.argv[3])\n");
  }

  // What the snippet makes of matrix `name`.
  std::vector<float> Decode(const std::string& path, const std::string& name) {
    const std::string out = directory_ / "weights.bin";
    std::filesystem::remove(out);
    const std::string command = absl::StrCat(
        kPython, " ", directory_ / "decode.py", " ", path, " ", name, " ", out);
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
    const std::string bytes = ReadAll(out);
    std::vector<float> weights(bytes.size() / sizeof(float));
    std::memcpy(weights.data(), bytes.data(), bytes.size());
    return weights;
  }

  TempDirectory directory_;
};

TEST_F(PythonSnippet, DecodesEveryFormatToTheSameFloats) {
  auto writer = ExponentCheckpointWriter::Create();
  std::map<std::string, PotMatrix> matrices;
  // 131 columns: the last byte of a row is padded in every width, and the
  // last group is short.
  const std::vector<std::string> granularities = {"row", "tensor", "g32", "g64",
                                                  "g128"};
  uint32_t seed = 1;
  for (const PotFormat& format : AllPotFormats()) {
    const std::string name = absl::StrCat("h.0.", format.name);
    matrices.emplace(
        name, MakeMatrix(std::string(format.name), 5, 131,
                         granularities[seed % granularities.size()], seed));
    writer->AddMatrix(name, matrices.at(name));
    ++seed;
  }
  const std::vector<uint32_t> positions = {0, 130, 131, 400, 654};
  const std::vector<int16_t> values = {5, -32768, 32767, 1, -1};
  std::vector<float> weights(5 * 131);
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] = std::sin(static_cast<float>(i * i)) *
                 static_cast<float>(1 + i % 131 / 32 * 3);
  }
  QuantizeOptions powers;
  powers.format = FindPotFormat("twohot4").value();
  powers.granularity = Granularity::Parse("g32p2").value();
  matrices.emplace("powers", QuantizePot(weights, 5, 131, powers).value());
  writer->AddMatrix("powers", matrices.at("powers"));
  matrices.emplace("sparse",
                   matrices.at("h.0.pot4")
                       .WithOutliers({0.007f, positions, values}, nullptr)
                       .value());
  writer->AddMatrix("sparse", matrices.at("sparse"));
  // An odd number of halves before the codes, floats before them.
  writer->AddFloats("bias", {3}, {1, 2, 3}, /*half=*/true);
  writer->AddFloats("gain", {2}, {0.5f, 2}, /*half=*/false);
  const std::string path = directory_ / "model.pot.safetensors";
  POT_ASSERT_OK(writer->Write(path, {"", "test", "test"}));

  for (const auto& [name, matrix] : matrices) {
    const std::vector<float> found = Decode(path, name);
    const std::vector<float> expected = Dequantize(matrix);
    ASSERT_EQ(found.size(), expected.size()) << name;
    // Both are the same products and sums of floats: equal to the bit.
    EXPECT_EQ(std::memcmp(found.data(), expected.data(),
                          found.size() * sizeof(float)),
              0)
        << name;
  }
}

TEST_F(PythonSnippet, DecodesTheWorkedExample) {
  WriteExample(directory_ / "w.safetensors");
  EXPECT_THAT(Decode(directory_ / "w.safetensors", "w"),
              testing::ElementsAre(0.5f, -0.25f, 0.0f, 1.0f, -4.0f, 64.0f));
}

}  // namespace
}  // namespace pot
