// What people read and type about training jobs, without any server: gates,
// specifications from files and flags, reports, lines and curves.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/job_curves.h"
#include "client/job_event.h"
#include "client/job_line.h"
#include "client/job_plot.h"
#include "client/job_report.h"
#include "client/job_spec_file.h"
#include "client/job_spec_flags.h"
#include "client/job_spec_report.h"
#include "client/quality_gate.h"
#include "client/sparkline.h"
#include "client/text_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_training.h"

namespace pot {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(QualityGateTest, ReadsEveryCondition) {
  const auto gate =
      ParseQualityGate("ppl<=1.02x, kl <= 5e-2,top1>=0.9,ppl<=4.7");
  ASSERT_TRUE(gate.ok()) << gate.status();
  EXPECT_EQ(gate->max_perplexity_ratio(), 1.02);
  EXPECT_EQ(gate->max_perplexity(), 4.7);
  EXPECT_EQ(gate->max_mean_kl_nats(), 0.05);
  EXPECT_EQ(gate->min_top1_agreement(), 0.9);
  EXPECT_EQ(FormatQualityGate(*gate), "ppl<=1.02x,ppl<=4.7,kl<=0.05,top1>=0.9");
  EXPECT_EQ(FormatQualityGate(v1::QualityGate()), "");
}

TEST(QualityGateTest, QuotesWhatItRefuses) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "condition \"\" of the gate: write ppl<=1.02x"},
      {"ppl<1.02x", "condition \"ppl<1.02x\" of the gate: write"},
      {"ppl<=1.02x,", "condition \"\""},
      {"ppl>=1.02x", "ppl has an upper limit: ppl<=1.02"},
      {"top1<=0.9", "top1 has a lower limit: top1>=0.9"},
      {"kl<=0.05x", "\"0.05x\" is no number"},
      {"kl<=nan", "\"nan\" is no number"},
      {"ppl<=inf", "\"inf\" is no number"},
      {"loss<=2", "no figure \"loss\"; known are ppl, kl and top1"},
      {"kl<=1,kl<=2", "condition \"kl<=2\" of the gate: given twice"}};
  for (const auto& [text, message] : cases) {
    const auto gate = ParseQualityGate(text);
    ASSERT_TRUE(absl::IsInvalidArgument(gate.status())) << text;
    EXPECT_THAT(std::string(gate.status().message()), HasSubstr(message));
  }
}

TEST(JobSpecFileTest, ReadsBothSpellings) {
  const auto spec = ParseJobSpec(
      R"({"base": {"name": "tiny", "version": "2"},
          "data": {"datasets": {"sha256": ["aa", "bb"]}},
          "optimizer": {"learningRate": 1e-3, "weight_decay": 0},
          "schedule": {"steps": 500, "shape": "SCHEDULE_SHAPE_LINEAR"},
          "distillation": {}, "learned_scales": null})",
      "job.json");
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->base().version(), 2);
  EXPECT_EQ(spec->data().datasets().sha256_size(), 2);
  EXPECT_EQ(spec->optimizer().learning_rate(), 1e-3);
  EXPECT_TRUE(spec->optimizer().has_weight_decay());
  EXPECT_EQ(spec->schedule().shape(), v1::SCHEDULE_SHAPE_LINEAR);
  EXPECT_TRUE(spec->has_distillation());
  EXPECT_FALSE(spec->has_learned_scales());
}

