// What every method makes of the shipped model, served in integers, is what
// training's fake quantization computes of it: on the shipped sample, or on the
// text that POT_QUANTIZE_JOB_TEXT names, which makes noise smaller.
#include "trainer/quantize_job.h"

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/base/file.h"
#include "engine/checkpoint/exponent_checkpoint.h"
#include "engine/gpt2/evaluation.h"
#include "engine/gpt2/float_model.h"
#include "engine/gpt2/model_files.h"
#include "engine/loaded_model.h"
#include "engine/quant/pot_format.h"
#include "gtest/gtest.h"
#include "test_paths.h"
#include "trainer/ptq/dequantize.h"
#include "trainer/training/evaluate_text.h"

namespace pot {
namespace {

constexpr char kModel[] = POT_SOURCE_DIR "/deploy/models/shakespeare-char/1";
constexpr char kSample[] = POT_SOURCE_DIR "/deploy/sample.txt";
constexpr EvaluationProtocol kProtocol = {64, 64};
// An activation at the edge between two of its 256 levels may fall on either
// side, and keys and values are fp16 in one of the two: by so many nats single
// predictions differ, around nothing.
constexpr double kSpread = 0.035;

std::string TextFile() {
  const char* const named = std::getenv("POT_QUANTIZE_JOB_TEXT");
  return named == nullptr ? kSample : named;
}

struct Case {
  std::string format, granularity, method;
  bool additions = false;  // outliers and equalization

  std::string Name() const {
    return absl::StrReplaceAll(
        absl::StrCat(format, "_", granularity, "_", method,
                     additions ? "_with_additions" : ""),
        {{"-", "_"}});
  }
};
void PrintTo(const Case& which, std::ostream* out) { *out << which.Name(); }

class QuantizeJobTest : public testing::TestWithParam<Case> {
 protected:
  QuantizeJobTest()
      : directory_(std::filesystem::path(testing::TempDir()) /
                   absl::StrCat("quantize_job_", getpid())),
        layout_(ReadGpt2Config(kModel).value()),
        tokenizer_(LoadTokenizer(kModel, layout_.config()).value()),
        sample_(Tokenize(kSample)),
        text_(Tokenize(TextFile())) {
    std::filesystem::create_directories(directory_);
  }
  ~QuantizeJobTest() override { std::filesystem::remove_all(directory_); }

  TokenCorpus Tokenize(const std::string& file) const {
    return TokenizeText(ReadFile(file, 1 << 20).value(), *tokenizer_, {})
        .value();
  }

  double ServedNats() {
    const auto model =
        LoadModel(directory_, ModelIdentity(),
                  {.kernels = KernelTableFromEnvironment().value(),
                   .activations = ActivationMode::kAffine})
            .value();
    std::vector<int32_t> tokens(text_.size());
    text_.Copy(0, absl::MakeSpan(tokens));
    ThreadPool pool(1);
    return Evaluate(
               *model->weights, nullptr, tokens, kProtocol,
               [](int32_t) { return 1; }, &pool, nullptr)
        .value()
        .mean_nats();
  }

  // Of what is in directory_.
  std::vector<float> Parameters() const {
    const auto checkpoint =
        ExponentCheckpoint::Open(directory_ / kExponentCheckpointFile).value();
    std::vector<float> parameters(layout_.size());
    for (size_t i = 0; i < layout_.tensors().size(); ++i) {
      const TensorSpec& tensor = layout_.tensors()[i];
      const absl::Span<float> values =
          absl::MakeSpan(parameters)
              .subspan(layout_.offset(static_cast<int>(i)),
                       tensor.num_elements());
      if (tensor.quantized()) {
        Dequantize(checkpoint->Matrix(tensor.name, tensor.rows(), tensor.cols())
                       .value(),
                   values);
      } else {
        const std::vector<float> floats =
            checkpoint->ReadFloats(tensor.name, tensor.shape).value();
        std::copy(floats.begin(), floats.end(), values.begin());
      }
    }
    return parameters;
  }

