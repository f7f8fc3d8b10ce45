// Gradients of the training model: against finite differences in double, and
// against PyTorch (gradient_goldens.json, made by make_gradient_goldens.py).
#include <cmath>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "test_paths.h"
#include "trainer/gpt2/objective.h"
#include "trainer/gpt2/parameter_layout.h"
#include "trainer/optimizer/adamw.h"

namespace pot {
namespace {

const nlohmann::json& Goldens() {
  static const auto* const goldens = [] {
    std::ifstream file(POT_SOURCE_DIR
                       "/tests/trainer/gpt2/gradient_goldens.json");
    return new nlohmann::json(nlohmann::json::parse(file));
  }();
  return *goldens;
}

Gpt2Config ConfigOf(const nlohmann::json& test_case) {
  const nlohmann::json& shape = Goldens()["config"];
  Gpt2Config config;
  config.n_layer = shape["n_layer"];
  config.n_head = shape["n_head"];
  config.n_embd = shape["n_embd"];
  config.n_inner = shape["n_inner"];
  config.n_positions = shape["n_positions"];
  config.vocab_size = shape["vocab_size"];
  config.tie_word_embeddings = test_case["tied"];
  config.activation =
      test_case["exact_gelu"] ? Activation::kGeluErf : Activation::kGeluTanh;
  return config;
}

LossOptions LossOf(const nlohmann::json& test_case) {
  return {.cross_entropy_weight = test_case["ce"],
          .distillation_weight = test_case["kl"],
          .temperature = test_case["temperature"],
          .last_position = test_case["last_position"]};
}

// The formula of make_gradient_goldens.py.
template <typename T>
std::vector<T> FormulaParameters(const ParameterLayout& layout, double shift) {
  std::vector<T> parameters(layout.size());
  for (size_t t = 0; t < layout.tensors().size(); ++t) {
    const TensorSpec& tensor = layout.tensors()[t];
    const bool gain = tensor.kind == TensorKind::kLayerNorm &&
                      tensor.name.find(".weight") != std::string::npos;
    for (int64_t i = 0; i < tensor.num_elements(); ++i) {
      parameters[layout.offset(static_cast<int>(t)) + i] =
          T((gain ? 1.0 : 0.0) +
            0.3 * std::sin(1 + 0.37 * static_cast<double>(i) +
                           1.7 * static_cast<double>(t) + shift));
    }
  }
  return parameters;
}

struct FormulaBatch {
  explicit FormulaBatch(const Gpt2Config& config)
      : sequences(Goldens()["sequences"]), context(Goldens()["context"]) {
    for (int64_t b = 0; b < sequences; ++b) {
      for (int64_t p = 0; p <= context; ++p) {
        const auto token =
            static_cast<int32_t>((7 * b + 3 * p + p * p) % config.vocab_size);
        if (p < context) inputs.push_back(token);
        if (p > 0) targets.push_back(token);
      }
    }
  }
  ObjectiveBatch View() const {
    return {{.sequences = sequences,
             .context = context,
             .tokens = inputs.data(),
             .dropout_seed = 5,
             .dropout_step = 3},
            targets.data()};
  }
  int64_t sequences, context;
  std::vector<int32_t> inputs, targets;
};

// A model with its loss, on the formula's parameters.
template <typename T>
struct Subject {
  explicit Subject(const nlohmann::json& test_case, double dropout = 0)
      : layout(ConfigOf(test_case)),
        batch(layout.config()),
        loss(LossOf(test_case)),
        parameters(FormulaParameters<T>(layout, 0)),
        teacher(FormulaParameters<T>(layout, 0.5)) {
    const bool distilled = loss.distillation_weight > 0;
    objective =
        Objective<T>::Create(&layout, {dropout}, Precision::kF32, nullptr,
                             distilled ? &layout : nullptr, teacher)
            .value();
    objective->SetParameters(parameters);
  }
  double predictions() const {
    return static_cast<double>(
        loss.last_position ? batch.sequences : batch.sequences * batch.context);
  }
  // Mean loss; the gradient of it is added.
  double AddGradients(std::vector<T>* gradients) {
    return objective
        ->AddGradients(batch.View(), loss, 1 / predictions(),
                       absl::MakeSpan(*gradients))
        .value()
        .mean_loss(loss);
  }