TEST(JobSpecFileTest, NamesFileAndField) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"stepz": 1})", "job.json: no field stepz; a job has base, data, "},
      {R"({"schedule": {"stepz": 1}})",
       "job.json: no field schedule.stepz; schedule has steps, warmup_steps"},
      {R"({"base": "tiny"})", "job.json: base must be an object, not \"tiny\""},
      {R"({"loss": {"positions": "all"}})",
       "job.json: loss.positions must be one of LOSS_POSITIONS_ALL, "
       "LOSS_POSITIONS_LAST, not \"all\""},
      {R"({"publish": {"manual": 1}})",
       "job.json: publish.manual must be true or false, not 1"},
      {R"({"data": {"datasets": {"sha256": "aa"}}})",
       "job.json: data.datasets.sha256 must be an array, not \"aa\""},
      {R"({"schedule": {"steps": "many"}})",
       "job.json: schedule.steps: invalid value \"many\" for int64"},
      {R"({"seed": -1})", "job.json: seed: invalid value -1 for uint64"},
      {R"({"batch": {"sequences": 3000000000}})",
       "job.json: batch.sequences: invalid value 3000000000 for int32"},
      {R"({"seed": 1, "seed": 2})", "duplicate key \"seed\""},
      {R"([1])", "job.json: a job is an object, not [1]"},
      {R"({"seed": )", "job.json"}};
  for (const auto& [json, message] : cases) {
    const auto spec = ParseJobSpec(json, "job.json");
    ASSERT_TRUE(absl::IsInvalidArgument(spec.status())) << json;
    const std::string text(spec.status().message());
    EXPECT_THAT(text, HasSubstr(message)) << json;
    EXPECT_THAT(text, StartsWith("job.json")) << json;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  }
}

// The specification of a file with what flags change.
v1::QatJobSpec WithFlags(const std::string& json,
                         const std::vector<std::string>& arguments) {
  CLI::App app;
  SpecEdits edits;
  AddJobSpecFlags(Command(&app), &edits);
  app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  v1::QatJobSpec spec = *ParseJobSpec(json, "job.json");
  edits.Apply(&spec);
  return spec;
}

TEST(JobSpecFlagsTest, EveryFlagHasItsField) {
  const v1::QatJobSpec spec = WithFlags("{}", {"--format",
                                               "pot3",
                                               "--granularity",
                                               "g64",
                                               "--method",
                                               "paper",
                                               "--embedding-format",
                                               "pot6",
                                               "--embedding-granularity",
                                               "tensor",
                                               "--activations",
                                               "observed",
                                               "--ste",
                                               "identity",
                                               "--scale-lr-ratio",
                                               "5",
                                               "--freeze-ratio",
                                               "0.2",
                                               "--steps",
                                               "500",
                                               "--lr",
                                               "1e-3",
                                               "--warmup",
                                               "7",
                                               "--schedule",
                                               "linear",
                                               "--final-lr-ratio",
                                               "0.1",
                                               "--patience",
                                               "3",
                                               "--batch",
                                               "8",
                                               "--accumulation",
                                               "2",
                                               "--context",
                                               "32",
                                               "--dropout",
                                               "0.1",
                                               "--weight-decay",
                                               "0.01",
                                               "--clip-norm",
                                               "0",
                                               "--beta1",
                                               "0.8",
                                               "--beta2",
                                               "0.99",
                                               "--epsilon",
                                               "1e-6",
                                               "--precision",
                                               "bf16",
                                               "--seed",
                                               "18446744073709551615",
                                               "--loss",
                                               "last-token",
                                               "--cross-entropy-weight",
                                               "0.5",
                                               "--distill-weight",
                                               "2",
                                               "--distill-temperature",
                                               "3",
                                               "--teacher",
                                               "big@prod",
                                               "--eval-every",
                                               "50",
                                               "--eval-tokens",
                                               "4096",
                                               "--eval-window",
                                               "16",
                                               "--eval-stride",
                                               "8",
                                               "--snapshot-every",
                                               "25",
                                               "--keep-checkpoints",
                                               "5",
                                               "--gate",
                                               "ppl<=1.02x",
                                               "--publish-as",
                                               "tiny-pot",
                                               "--alias",
                                               "canary",
                                               "--keep-alias",
                                               "--no-publish",
                                               "--auto-rollback",
                                               "5m",
                                               "--rollback-error-ratio",
                                               "0.1",
                                               "--rollback-min-calls",
                                               "9"});
  const auto expected = ParseJobSpec(
      R"({"quantization": {"format": "pot3", "granularity": "g64",
            "method": "paper", "embedding_format": "pot6",
            "embedding_granularity": "tensor"},
          "activations": "ACTIVATION_QUANTIZATION_OBSERVED",
          "straight_through": "STRAIGHT_THROUGH_IDENTITY",
          "learned_scales": {"learning_rate_ratio": 5},
          "code_freeze": {"final_ratio": 0.2},
          "schedule": {"steps": 500, "warmup_steps": 7,
            "shape": "SCHEDULE_SHAPE_LINEAR", "final_ratio": 0.1,
            "patience_evaluations": 3},
          "optimizer": {"learning_rate": 1e-3, "weight_decay": 0.01,
            "clip_norm": 0, "beta1": 0.8, "beta2": 0.99, "epsilon": 1e-6},
          "batch": {"sequences": 8, "accumulation": 2, "context": 32},
          "dropout": 0.1, "precision": "TRAINING_PRECISION_BF16",
          "seed": "18446744073709551615",
          "loss": {"positions": "LOSS_POSITIONS_LAST",
            "cross_entropy_weight": 0.5},
          "distillation": {"weight": 2, "temperature": 3,
            "teacher": {"name": "big", "alias": "prod"}},
          "evaluation": {"every_steps": 50, "max_tokens": 4096, "window": 16,
            "stride": 8},
          "snapshots": {"every_steps": 25, "keep_checkpoints": 5},
          "gate": {"max_perplexity_ratio": 1.02},
          "publish": {"name": "tiny-pot", "alias": "canary",
            "keep_alias": true, "manual": true,
            "auto_rollback": {"window_seconds": 300, "max_error_ratio": 0.1,
              "min_calls": 9}}})",
      "expected");
  ASSERT_TRUE(expected.ok()) << expected.status();
  EXPECT_EQ(spec.DebugString(), expected->DebugString());
}