  double FakeQuantizedNats() const {
    auto activations = ActivationFakeQuantizer::Create(
                           NumActivationSites(layout_.config()),
                           {.mode = ActivationFakeQuantization::kAffine})
                           .value();
    const auto objective =
        Objective<float>::Create(&layout_, TrunkOptions{}, Precision::kF32,
                                 &activations, nullptr, {})
            .value();
    const std::vector<float> parameters = Parameters();
    objective->SetParameters(parameters);
    return EvaluateText(text_, kProtocol, -1, nullptr, objective.get())
        .value()
        .mean_nats();
  }

  const std::filesystem::path directory_;
  const ParameterLayout layout_;
  const std::unique_ptr<const Tokenizer> tokenizer_;
  const TokenCorpus sample_, text_;
};

TEST_P(QuantizeJobTest, ServedPerplexityIsThatOfFakeQuantization) {
  QuantizeJob job;
  job.from = kModel;
  job.quantize.format = GetParam().format;
  job.quantize.granularity = GetParam().granularity;
  job.quantize.method = GetParam().method;
  if (GetParam().additions) {
    job.quantize.outliers = "0.1%";
    job.calibration.equalize = true;
  }
  job.calibration.potptq.epochs = 1;
  job.calibration_text = &sample_;
  const auto outcome = RunQuantizeJob(job, directory_, nullptr);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  const double served = ServedNats();
  // A model that says nothing would agree with itself.
  EXPECT_LT(served, std::log(layout_.config().vocab_size) + 2);
  const double ratio = std::exp(served - FakeQuantizedNats());
  std::cout << "perplexity " << std::exp(served) << ", over that of fake "
            << "quantization 1 " << (ratio < 1 ? "- " : "+ ")
            << std::fabs(ratio - 1) << "\n";
  // The bound that the project promises, and three standard errors.
  const auto predictions = static_cast<double>(text_.size() - 1);
  EXPECT_NEAR(ratio, 1, 1e-3 + 3 * kSpread / std::sqrt(predictions));
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const PotFormat& format : AllPotFormats()) {
    cases.push_back({std::string(format.name), "row", "rtn"});
  }
  for (const std::string& method : QuantizeMethods()) {
    if (method == "rtn") continue;
    cases.push_back({"pot4", method == "paper" ? "tensor" : "g64", method});
    // The papers' arithmetic is that of their own levels.
    if (method != "paper") cases.push_back({"pot3-strict", "g128", method});
  }
  for (const char* const method : {"rtn", "gptq"}) {
    cases.push_back({"pot3", "g32p2", method, true});
    cases.push_back({"twohot4", "g64", method, true});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Methods, QuantizeJobTest, testing::ValuesIn(Cases()),
                         [](const auto& test) { return test.param.Name(); });

TEST(FloatParametersTest, AFileHoldsWhatMemoryHolds) {
  const auto memory = FloatParameters::Read(kModel, "");
  ASSERT_TRUE(memory.ok()) << memory.status();
  const auto file = FloatParameters::Read(kModel, testing::TempDir());
  ASSERT_TRUE(file.ok()) << file.status();
  (*file)->values()[(*file)->values().size() / 2] = 7;
  (*memory)->values()[(*file)->values().size() / 2] = 7;
  for (int64_t layer = 0; layer < (*file)->layout().config().n_layer; ++layer) {
    (*file)->ReleaseLayer(layer);
    (*memory)->ReleaseLayer(layer);
  }
  EXPECT_EQ((*file)->values(), (*memory)->values());
}

TEST(FloatParametersTest, NeedsADirectory) {
  const auto none = FloatParameters::Read(kModel, "/nowhere/at all");
  EXPECT_EQ(none.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(none.status().message().find("/nowhere/at all"),
            absl::string_view::npos)
      << none.status();
}

}  // namespace
}  // namespace pot
