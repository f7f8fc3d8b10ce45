// submit-qat and jobs against a scripted TrainingService.
#include <stdlib.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/client/client_testing.h"
#include "tests/client/fake_server.h"

namespace pot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  return lines;
}

class JobsTest : public testing::Test {
 protected:
  JobsTest() {
    std::string path = testing::TempDir() + "/pot_jobs_test.XXXXXX";
    EXPECT_NE(mkdtemp(path.data()), nullptr);
    directory_ = path;
  }
  ~JobsTest() override { std::filesystem::remove_all(directory_); }

  std::string File(const std::string& name, const std::string& content) {
    const std::string path = directory_ + "/" + name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  ClientRun Run(std::vector<std::string> arguments, ClientInput input = {}) {
    arguments.insert(arguments.begin(), {"--server", server_.address()});
    return RunPotClient(arguments, input);
  }
  void EndIn(v1::QatJobState state, int64_t every = 100) {
    training_.job = FinishedJob(state);
    training_.events = EventsOf(training_.job, every);
  }

  FakeServer server_;
  FakeTraining& training_ = server_.training;
  std::string directory_;
};

TEST_F(JobsTest, SubmitUploadsOnceAndPrintsTheId) {
  // More than one piece.
  const std::string text(3 << 20, 'x');
  const std::string train = File("train.txt", text + "\n");
  const std::string other = File("other.txt", "ä\nb");
  const ClientRun run = Run({"submit-qat", "--base", "tiny@fp32", "--train",
                             train, other, "--val", other, "--steps", "500"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out, "qat-7\n");
  const std::vector<std::string> lines = Lines(run.err);
  ASSERT_EQ(lines.size(), 5u) << run.err;
  EXPECT_THAT(lines[0],
              StartsWith("train.txt: 3.15 MB, 1 line, uploaded (sha256 "));
  EXPECT_THAT(lines[1], StartsWith("other.txt: 4 B, 2 lines, uploaded"));
  EXPECT_THAT(lines[2],
              HasSubstr("warning: the validation text is trained on"));
  EXPECT_THAT(lines[3], StartsWith("idempotency key qat-"));
  EXPECT_EQ(lines[4],
            absl::StrCat("QUEUED: 2,000 steps of 768 tokens (1.53 epochs), "
                         "about 2 min 40 s, 512 MB; watch it with: pot-client "
                         "--server ",
                         server_.address(), " jobs watch qat-7"));
  // The validation text was uploaded before.
  ASSERT_EQ(training_.headers.size(), 2u);
  const v1::QatJobSpec& spec = training_.submitted.spec();
  EXPECT_EQ(spec.base().alias(), "fp32");
  EXPECT_EQ(spec.quantization().format(), "pot4");
  EXPECT_EQ(spec.schedule().steps(), 500);
  EXPECT_THAT(spec.data().datasets().sha256(),
              ElementsAre(training_.headers[0].sha256(),
                          training_.headers[1].sha256()));
  EXPECT_EQ(spec.data().validation_sha256(), training_.headers[1].sha256());
  EXPECT_EQ(training_.datasets[training_.headers[0].sha256()], text + "\n");

  ClientInput input;
  input.in = text + "\n";
  input.in_is_pipe = true;
  const ClientRun again =
      Run({"submit-qat", "--base", "tiny", "--train", "-"}, input);
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.err, StartsWith("standard input: 3.15 MB, 1 line, already "
                                    "on the server"));
}

TEST_F(JobsTest, SubmitRefusesBeforeItUploads) {
  const std::string good = File("good.txt", "text");
  const std::string empty = File("empty.txt", "");
  // The bad byte is in the second piece, behind a character that straddles.
  const std::string long_lines =
      std::string((1 << 20) - 1, '\n') + "\xc3\xa4" + "abc\xff" + "d";
  const std::string bad = File("bad.txt", long_lines);
  const std::string cut = File("cut.txt", "line\nab\xc3");
  const std::string config = File("job.json", "{\"stepz\": 1}");
  const std::string toml = File("flags.toml", "lr = 1\n");
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"--train", good}, "no model to train: --base"},
      {{"--base", "tiny"},
       "no text to train on: --train FILE, or --train self"},
      {{"--base", "a/b", "--train", good}, "model name \"a/b\""},
      {{"--base", "tiny", "--train", empty}, "empty.txt is empty"},
      {{"--base", "tiny", "--train", bad},
       "bad.txt is not UTF-8 at line 1048576, byte 6 of the line (1048580 of "
       "the text)"},
      {{"--base", "tiny", "--train", cut},
       "cut.txt is not UTF-8 at line 2, byte 3 of the line (7 of the text)"},
      {{"--base", "tiny", "--train", "self", good}, "./self"},
      {{"--base", "tiny", "--train", good, "--self-tokens", "9"},
       "need --train self"},
      {{"--base", "tiny", "--train", good, "--gate", "ppl<1"},
       "condition \"ppl<1\" of the gate"},
      {{"--base", "tiny", "--train", good, "--lr", "fast"},
       "\"fast\" is no number"},
      {{"--base", "tiny", "--config", config}, "job.json: no field stepz"},
      {{"--base", "tiny", "--config", toml},
       "pot-client --config " + toml + " submit-qat"},
      {{"--base", "tiny", "--train", good, "--val", good, "--holdout-ratio",
        "0.1"},
       "--val excludes --holdout-ratio"}};
  for (auto [arguments, message] : cases) {
    arguments.insert(arguments.begin(), "submit-qat");
    const ClientRun run = Run(arguments);
    EXPECT_EQ(run.exit_code, 2) << run.err;
    EXPECT_EQ(run.out, "");
    EXPECT_THAT(run.err, HasSubstr(message));
    EXPECT_EQ(Lines(run.err).size(), 1u) << run.err;
  }
  EXPECT_EQ(Run({"submit-qat", "--base", "tiny", "--train", "/none"}).exit_code,
            3);
  EXPECT_EQ(training_.headers.size(), 0u);
}