TEST(JobSpecFlagsTest, FlagsWinOverTheFile) {
  const std::string file =
      R"({"schedule": {"steps": 500, "warmup_steps": 7},
          "distillation": {"weight": 2}, "code_freeze": {"final_ratio": 0.2},
          "publish": {"manual": true},
          "gate": {"max_perplexity_ratio": 1.02, "max_mean_kl_nats": 0.1}})";
  const v1::QatJobSpec spec =
      WithFlags(file, {"--steps", "900", "--no-distill", "--freeze=false",
                       "--no-publish=false", "--gate", "top1>=0.9"});
  EXPECT_EQ(spec.schedule().steps(), 900);
  EXPECT_EQ(spec.schedule().warmup_steps(), 7);
  EXPECT_FALSE(spec.has_distillation());
  EXPECT_FALSE(spec.has_code_freeze());
  EXPECT_FALSE(spec.publish().manual());
  EXPECT_EQ(FormatQualityGate(spec.gate()), "top1>=0.9");
  const v1::QatJobSpec other =
      WithFlags(file, {"--distill", "--freeze", "--gate", "none"});
  EXPECT_EQ(other.distillation().weight(), 2);
  EXPECT_EQ(other.code_freeze().final_ratio(), 0.2);
  EXPECT_EQ(FormatQualityGate(other.gate()), "");
  EXPECT_THROW(WithFlags(file, {"--no-distill", "--distill-weight", "1"}),
               CLI::ParseError);
}