  ParameterLayout layout;
  FormulaBatch batch;
  LossOptions loss;
  std::vector<T> parameters, teacher;
  std::unique_ptr<Objective<T>> objective;
};

// Largest error of a projection relative to the gradient's largest one.
template <typename T>
double WorstProjection(const Subject<T>& subject,
                       const std::vector<T>& gradients,
                       const nlohmann::json& golden) {
  double worst = 0;
  for (size_t t = 0; t < subject.layout.tensors().size(); ++t) {
    double sums[3] = {};
    const int64_t count = subject.layout.tensors()[t].num_elements();
    double size = 0;
    for (int64_t i = 0; i < count; ++i) {
      const double g =
          gradients[subject.layout.offset(static_cast<int>(t)) + i];
      const auto x = static_cast<double>(i);
      sums[0] += g;
      sums[1] += g * std::cos(x);
      sums[2] += g * std::sin(0.1 * x * x);
      size += std::abs(g);
    }
    for (int k = 0; k < 3; ++k) {
      const double error = std::abs(sums[k] - golden[t][k].get<double>());
      worst = std::max(worst, error / (size + 1e-3));
    }
  }
  return worst;
}

TEST(GradientTest, EqualPyTorchInDouble) {
  for (const nlohmann::json& test_case : Goldens()["cases"]) {
    SCOPED_TRACE(test_case.dump().substr(0, 120));
    Subject<double> subject(test_case);
    std::vector<double> gradients(subject.layout.size());
    // Both sides round in double, some thousand operations deep.
    EXPECT_NEAR(subject.AddGradients(&gradients),
                test_case["loss"].get<double>(), 1e-12);
    EXPECT_LT(WorstProjection(subject, gradients, test_case["gradients"]),
              1e-10);
    EXPECT_NEAR(subject.objective->Evaluate(subject.batch.View(), subject.loss)
                    .value()
                    .mean_loss(subject.loss),
                test_case["loss"].get<double>(), 1e-12);
  }
}

TEST(GradientTest, EqualPyTorchInFloat) {
  for (const nlohmann::json& test_case : Goldens()["cases"]) {
    SCOPED_TRACE(test_case.dump().substr(0, 120));
    Subject<float> subject(test_case);
    std::vector<float> gradients(subject.layout.size());
    // 2^-24 per operation, through two layers; seen: 2e-7 and 3e-6.
    EXPECT_NEAR(subject.AddGradients(&gradients),
                test_case["loss"].get<double>(), 2e-6);
    EXPECT_LT(WorstProjection(subject, gradients, test_case["gradients"]),
              2e-5);
  }
}

// Central differences in double: truncation is about h^2 of the loss's third
// derivative, rounding 1e-16 / h.
TEST(GradientTest, EqualFiniteDifferencesForEveryParameter) {
  constexpr double kStep = 1e-5;
  Subject<double> subject(Goldens()["cases"][3], 0.3);
  std::vector<double> gradients(subject.layout.size());
  subject.AddGradients(&gradients);
  std::vector<double> ignored(subject.layout.size());
  double worst = 0;
  for (int64_t i = 0; i < subject.layout.size(); ++i) {
    const double value = subject.parameters[i];
    subject.parameters[i] = value + kStep;
    const double above = subject.AddGradients(&ignored);
    subject.parameters[i] = value - kStep;
    const double below = subject.AddGradients(&ignored);
    subject.parameters[i] = value;
    worst =
        std::max(worst, std::abs((above - below) / (2 * kStep) - gradients[i]));
  }
  EXPECT_LT(worst, 1e-8);
}

TEST(GradientTest, DropoutChangesTheLossAndKeepsItsMean) {
  const nlohmann::json& test_case = Goldens()["cases"][0];
  Subject<double> plain(test_case);
  Subject<double> dropped(test_case, 0.1);
  std::vector<double> gradients(plain.layout.size());
  EXPECT_NE(dropped.AddGradients(&gradients), plain.AddGradients(&gradients));
  EXPECT_EQ(
      dropped.objective->Evaluate(dropped.batch.View(), dropped.loss)
          .value()
          .nats,
      plain.objective->Evaluate(plain.batch.View(), plain.loss).value().nats);
}

TEST(GradientTest, TenStepsEqualPyTorchs) {
  const nlohmann::json& training = Goldens()["training"];
  Subject<float> subject(Goldens()["cases"][0]);
  const size_t size = subject.layout.size();
  std::vector<float> m(size), v(size);
  for (int step = 1; step <= 10; ++step) {
    std::vector<float> gradients(size);
    // Errors of one step's gradient, 1e-5 of it at most, move the parameters by
    // as much of the step, 1e-2; the losses' slopes are below 1.
    EXPECT_NEAR(subject.AddGradients(&gradients),
                training["losses"][step - 1].get<double>(), 1e-5)
        << step;
    const double norm = std::sqrt(SumOfSquares(gradients));
    // Some gradients are zeros but for rounding (that of the keys' bias: adding
    // to every key changes no softmax), and Adam makes whole steps of them.
    EXPECT_NEAR(norm, training["norms"][step - 1].get<double>(), 1e-3);
    const double scale = std::min(1.0, 0.5 / (norm + 1e-6));
    for (size_t t = 0; t < subject.layout.tensors().size(); ++t) {
      const TensorSpec& tensor = subject.layout.tensors()[t];
      const int64_t offset = subject.layout.offset(static_cast<int>(t));
      const int64_t count = tensor.num_elements();
      const auto part = [&](std::vector<float>& x) {
        return absl::MakeSpan(x).subspan(offset, count);
      };
      AdamWStep({.weight_decay = tensor.shape.size() == 2 ? 0.1 : 0.0}, 1e-2,
                step, scale, part(gradients), part(m), part(v),
                part(subject.parameters));
    }
    subject.objective->SetParameters(subject.parameters);
  }
}

}  // namespace
}  // namespace pot