TEST_F(JobsTest, DryRunShowsJobAndEstimate) {
  const ClientRun run = Run({"submit-qat", "--base", "tiny", "--train", "self",
                             "--self-tokens", "4096", "--dry-run", "--watch"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  // The default version is quantized.
  EXPECT_EQ(run.err,
            "base tiny@1, the floating-point version\n"
            "dry run: nothing is queued\n");
  EXPECT_EQ(run.out,
            "base            tiny@1\n"
            "data            written by the base, 4,096 tokens\n"
            "specification   every field\n"
            "  quantization.format  pot4\n"
            "gate            none\n"
            "\n"
            "steps           2,000\n"
            "tokens          1,536,000, 768 per step\n"
            "epochs          1.53\n"
            "time            about 2 min 40 s\n"
            "memory          512 MB of the worker's at most\n");
  EXPECT_TRUE(training_.submitted.dry_run());
  EXPECT_EQ(training_.submitted.idempotency_key(), "");
  const auto json =
      nlohmann::json::parse(Run({"submit-qat", "--base", "tiny", "--train",
                                 "self", "--dry-run", "--output", "json"})
                                .out);
  EXPECT_EQ(json["estimate"]["tokens_per_step"], "768");
}

TEST_F(JobsTest, ALostAnswerCanBeRepeated) {
  training_.lost_answers = 1;
  std::vector<std::string> arguments = {"submit-qat", "--base", "tiny",
                                        "--train", "self"};
  const ClientRun lost = Run(arguments);
  EXPECT_EQ(lost.exit_code, 1);
  EXPECT_EQ(lost.out, "");
  const std::string key = training_.submitted.idempotency_key();
  EXPECT_EQ(key.size(), 36u);
  EXPECT_THAT(lost.err, HasSubstr("with --idempotency-key " + key));
  arguments.insert(arguments.end(), {"--idempotency-key", key});
  const ClientRun found = Run(arguments);
  EXPECT_EQ(found.exit_code, 0);
  EXPECT_EQ(found.out, "qat-7\n");
  EXPECT_THAT(found.err, HasSubstr("\nthe idempotency key found this job"));
  EXPECT_EQ(training_.submitted.idempotency_key(), key);
}

TEST_F(JobsTest, FileThenEnvironmentThenFlags) {
  ClientInput input;
  input.environment = {
      {"POT_SUBMIT_QAT_CONFIG",
       File("job.json",
            R"({"base": {"name": "tiny"}, "data": {"self_generated": {}},
                "schedule": {"steps": 1, "warmup_steps": 2},
                "batch": {"sequences": 3}})")},
      {"POT_SUBMIT_QAT_WARMUP", "5"},
      {"POT_SUBMIT_QAT_BATCH", "6"},
      {"POT_SUBMIT_QAT_NO_PUBLISH", "true"}};
  const ClientRun run = Run({"submit-qat", "--batch", "9"}, input);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const v1::QatJobSpec& spec = training_.submitted.spec();
  EXPECT_EQ(spec.schedule().steps(), 1);
  EXPECT_EQ(spec.schedule().warmup_steps(), 5);
  EXPECT_EQ(spec.batch().sequences(), 9);
  EXPECT_TRUE(spec.publish().manual());
}

TEST_F(JobsTest, WatchWithoutTerminalWritesPlainLines) {
  EndIn(v1::QAT_JOB_STATE_SUCCEEDED, /*every=*/10);
  const ClientRun run =
      Run({"submit-qat", "--base", "tiny", "--train", "self", "--watch"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(Lines(run.err).size(), 2u) << run.err;  // the base, the key
  const std::vector<std::string> lines = Lines(run.out);
  EXPECT_EQ(lines.front(),
            "job qat-7: 2,000 steps of 768 tokens (1.53 epochs), about 2 min "
            "40 s, 512 MB");
  EXPECT_EQ(lines.back(),
            "job qat-7 SUCCEEDED: published as tiny@3, after 2 min 44 s; "
            "perplexity 4.4817, 1.0101x the base's");
  int progress = 0, best = 0;
  for (const std::string& line : lines) {
    progress += absl::StrContains(line, " tokens/s");
    best += absl::StrContains(line, "best so far");
  }
  EXPECT_EQ(progress, 20);  // of 200
  EXPECT_EQ(best, 4);       // each evaluation up to step 1600
  EXPECT_EQ(run.out.find('\x1b'), std::string::npos);
}

TEST_F(JobsTest, WatchAsJson) {
  const std::vector<std::string> lines =
      Lines(Run({"jobs", "watch", "qat-7", "--output", "jsonl"}).out);
  ASSERT_EQ(lines.size(), training_.events.size());
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(nlohmann::json::parse(lines[i])["event"]["sequence"],
              std::to_string(i + 1));
  }
  EXPECT_EQ(nlohmann::json::parse(lines[0])["job"]["job_id"], "qat-7");
  EXPECT_EQ(
      Lines(Run({"jobs", "watch", "qat-7", "--after", "5", "--output", "jsonl"})
                .out)
          .size(),
      lines.size() - 5);
  const auto job = nlohmann::json::parse(
      Run({"jobs", "watch", "qat-7", "--output", "json"}).out);
  EXPECT_EQ(job["state"], "QAT_JOB_STATE_SUCCEEDED");
}

TEST_F(JobsTest, WatchResumesWhereItBroke) {
  const ClientRun whole = Run({"jobs", "watch", "qat-7"});
  EXPECT_EQ(whole.exit_code, 0);
  EXPECT_EQ(whole.err, "");
  training_.breaks = {5, 9};
  const ClientRun broken = Run({"jobs", "watch", "qat-7"});
  EXPECT_EQ(broken.exit_code, 0) << broken.err;
  EXPECT_EQ(broken.out, whole.out);
  EXPECT_THAT(training_.watched_after(), ElementsAre(0, 0, 4, 8));
  const std::vector<std::string> lines = Lines(broken.err);
  ASSERT_EQ(lines.size(), 2u) << broken.err;
  EXPECT_EQ(
      lines[0],
      absl::StrCat("pot-client: lost the connection to ", server_.address(),
                   " (it broke); trying again, the job goes on"));
}

TEST_F(JobsTest, WatchSaysHowTheJobEnded) {
  EndIn(v1::QAT_JOB_STATE_FAILED);
  ClientRun run = Run({"jobs", "watch", "qat-7"});
  EXPECT_EQ(run.exit_code, 9);
  EXPECT_EQ(run.err,
            "pot-client: job qat-7 FAILED: the loss is not finite at step "
            "2000, after 2 min 44 s\n");
  EndIn(v1::QAT_JOB_STATE_CANCELLED);
  EXPECT_EQ(Run({"jobs", "watch", "qat-7"}).exit_code, 10);
  EndIn(v1::QAT_JOB_STATE_GATE_REJECTED);
  run = Run({"jobs", "watch", "qat-7", "--output", "jsonl"});
  EXPECT_EQ(run.exit_code, 11);
  EXPECT_THAT(run.err, StartsWith("pot-client: job qat-7 GATE_REJECTED: "));
  // The stream ends without the last event: the job itself is asked.
  training_.events.pop_back();
  EXPECT_EQ(Run({"jobs", "watch", "qat-7"}).exit_code, 11);
  EXPECT_EQ(Run({"jobs", "watch", "qat-7", "--after", "999"}).exit_code, 11);
  EXPECT_EQ(Run({"jobs", "watch", "qat-8"}).exit_code, 3);
}

TEST_F(JobsTest, CtrlCLeavesTheJobAlone) {
  training_.silent_before = 4;
  ClientInput input;
  input.beside = [](Interrupter* interrupter,
                    const std::function<int64_t()>& out_bytes) {
    while (out_bytes() == 0) std::this_thread::yield();
    interrupter->Interrupt();
  };
  const ClientRun run = Run({"jobs", "watch", "qat-7"}, input);
  EXPECT_EQ(run.exit_code, 130);
  EXPECT_EQ(run.err,
            absl::StrCat("pot-client: detached, the job goes on; come back "
                         "with: pot-client --server ",
                         server_.address(), " jobs watch qat-7\n"));
  EXPECT_TRUE(training_.changes.empty());
  const ClientRun late = Run({"--timeout", "200ms", "jobs", "watch", "qat-7"});
  EXPECT_EQ(late.exit_code, 5);
  EXPECT_THAT(late.err, StartsWith("pot-client: to come back: "));
}

TEST_F(JobsTest, ATerminalShowsALineThatMoves) {
  EndIn(v1::QAT_JOB_STATE_SUCCEEDED, /*every=*/10);
  training_.pace = absl::Milliseconds(1);
  ClientInput input;
  input.err_columns = 80;
  input.environment = {{"LANG", "de_DE.UTF-8"}};
  const ClientRun run = Run({"jobs", "watch", "qat-7"}, input);
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, Not(HasSubstr("tokens/s")));
  EXPECT_THAT(run.err, HasSubstr("\r\x1b[K[#"));
  EXPECT_THAT(run.err, HasSubstr("▁"));
  // Erased at the end, and no line wraps.
  EXPECT_TRUE(absl::EndsWith(run.err, "\r\x1b[K")) << run.err;
  EXPECT_EQ(run.err.find('\n'), std::string::npos);
}

TEST_F(JobsTest, ListReadsPages) {
  training_.listed_jobs = 1500;
  ClientRun run = Run({"jobs", "list", "--limit", "1200", "--output", "jsonl",
                       "--state", "gate-rejected", "--state", "running"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(Lines(run.out).size(), 1200u);
  EXPECT_THAT(training_.changes,
              ElementsAre("list 1000  2", "list 200 1000 2"));
  run = Run({"jobs", "list", "--limit", "1"});
  EXPECT_EQ(run.err, "there are older jobs: --limit\n");
  EXPECT_EQ(
      run.out,
      "job    state      base    format           step    loss  to go  "
      "published  by     age\n"
      "─────  ─────────  ──────  ────────  ───────────  ──────  ─────  "
      "─────────  ─────  ───\n"
      "qat-1  SUCCEEDED  tiny@1  pot4 row  2,000/2,000  1.5067      -  tiny@3 "
      "    alice  0 s\n");
  EXPECT_EQ(Run({"jobs", "list", "--limit", "0"}).exit_code, 2);
  EXPECT_EQ(Run({"jobs", "list", "--state", "lost"}).exit_code, 2);
}

TEST_F(JobsTest, SteersJobs) {
  const std::string job = "qat-7 SUCCEEDED, step 2,000 of 2,000 (100 %)\n";
  EXPECT_EQ(Run({"jobs", "cancel", "qat-7", "--comment", "why"}).out, job);
  EXPECT_EQ(Run({"jobs", "pause", "qat-7"}).out, job);
  EXPECT_EQ(Run({"jobs", "resume", "qat-7"}).out, job);
  EXPECT_EQ(Run({"jobs", "stop", "qat-7"}).out, job);
  EXPECT_EQ(Run({"jobs", "publish", "qat-7", "c-400", "--force"}).out,
            "published as tiny@4\n");
  EXPECT_EQ(Run({"jobs", "rm", "qat-7", "qat-8"}).out,
            "deleted qat-7\ndeleted qat-8\n");
  EXPECT_THAT(training_.changes,
              ElementsAre("cancel qat-7 why", "pause qat-7", "resume qat-7",
                          "stop qat-7", "publish qat-7 c-400 force ",
                          "delete qat-7", "delete qat-8"));
  const std::vector<std::string> table =
      Lines(Run({"jobs", "checkpoints", "qat-7"}).out);
  ASSERT_EQ(table.size(), 7u);
  EXPECT_EQ(table[5],
            "c-1600      1,600      4.4817  1.5000 ± 0.0030  0.01250         "
            "93.75 %  221 kB  -     -          best");
  EXPECT_THAT(Run({"jobs", "show", "qat-7"}).out,
              HasSubstr("published       tiny@3 (sha256 eeeee"));
}

TEST_F(JobsTest, PlotDrawsFiles) {
  EXPECT_EQ(Run({"jobs", "plot", "qat-7"}).exit_code, 2);
  EXPECT_EQ(Run({"jobs", "plot", "qat-7", "--out", "curve.pdf"}).exit_code, 2);
  const std::string old_path = std::getenv("PATH");
  setenv("PATH", directory_.c_str(), 1);
  const ClientRun without =
      Run({"jobs", "plot", "qat-7", "--out", directory_ + "/a.svg"});
  setenv("PATH", old_path.c_str(), 1);
  EXPECT_EQ(without.exit_code, 8);
  EXPECT_THAT(without.err, HasSubstr("Debian package gnuplot-nox"));
  if (std::system("command -v gnuplot >/dev/null") != 0) {
    GTEST_SKIP() << "gnuplot is not installed: no figure is drawn";
  }
  // Nothing that a shell or gnuplot would obey.
  const std::string name = directory_ + "/|a'$(id)";
  for (const auto& [extension, magic] :
       {std::pair{".svg", "<?xml"}, std::pair{".png", "\x89PNG"}}) {
    const ClientRun run =
        Run({"jobs", "plot", "qat-7", "--out", name + extension});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    EXPECT_THAT(run.err, HasSubstr("20 measurements of training, 5 evaluat"));
    std::ostringstream content;
    content << std::ifstream(name + extension, std::ios::binary).rdbuf();
    EXPECT_THAT(content.str(), StartsWith(magic));
  }
  training_.events.resize(3);
  EXPECT_EQ(Run({"jobs", "plot", "qat-7", "--out", name + ".svg"}).exit_code,
            8);
}

}  // namespace
}  // namespace pot