TEST(SparklineTest, SpansLowestToHighest) {
  EXPECT_EQ(Sparkline({0, 1, 2, 3, 4, 5, 6, 7}, 8, /*utf8=*/true), "▁▂▃▄▅▆▇█");
  EXPECT_EQ(Sparkline({7, 0}, 8, /*utf8=*/false), "#_");
  // Means of equal shares: 1, 5, 9.
  EXPECT_EQ(Sparkline({0, 2, 4, 6, 8, 10}, 3, /*utf8=*/false), "_=#");
  EXPECT_EQ(Sparkline({2, 2, 2}, 8, /*utf8=*/false), "---");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(Sparkline({nan, 1, HUGE_VAL, 2}, 8, /*utf8=*/false), "_#");
  EXPECT_EQ(Sparkline({-1e308, 1e308}, 8, /*utf8=*/false), "--");
  EXPECT_EQ(Sparkline({}, 8, /*utf8=*/true), "");
  EXPECT_EQ(Sparkline({nan}, 8, /*utf8=*/true), "");
}

TEST(ValueHistoryTest, KeepsTheMeanWhileItShrinks) {
  ValueHistory history(8);
  for (int i = 0; i < 64; ++i) history.Add(i);
  ASSERT_LT(history.values().size(), 8u);
  // 64 values in groups of 16.
  EXPECT_THAT(history.values(), ElementsAre(7.5, 23.5, 39.5, 55.5));
}

