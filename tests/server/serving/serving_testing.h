// What the tests of the scheduler share: a PoT model, a clock, sinks.
#ifndef POT_TESTS_SERVER_SERVING_SERVING_TESTING_H_
#define POT_TESTS_SERVER_SERVING_SERVING_TESTING_H_

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/gpt2/quantize_model.h"
#include "engine/inference_engine.h"
#include "engine/kernels/kernel_table.h"
#include "engine/loaded_model.h"
#include "engine/quant/pot_format.h"
#include "gtest/gtest.h"
#include "server/serving/error_details.h"
#include "server/serving/generate_task.h"
#include "test_paths.h"

namespace pot {

inline std::string ReasonOf(const absl::Status& status) {
  return GetDetails(status).value_or(ErrorDetails()).reason;
}

// tests/testdata/tiny-bpe (V 300, context 64) quantized to the named format;
// null, with a failure, when that does not work.
inline std::shared_ptr<const LoadedModel> QuantizedTinyModel(
    const std::string& format) {
  const std::string source =
      std::string(POT_SOURCE_DIR) + "/tests/testdata/tiny-bpe";
  const std::string directory = testing::TempDir() + "/pot_serving_" + format +
                                "_" + std::to_string(getpid());
  std::filesystem::remove_all(directory);
  std::filesystem::create_directories(directory);
  QuantizeModelOptions options;
  const auto found = FindPotFormat(format);
  if (!found.ok()) {
    ADD_FAILURE() << found.status();
    return nullptr;
  }
  options.layers.format = *found;
  options.embedding.format = *found;
  ThreadPool pool(1);
  const auto report = QuantizeModel(source, directory, options, &pool, nullptr);
  const auto kernels = KernelTableFromEnvironment();
  if (!report.ok() || !kernels.ok()) {
    ADD_FAILURE() << report.status() << kernels.status();
    return nullptr;
  }
  auto model =
      LoadModel(directory, {"tiny-" + format, 1, ""}, {.kernels = *kernels});
  std::filesystem::remove_all(directory);
  if (!model.ok()) {
    ADD_FAILURE() << model.status();
    return nullptr;
  }
  return *std::move(model);
}

inline const std::shared_ptr<const LoadedModel>& TinyModel() {
  static const auto* const model =
      new std::shared_ptr<const LoadedModel>(QuantizedTinyModel("pot4"));
  return *model;
}

// Another model over the same vocabulary.
inline const std::shared_ptr<const LoadedModel>& OtherTinyModel() {
  static const auto* const model =
      new std::shared_ptr<const LoadedModel>(QuantizedTinyModel("pot3"));
  return *model;
}

// Stands still unless moved.
class FakeClock {
 public:
  absl::Time Now() const { return now_; }
  void Advance(absl::Duration duration) { now_ += duration; }

 private:
  absl::Time now_ = absl::FromUnixSeconds(1700000000);
};

// Keeps everything; one thread.
class RecordingSink : public TokenSink {
 public:
  void OnPrompt(std::vector<SampledToken> logprobs) override {
    EXPECT_TRUE(events.empty()) << "the prompt comes first";
    ++prompts;
    prompt = std::move(logprobs);
  }
  void OnToken(TokenEvent event) override {
    EXPECT_EQ(done, 0) << "a token after the end";
    events.push_back(std::move(event));
  }
  void OnDone(const absl::Status& with, const TaskUsage& used,
              const TaskTimings& took) override {
    ++done;
    status = with;
    usage = used;
    timings = took;
  }
  bool ReadyForMore() const override { return ready; }

  std::string Text(int index = 0) const {
    std::string text;
    for (const TokenEvent& event : events) {
      if (event.index == index) text += event.text;
    }
    return text;
  }
  std::vector<int32_t> Ids(int index = 0) const {
    std::vector<int32_t> ids;
    for (const TokenEvent& event : events) {
      if (event.index != index) continue;
      ids.insert(ids.end(), event.ids.begin(), event.ids.end());
    }
    return ids;
  }
  // The event that ended a sequence; exactly one must.
  TokenEvent Last(int index = 0) const {
    TokenEvent last;
    int count = 0;
    for (const TokenEvent& event : events) {
      if (event.index != index || event.finish == FinishReason::kNone) continue;
      last = event;
      ++count;
    }
    EXPECT_EQ(count, 1);
    return last;
  }

  bool ready = true;
  int prompts = 0;
  std::vector<SampledToken> prompt;
  std::vector<TokenEvent> events;
  int done = 0;
  absl::Status status;
  TaskUsage usage;
  TaskTimings timings;
};

// A request of the tiny model; `sink` is kept by the task too.
inline std::unique_ptr<GenerateTask> MakeTask(std::shared_ptr<TokenSink> sink,
                                              std::vector<int32_t> prompt,
                                              int64_t max_new_tokens) {
  auto task = std::make_unique<GenerateTask>();
  task->model = TinyModel();
  task->prompt = std::move(prompt);
  task->sampling.seed = 7;
  task->max_new_tokens = max_new_tokens;
  task->ignore_eos = true;
  task->cancelled = std::make_shared<std::atomic<bool>>(false);
  task->sink = std::move(sink);
  return task;
}

}  // namespace pot

#endif  // POT_TESTS_SERVER_SERVING_SERVING_TESTING_H_