TEST(JobLineTest, DropsTheLeastImportantFirst) {
  JobLine line;
  line.state = v1::QAT_JOB_STATE_RUNNING;
  line.progress.set_step(840);
  line.progress.set_total_steps(2000);
  line.progress.set_smoothed_train_loss(1.5231);
  line.progress.set_tokens_per_second(12'345);
  line.progress.set_eta_seconds(94);
  line.losses = {4, 3, 2, 1};
  line.best.emplace().set_step(800);
  line.best->set_perplexity(4.6282);
  EXPECT_EQ(FormatJobLine(line, 140, /*utf8=*/true),
            "[########............]  42 %  840/2,000  loss 1.5231  █▆▃▁  ETA 1 "
            "min 34 s  12,345 tokens/s  best 4.6282 at 800");
  EXPECT_EQ(FormatJobLine(line, 80, /*utf8=*/false),
            "[####......]  42 %  840/2,000  loss 1.5231  #+,_  ETA 1 min 34 s");
  EXPECT_EQ(FormatJobLine(line, 40, /*utf8=*/true),
            "[####......]  42 %  loss 1.5231");
  for (int columns = 20; columns < 160; ++columns) {
    EXPECT_LT(CountColumns(FormatJobLine(line, columns, true)),
              static_cast<size_t>(columns));
  }
  line = JobLine();
  line.state = v1::QAT_JOB_STATE_QUEUED;
  EXPECT_EQ(FormatJobLine(line, 80, /*utf8=*/true), "QUEUED");
  line.state = v1::QAT_JOB_STATE_RUNNING;
  EXPECT_EQ(FormatJobLine(line, 80, /*utf8=*/true), "RUNNING");
}

TEST(TextFormatTest, SecondsAndReals) {
  EXPECT_EQ(FormatSeconds(0), "0.0 s");
  EXPECT_EQ(FormatSeconds(9.94), "9.9 s");
  EXPECT_EQ(FormatSeconds(59.4), "59 s");
  EXPECT_EQ(FormatSeconds(59.6), "1 min 0 s");
  EXPECT_EQ(FormatSeconds(160), "2 min 40 s");
  EXPECT_EQ(FormatSeconds(3 * 3600 + 12 * 60 + 5), "3 h 12 min");
  EXPECT_EQ(FormatSeconds(51 * 3600), "2 d 3 h");
  EXPECT_EQ(FormatSeconds(-1), "-");
  EXPECT_EQ(FormatSeconds(HUGE_VAL), "-");
  EXPECT_EQ(FormatSeconds(std::nan("")), "-");
  EXPECT_EQ(FormatReal(2e-4), "0.0002");
  EXPECT_EQ(FormatReal(1.02), "1.02");
  EXPECT_EQ(FormatReal(10), "10");
  EXPECT_EQ(FormatReal(1e-8), "1e-08");
  EXPECT_EQ(FormatReal(1.0 / 3), "0.3333333333333333");
  EXPECT_EQ(CutToColumns("a▁b", 2), "a▁");
  EXPECT_EQ(CutToColumns("ab", 5), "ab");
}

TEST(JobReportTest, ShowsOneJob) {
  EXPECT_EQ(
      FormatJob(FinishedJob(v1::QAT_JOB_STATE_SUCCEEDED), /*all_fields=*/false),
      absl::StrCat(
          "job             qat-7\n"
          "state           SUCCEEDED\n"
          "base            tiny@1\n"
          "data            1 dataset (dddddddddddd), validation on the last 10 "
          "%\n"
          "submitted       2027-01-15 08:00:00 UTC by alice\n"
          "started         2027-01-15 08:00:01 UTC\n"
          "ended           2027-01-15 08:02:45 UTC, after 2 min 44 s\n"
          "worker          worker-a\n"
          "progress        step 2,000 of 2,000 (100 %), 1,536,000 tokens\n"
          "loss            1.5067 smoothed, 1.4087 at the last step\n"
          "optimizer       learning rate 0, norm of the gradient 0.75\n"
          "speed           12,345 tokens/s\n"
          "specification   what differs from the defaults\n"
          "  quantization.format       pot4\n"
          "  optimizer.learning_rate   0.001\n"
          "  batch.context             64\n"
          "  distillation.weight       1\n"
          "  distillation.temperature  1\n"
          "gate            passed (ppl<=1.02x)\n"
          "  figure             base  checkpoint\n"
          "  ──────────────  ───────  ──────────  ──────────\n"
          "  perplexity       4.4371      4.4817  1.0101x\n"
          "  nats per token   1.4900      1.5000  ± 0.0030\n"
          "  bits per byte    2.1496      2.1640\n"
          "  KL from base                0.01250  nats\n"
          "  same top token              93.75 %\n"
          "  tokens          111,488     111,488  step 1,600\n"
          "published       tiny@3 (sha256 ",
          std::string(64, 'e'), ")\n"));
}

TEST(JobReportTest, ListsFieldsThatDiffer) {
  v1::QatJobSpec spec = FinishedJob(v1::QAT_JOB_STATE_SUCCEEDED).spec();
  const auto paths = [&spec](bool all) {
    std::vector<std::string> lines;
    for (const auto& [path, value] : ListSpecFields(spec, all)) {
      lines.push_back(absl::StrCat(path, " ", value));
    }
    return lines;
  };
  spec.clear_distillation();
  spec.clear_batch();
  spec.mutable_optimizer()->set_learning_rate(2e-4);
  EXPECT_THAT(paths(false), ElementsAre("quantization.format pot4"));
  EXPECT_THAT(paths(true), testing::Contains("schedule.warmup_steps 40"));
  // Defaults that hang on other fields.
  spec.mutable_schedule()->set_steps(500);
  spec.set_straight_through(v1::STRAIGHT_THROUGH_IDENTITY);
  spec.mutable_evaluation()->set_every_steps(25);
  spec.mutable_snapshots()->set_every_steps(20);
  spec.mutable_publish()->mutable_auto_rollback()->set_window_seconds(300);
  EXPECT_THAT(
      paths(false),
      ElementsAre("quantization.format pot4", "schedule.steps 500",
                  "schedule.warmup_steps 40", "straight_through identity",
                  "snapshots.every_steps 20",
                  "publish.auto_rollback.window_seconds 300"));
}

TEST(JobReportTest, LinesOfEvents) {
  std::vector<std::string> lines;
  const v1::QatJob job = FinishedJob(v1::QAT_JOB_STATE_GATE_REJECTED);
  for (const v1::JobEvent& event : EventsOf(job, 2000)) {
    lines.push_back(FormatJobEvent(event, /*best=*/false));
  }
  ASSERT_EQ(lines.size(), 17u);
  EXPECT_EQ(lines[0], "08:00:00 VALIDATING by alice");
  EXPECT_EQ(lines[2], "08:00:01 QUEUED -> RUNNING by worker-a");
  EXPECT_EQ(
      lines[3],
      "08:00:33 step 400: perplexity 5.0531 (1.6200 ± 0.0030 nats), 2.3372 "
      "bits/byte, KL 0.01250, top-1 93.75 %");
  EXPECT_EQ(lines[4], "08:00:33 step 400: checkpoint c-400, 221 kB");
  EXPECT_EQ(lines[11],
            "08:02:41 step 2,000 of 2,000 (100 %): loss 1.5067, 12,345 "
            "tokens/s, 0.0 s to go");
  EXPECT_THAT(lines[15],
              StartsWith("08:02:43 gate not passed: perplexity 4.4817"));
  EXPECT_THAT(lines[15], HasSubstr(", 1.0101x the base's; perplexity 1.0101x"));
  EXPECT_EQ(lines[16],
            "08:02:45 EVALUATING -> GATE_REJECTED: perplexity 1.0101x the "
            "base's is over 1.005x");
  v1::JobEvent log;
  log.mutable_log()->set_severity(v1::LOG_SEVERITY_WARNING);
  log.mutable_log()->set_text("a\x1b[2J");
  EXPECT_EQ(FormatJobEvent(log, false), "00:00:00 warning: a\\x1b[2J");
}

TEST(JobCurvesTest, StepsThatComeAgainReplace) {
  JobCurves curves;
  const auto add = [&curves](int64_t step, double loss) {
    v1::JobEvent event;
    event.mutable_progress()->set_step(step);
    event.mutable_progress()->set_train_loss(loss);
    curves.Add(event);
  };
  for (const int64_t step : {1, 2, 3, 4}) add(step, 9);
  add(2, 5);
  add(3, std::nan(""));
  add(4, 6);
  std::vector<std::string> points;
  for (const auto& point : curves.training()) {
    points.push_back(absl::StrCat(point.step, ":", point.loss));
  }
  EXPECT_THAT(points, ElementsAre("1:9", "2:5", "4:6"));
}

TEST(JobCurvesTest, ThinningKeepsSpikes) {
  std::vector<JobCurves::Training> training;
  for (int64_t step = 0; step < 10'000; ++step) {
    training.push_back({step, step == 5'003 ? 99.0 : 1.0, 1, 0});
  }
  const auto thin = Thin(training, 100);
  EXPECT_LE(thin.size(), 100u);
  int spikes = 0;
  for (size_t i = 0; i < thin.size(); ++i) {
    spikes += thin[i].loss == 99.0;
    if (i > 0) {
      EXPECT_LT(thin[i - 1].step, thin[i].step);
    }
  }
  EXPECT_EQ(spikes, 1);
}

TEST(JobPlotTest, TextOfOthersStaysText) {
  v1::QatJob job = FinishedJob(v1::QAT_JOB_STATE_SUCCEEDED);
  job.set_job_id("x'; system('id') #\n`id`");
  JobCurves curves;
  for (const v1::JobEvent& event : EventsOf(job, 100)) curves.Add(event);
  const std::string script = MakePlotScript(job, curves, PlotFormat::kSvg);
  EXPECT_THAT(script, HasSubstr("set title 'x''; system(''id'') #\\n`id`: "));
  EXPECT_THAT(script, Not(HasSubstr("set output")));
  EXPECT_THAT(script,
              HasSubstr("best: 1.5000 nats, perplexity 4.4817 at step 1600"));
  ASSERT_NE(curves.best(), nullptr);
  EXPECT_EQ(curves.best()->step, 1600);
  EXPECT_EQ(curves.base_nats(), 1.49);
}

}  // namespace
}  // namespace pot
