#!/usr/bin/python3
"""Runs pot-trainer as a user does: what it makes, prints, and refuses.

Usage: pot_trainer_test.py PATH_OF_POT_TRAINER
"""

import csv
import json
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "testdata" / "tiny-bpe"
TRAINER = None


def run(*arguments):
  return subprocess.run([TRAINER, *map(str, arguments)], capture_output=True,
                        text=True, timeout=120, check=False)


class TrainerTest(unittest.TestCase):

  def setUp(self):
    self.dir = pathlib.Path(tempfile.mkdtemp())
    self.addCleanup(shutil.rmtree, self.dir)

  def copy_of_tiny(self, name="model"):
    copy = self.dir / name
    shutil.copytree(TINY, copy)
    return copy

  def assert_fails(self, result, code, *fragments):
    self.assertEqual(code, result.returncode, result.stderr + result.stdout)
    for fragment in fragments:
      self.assertIn(fragment, result.stderr)
    self.assertLessEqual(len(result.stderr.splitlines()), 3, result.stderr)


class TrainingTest(TrainerTest):

  def setUp(self):
    super().setUp()
    self.text = self.dir / "text"
    self.text.write_text(
        "".join(f"the power of {i * i} and the other, " for i in range(200)))

  def test_pretrains_and_goes_on_from_snapshots(self):
    result = run("tokenizer", "--text", self.text, "--characters", "--out",
                 self.dir / "vocabulary")
    self.assertEqual(0, result.returncode, result.stderr)

    def pretrain(name, *arguments):
      return run("pretrain", "--tokenizer", self.dir / "vocabulary", "--train",
                 self.text, "--layers", 1, "--heads", 2, "--width", 32,
                 "--positions", 16, "--precision", "f32", "--seed", 5, "--out",
                 self.dir / name, *arguments)

    result = pretrain("whole", "--steps", 20)
    self.assertEqual(0, result.returncode, result.stderr)
    self.assertRegex(result.stdout, r"whole: \d+ parameters, \d\.\d+ nats")
    losses = [float(x) for x in re.findall(r"step \d+: (\d\.\d+) ±",
                                           result.stderr)]
    self.assertLess(losses[-1], losses[0])
    self.assert_fails(pretrain("whole", "--steps", 20), 8, "there already")

    # Its second half again, from a snapshot.
    state = self.dir / "state"
    result = pretrain("again", "--steps", 20, "--state", state)
    self.assertEqual(0, result.returncode, result.stderr)
    shutil.rmtree(state / "step-20")
    shutil.rmtree(self.dir / "again")
    result = pretrain("again", "--steps", 20, "--state", state)
    self.assertEqual(0, result.returncode, result.stderr)
    self.assertIn("going on at step 19", result.stderr)
    self.assertEqual(
        (self.dir / "whole" / "model.safetensors").read_bytes(),
        (self.dir / "again" / "model.safetensors").read_bytes())

    # From the model on: what it learned is there at the first step.
    def go_on(*arguments, out="none"):
      return run("pretrain", "--train", self.text, "--precision", "f32",
                 "--steps", 10, "--out", self.dir / out, *arguments)

    result = go_on("--from", self.dir / "whole", out="more")
    self.assertEqual(0, result.returncode, result.stderr)
    first, = re.findall(r"step 1: (\d\.\d+) ±", result.stderr)
    self.assertLess(float(first), losses[0])
    config = json.loads((self.dir / "more" / "config.json").read_text())
    self.assertEqual((1, 32, 16), (config["n_layer"], config["n_embd"],
                                   config["n_positions"]))
    self.assert_fails(go_on("--from", self.dir / "whole", "--layers", 2), 2,
                      "--layers", "--from")
    self.assert_fails(go_on(), 2, "--tokenizer DIR, or --from DIR")

  def test_qat_publishes_its_best_checkpoint(self):
    result = run("qat", "--from", TINY, "--train", self.text, "--steps", 6,
                 "--batch", 2, "--context", 16, "--eval-every", 3, "--lr", 1e-3,
                 "--learned-scales", "--out", self.dir / "repo/tiny")
    self.assertEqual(0, result.returncode, result.stderr)
    self.assertIn("repo/tiny/1", result.stdout)
    base, trained = map(float, re.search(
        r"base (\d\.\d+) nats, quantized and trained (\d\.\d+) nats",
        result.stdout).groups())
    self.assertLess(trained, base)
    result = run("eval", self.dir / "repo/tiny", self.text, "--slice", "0.9:1",
                 "--window", 16, "--output", "json")
    self.assertEqual(0, result.returncode, result.stderr)
    # The trainer's figure is the engine's, within the noise of 600 tokens.
    self.assertAlmostEqual(trained,
                           json.loads(result.stdout)[0]["nats_per_token"],
                           delta=0.005)

  def test_qat_with_text_of_its_own(self):
    result = run("qat", "--from", TINY, "--train", "self", "--val", self.text,
                 "--self-tokens", 2000, "--steps", 2, "--batch", 2, "--context",
                 16, "--eval-tokens", 500, "--out", self.dir / "repo/tiny")
    self.assertEqual(0, result.returncode, result.stderr)
    self.assertIn("repo/tiny/1", result.stdout)

  def test_reports_what_each_way_to_quantize_costs(self):
    out = self.dir / "report"

    def report(*arguments):
      return run("report", TINY, self.text, "--out", out, "--formats",
                 "pot4,pot3", "--granularities", "row,g64", "--methods",
                 "rtn,gptq,rtn+outliers+equalize", "--calibration-tokens", 512, "--tokens", 500,
                 "--threads", 2, "--jobs", 2,
                 *arguments)

    result = report()
    self.assertEqual(0, result.returncode, result.stderr)
    rows = json.loads((out / "report.json").read_text())["rows"]
    self.assertEqual(13, len(rows))
    by_key = {(r["format"], r["granularity"], r["method"]): r for r in rows}
    self.assertEqual(32, by_key["f32", "", ""]["bits_per_weight"])
    # Of floats against themselves; a float product is not the same bits in every
    # place in memory.
    self.assertAlmostEqual(0, by_key["f32", "", ""]["mean_kl_nats"], delta=1e-9)
    fine = by_key["pot4", "g64", "rtn"]
    coarse = by_key["pot3", "g64", "rtn"]
    self.assertGreater(fine["bits_per_weight"], coarse["bits_per_weight"])
    self.assertLess(fine["mean_kl_nats"], coarse["mean_kl_nats"])
    for kind, error in fine["squared_error"].items():
      self.assertLess(error, coarse["squared_error"][kind], kind)
    both = by_key["pot4", "g64", "rtn+outliers+equalize"]
    # A thousandth of the weights in 48 bits, and a scale of them per matrix.
    self.assertTrue(0.04 < both["bits_per_weight"] - fine["bits_per_weight"]
                    < 0.08, both)
    self.assertEqual({}, both["squared_error"])
    # Each figure is that of the command that makes one model.
    self.assertEqual(0, run("quantize", "--from", TINY, "--format", "pot4",
                            "--granularity", "g64", "--out",
                            self.dir / "repo/tiny").returncode)
    text = self.dir / "first"
    text.write_text(self.text.read_text())
    result = run("eval", self.dir / "repo/tiny", text, "--output", "json")
    alone = json.loads(result.stdout)[0]
    whole = run("report", TINY, text, "--out", self.dir / "one", "--formats",
                "pot4", "--granularities", "g64", "--methods", "rtn",
                "--skip-plot", "--skip-speed")
    self.assertEqual(0, whole.returncode, whole.stderr)
    row = json.loads((self.dir / "one/report.json").read_text())["rows"][1]
    self.assertEqual(alone["perplexity"], row["perplexity"])
    self.assertEqual(0, row["decode_tokens_per_second"])
    # Markdown, CSV and plots have the same rows.
    table = (out / "report.md").read_text()
    self.assertEqual(13, len(re.findall(r"^\| (\*\*)?(f32|pot)", table, re.M)))
    with (out / "report.csv").open(newline="") as file:
      for row, line in zip(rows, csv.DictReader(file), strict=True):
        # It has nine digits.
        self.assertAlmostEqual(1, float(line["perplexity"]) / row["perplexity"],
                               delta=1e-8)
    self.assertIn("pot4 rtn", (out / "plot.svg").read_text())
    self.assertEqual(b"\x89PNG", (out / "plot.png").read_bytes()[:4])
    self.assertFalse((out / "models").exists())

    # What is there is not measured again, and not mixed with another text's.
    (out / "rows/pot3-row-gptq.json").unlink()
    before = (out / "rows/pot4-row-rtn.json").stat().st_mtime_ns
    result = report()
    self.assertEqual(0, result.returncode, result.stderr)
    self.assertIn("12 rows were in", result.stderr)
    self.assertEqual(before,
                     (out / "rows/pot4-row-rtn.json").stat().st_mtime_ns)
    self.assert_fails(report("--slice", "0.5:1"), 2, "measured with another",
                      "text")
    self.assert_fails(report("--formats", "pot9"), 2, "pot9")
    self.assert_fails(report("--methods", "rtn"), 2, "twice")
    self.assert_fails(report("--methods", "rtn+gptq"), 2, "+outliers", "gptq")
    self.assert_fails(run("report", TINY, self.text, "--out", out, "--jobs",
                          3, "--threads", 2), 2, "--jobs is at most")

  def test_refuses(self):
    def qat(*arguments):
      return run("qat", "--from", TINY, "--out", self.dir / "repo/tiny",
                 *arguments)

    text = ("--train", self.text)
    self.assert_fails(qat("--train", "self"), 2, "needs a --val text")
    self.assert_fails(qat(*text, "--context", 65), 2,
                      "--context must be in [2, 64], not 65")
    self.assert_fails(qat(*text, "--steps", 0), 2, "--steps must be in [1, ")
    self.assert_fails(qat(*text, "--ste", "none"), 2, "clipped or identity")
    self.assert_fails(qat(*text, "--format", "int9"), 2, "known formats are")
    self.assert_fails(qat(*text, "--ce", 0, "--distill", 0), 2, "not both 0")
    self.assert_fails(qat("--train", self.dir / "none"), 3, "cannot open")
    self.assert_fails(qat(*text, "--train-slice", "0:0.001"), 2,
                      "a training window has")
    self.assertFalse(list((self.dir / "repo").glob("tiny/*")))


class QuantizeTest(TrainerTest):

  def test_publishes_versions_that_eval_reads(self):
    for version, arguments in ((1, ["--format", "f32"]), (2, []),
                               (3, ["--format", "twohot4", "--granularity",
                                    "g32"])):
      result = run("quantize", "--from", TINY, "--out", self.dir / "repo/tiny",
                   *arguments)
      self.assertEqual(0, result.returncode, result.stderr)
      self.assertTrue(
          (self.dir / f"repo/tiny/{version}/manifest.json").is_file())
    text = self.dir / "text"
    text.write_text("the power of two and the other " * 30)
    result = run("eval", self.dir / "repo/tiny/1", text, "--compare",
                 self.dir / "repo/tiny", "--activations", "affine,float",
                 "--reference", self.dir / "repo/tiny/1", "--output", "json")
    self.assertEqual(0, result.returncode, result.stderr)
    rows = json.loads(result.stdout)
    self.assertEqual(["f32", "twohot4", "twohot4"],
                     [row["format"] for row in rows])
    # Of two loads of the same floats: see the report's test.
    self.assertAlmostEqual(0, rows[0]["mean_kl_nats"], delta=1e-9)
    self.assertEqual(1, rows[0]["top1_agreement"])
    self.assertGreater(rows[1]["mean_kl_nats"], 0)
    self.assertLess(rows[1]["resident_weight_bytes"],
                    rows[0]["resident_weight_bytes"] / 3)
    # 8 bits per activation are worth less than half a percent.
    self.assertAlmostEqual(
        rows[1]["nats_per_token"], rows[2]["nats_per_token"], delta=0.005)

  def test_same_input_gives_same_bytes(self):
    digests = []
    for name, threads in (("a", 1), ("b", 2)):
      result = run("quantize", "--from", TINY, "--out", self.dir / "repo" / name,
                   "--threads", threads)
      self.assertEqual(0, result.returncode, result.stderr)
      digests.append((self.dir / "repo" / name / "1/model.pot.safetensors")
                     .read_bytes())
    self.assertEqual(digests[0], digests[1])

  def test_gptq_loses_less_than_rounding(self):
    model = ROOT / "deploy/models/shakespeare-char/1"
    text = ROOT / "deploy/sample.txt"

    def lost(name, *arguments):
      """Mean KL from the float model."""
      result = run("quantize", "--from", model, "--out", self.dir / "repo" / name,
                   "--format", "pot3", "--granularity", "g64", *arguments)
      self.assertEqual((0, ""), (result.returncode, result.stderr))
      result = run("eval", self.dir / "repo" / name, text, "--reference", model,
                   "--output", "json")
      self.assertEqual(0, result.returncode, result.stderr)
      return json.loads(result.stdout)[0]["mean_kl_nats"]

    # Data-free; the sample is of neither the model nor its training.
    gptq = ["--method", "gptq", "--calibration", "self",
            "--calibration-tokens", 16384]
    rounded = lost("rtn", "--method", "rtn")
    self.assertLess(lost("sparse", "--method", "rtn", "--outliers", "0.1%"),
                    rounded)
    provenance = (self.dir / "repo/sparse/1/model.pot.safetensors").read_bytes()
    self.assertIn(b'"nearest, outliers 0.1 %"', provenance[:100000])
    self.assertLess(lost("gptq", *gptq, "--act-order"), 0.75 * rounded)
    provenance = (self.dir / "repo/gptq/1/model.pot.safetensors").read_bytes()
    self.assertIn(b'"gptq"', provenance[:100000])
    # A layer in memory at a time: the same bytes, and nothing left behind.
    (self.dir / "spill").mkdir()
    lost("spilled", *gptq, "--act-order", "--spill", self.dir / "spill")
    self.assertEqual(provenance, (
        self.dir / "repo/spilled/1/model.pot.safetensors").read_bytes())
    self.assertFalse(list((self.dir / "spill").iterdir()))

  def test_potptq_trains_scales_and_equalization_changes_no_float(self):
    model = ROOT / "deploy/models/shakespeare-char/1"
    text = ROOT / "deploy/sample.txt"

    def perplexity(method, *arguments):
      result = run("quantize", "--from", model, "--out",
                   self.dir / "repo" / method, "--format", "pot2-strict",
                   "--granularity", "g128", "--embedding-format", "twohot4",
                   "--method", method, *arguments)
      self.assertEqual((0, ""), (result.returncode, result.stderr))
      printed = result.stdout
      result = run("eval", self.dir / "repo" / method, text, "--output", "json")
      self.assertEqual(0, result.returncode, result.stderr)
      return json.loads(result.stdout)[0]["perplexity"], printed

    few = ["--calibration", "self", "--calibration-tokens", 2048, "--epochs", 8,
           "--lr", 0.01]
    start, _ = perplexity("potptq-start")
    step1, _ = perplexity("potptq-step1")
    both, printed = perplexity("potptq", *few, "--equalize")
    # Of some 4.8 in fp32.
    self.assertGreater(start, 2 * step1)
    self.assertLess(both, 0.95 * step1)
    self.assertEqual(4, printed.count("error of the output"), printed)
    self.assertEqual(12, printed.count("channels equalized"), printed)
    provenance = (self.dir / "repo/potptq/1/model.pot.safetensors").read_bytes()
    self.assertIn(b'"potptq, trained scales, equalized"', provenance[:100000])

  def test_mixes_formats_within_a_budget(self):
    text = self.dir / "text"
    text.write_text("the power of two and the other powers, " * 200)

    def quantize(name, *arguments):
      result = run("quantize", "--from", TINY, "--out", self.dir / "repo" / name,
                   *arguments)
      self.assertEqual(0, result.returncode, result.stderr)
      return float(re.search(r"per quantized weight, .*: ([\d.]+)",
                             result.stdout)[1]), result.stdout

    def kl(*names):
      result = run("eval", self.dir / "repo" / names[0], text, "--output",
                   "json", "--reference", TINY,
                   *[x for n in names[1:] for x in ("--compare",
                                                    self.dir / "repo" / n)])
      self.assertEqual(0, result.returncode, result.stderr)
      return [row["mean_kl_nats"] for row in json.loads(result.stdout)]

    mixing = ("--calibration", text, "--calibration-tokens", 1024)
    few, _ = quantize("few", "--format", "pot2")
    many, _ = quantize("many", "--format", "twohot4")
    budget = (few + many) / 2
    mixed, printed = quantize("mixed", "--bits-budget", budget, *mixing)
    self.assertLessEqual(mixed, budget)
    self.assertGreater(mixed, few)
    weights = dict(re.findall(r"^(pot2|pot3|twohot4) +(\d+) weights", printed,
                              re.M))
    self.assertGreaterEqual(len(weights), 2, printed)
    worst, between, best = kl("few", "mixed", "many")
    self.assertLess(best, between)
    self.assertLess(between, worst)
    # With bits for all, all get what serves them best.
    everything, printed = quantize("everything", "--bits-budget", 32, *mixing)
    self.assertLessEqual(everything, many)

    out = ("--from", TINY, "--out", self.dir / "repo/none")
    for arguments, fragments in [
        (["--bits-budget", 1, *mixing], ["--bits-budget must be at least", "1"]),
        (["--bits-budget", 3], ["--bits-budget needs --calibration"]),
        (["--bits-budget", 3, "--format", "pot4"], ["excludes"]),
        (["--bits-budget", 3, *mixing, "--mixed-formats", "pot2"],
         ["at least 2 formats"]),
        (["--bits-budget", 3, *mixing, "--mixed-formats", "pot2,pot9"],
         ["pot9"]),
        (["--bits-budget", "nan", *mixing], ["--bits-budget"]),
    ]:
      with self.subTest(arguments):
        self.assert_fails(run("quantize", *out, *arguments), 2, *fragments)

  def test_refuses_what_is_not_a_version(self):
    out = self.dir / "repo/tiny"
    run("quantize", "--from", TINY, "--out", out)
    before = sorted(self.dir.rglob("*"))
    cases = [
        (["--format", "pot7"], 2, ["pot7", "pot4-strict"]),
        (["--granularity", "g48"], 2, ["g48"]),
        (["--outliers", "0.1"], 2, ["--outliers", "percentage"]),
        (["--outliers", "6%"], 2, ["not 6 %"]),
        (["--method", "gpt"], 2, ["gpt"]),
        (["--method", "gptq"], 2, ["--calibration"]),
        (["--calibration", "self"], 2, ["--calibration", "nearest"]),
        (["--method", "gptq", "--calibration", self.dir / "none"], 3,
         ["cannot open"]),
        (["--method", "gptq", "--calibration", TINY / "merges.txt",
          "--calibration-tokens", "1"], 2, ["--calibration-tokens", "1"]),
        (["--method", "gptq", "--calibration", "self", "--calibration-tokens",
          64, "--spill", self.dir / "none"], 2, ["cannot open", "none"]),
        (["--method", "gptq", "--calibration", "self", "--damping", "0"], 2,
         ["damping", "0"]),
        (["--method", "potptq-step2"], 2, ["potptq-step2", "--calibration"]),
        (["--method", "potptq-step1", "--calibration", "self"], 2,
         ["--calibration", "potptq-step1"]),
        (["--method", "potptq", "--calibration", "self", "--lr", "0"], 2,
         ["learning rate", "0"]),
        (["--method", "paper", "--format", "twohot4"], 2, ["paper"]),
        (["--paper-eps", "-1"], 2, ["-1"]),
        (["--paper-eps", "nan"], 2, ["nan"]),
        (["--embedding-format", "int5"], 2, ["int5"]),
        (["--version", "-3"], 2, ["-3"]),
        (["--version", "1"], 8, ["1"]),
        (["--threads", "0"], 2, ["0"]),
        (["--threads", "257"], 2, ["257"]),
    ]
    for arguments, code, fragments in cases:
      with self.subTest(arguments):
        self.assert_fails(
            run("quantize", "--from", TINY, "--out", out, *arguments), code,
            *fragments)
    for name in ("../tiny", ".hidden", "a b", "x" * 65, "-x"):
      with self.subTest(name):
        result = run("quantize", "--from", TINY, "--out",
                     str(self.dir / "repo") + "/" + name)
        if name == "../tiny":
          # The shell user's own path: the repository is the parent then.
          self.assertEqual(0, result.returncode, result.stderr)
          shutil.rmtree(self.dir / "tiny")
          shutil.rmtree(self.dir / ".staging", ignore_errors=True)
          shutil.rmtree(self.dir / ".trash", ignore_errors=True)
        else:
          self.assertNotEqual(0, result.returncode)
    self.assertEqual(before, sorted(self.dir.rglob("*")),
                     "something was left behind")

  def test_refuses_broken_models(self):
    def config(model, **changes):
      path = model / "config.json"
      values = json.loads(path.read_text())
      values.update(changes)
      path.write_text(json.dumps(values))

    def truncate(model):
      path = model / "model.safetensors"
      path.write_bytes(path.read_bytes()[:-1])

    def nan(model):
      path = model / "model.safetensors"
      data = bytearray(path.read_bytes())
      header = 8 + struct.unpack("<Q", data[:8])[0]
      data[header:] = b"\xff" * (len(data) - header)
      path.write_bytes(data)

    cases = [
        ("no config", lambda m: (m / "config.json").unlink(), 3, "config.json"),
        ("no weights", lambda m: (m / "model.safetensors").unlink(), 3,
         "model.safetensors"),
        ("no tokenizer", lambda m: (m / "vocab.json").unlink(), 3, ""),
        ("truncated", truncate, 2, "model.safetensors"),
        ("not finite", nan, 2, ""),
        ("wrong width", lambda m: config(m, n_embd=99), 2, "99"),
        ("no heads", lambda m: config(m, n_head=0), 2, "n_head"),
        ("uneven heads", lambda m: config(m, n_head=5), 2, "n_head"),
        ("huge layers", lambda m: config(m, n_layer=10**9), 2, "1000000000"),
        ("other activation", lambda m: config(m, activation_function="relu"),
         2, "relu"),
        ("other type", lambda m: config(m, model_type="llama"), 2, "llama"),
        ("layer missing", lambda m: config(m, n_layer=4), 2, "h.3."),
        ("text for config", lambda m: (m / "config.json").write_text("{"), 2,
         "config.json"),
    ]
    for number, (name, damage, code, fragment) in enumerate(cases):
      with self.subTest(name):
        model = self.copy_of_tiny(f"m{number}")
        damage(model)
        out = self.dir / f"repo{number}" / "tiny"
        result = run("quantize", "--from", model, "--out", out)
        self.assert_fails(result, code, fragment)
        self.assertEqual([], list(out.glob("[0-9]*")), "half a version")


class TokenizerTest(TrainerTest):

  def test_makes_a_vocabulary_once(self):
    text = self.dir / "text"
    text.write_text("the theme of the other theory " * 3, encoding="utf-8")
    out = self.dir / "bpe"
    arguments = ["--text", text, "--size", "260", "--out", out]
    result = run("tokenizer", *arguments)
    self.assertEqual(0, result.returncode, result.stderr)
    self.assertIn("260 tokens, 3 merges, from 90 bytes", result.stdout)
    # "th" and "he" occur 15 times each; h has the lower id.
    self.assertEqual(["#version: 0.2", "h e", "t he", "\u0120 the"],
                     (out / "merges.txt").read_text("utf-8").splitlines())
    vocab = json.loads((out / "vocab.json").read_text("utf-8"))
    self.assertEqual(list(range(260)), list(vocab.values()))
    self.assertEqual(259, vocab["<|endoftext|>"])
    self.assert_fails(run("tokenizer", *arguments), 8, "bpe")

  def test_lists_characters_of_a_slice(self):
    text = self.dir / "text"
    text.write_text("cab" * 4 + "xyz")
    out = self.dir / "characters"
    result = run("tokenizer", "--characters", "--text", text, "--slice",
                 "0:0.8", "--out", out)
    self.assertEqual(0, result.returncode, result.stderr)
    self.assertEqual({"a": 0, "b": 1, "c": 2},
                     json.loads((out / "vocab.json").read_text()))

  def test_refuses_bad_arguments(self):
    text = self.dir / "text"
    text.write_bytes(b"abc\xff")
    out = self.dir / "out"
    for arguments, code, fragments in (
        (["--text", text], 2, ["byte 3", "text"]),
        (["--text", self.dir / "none"], 3, ["none"]),
        (["--text", TINY / "merges.txt", "--size", "256"], 2, ["257", "256"]),
        (["--text", TINY / "merges.txt", "--slice", "1:0"], 2, ["1:0"]),
    ):
      with self.subTest([str(argument) for argument in arguments]):
        self.assert_fails(run("tokenizer", *arguments, "--out", out), code,
                          *fragments)
        self.assertFalse(out.exists())


class EvalTest(TrainerTest):

  def test_refuses_bad_arguments(self):
    text = self.dir / "text"
    text.write_text("hello " * 50)
    binary = self.dir / "binary"
    binary.write_bytes(b"abc\xff\xfe")
    cases = [
        ([self.dir / "none", text], 3, ["none"]),
        ([TINY, self.dir / "none"], 3, ["none"]),
        ([TINY, binary], 2, ["3"]),
        ([TINY, text, "--window", "0"], 2, ["0"]),
        ([TINY, text, "--window", "65"], 2, ["65", "64"]),
        ([TINY, text, "--window", "8", "--stride", "9"], 2, ["9", "8"]),
        ([TINY, text, "--slice", "0.5"], 2, ["0.5"]),
        ([TINY, text, "--slice", "0.9:0.1"], 2, ["0.9:0.1"]),
        ([TINY, text, "--slice", "nan:1"], 2, ["nan:1"]),
        ([TINY, text, "--activations", "int3"], 2, ["int3"]),
        ([TINY, text, "--kernel", "mmx"], 2, ["mmx", "scalar"]),
        ([TINY, text, "--output", "xml"], 2, ["xml"]),
    ]
    for arguments, code, fragments in cases:
      with self.subTest([str(argument) for argument in arguments]):
        self.assert_fails(run("eval", *arguments), code, *fragments)

  def test_compared_models_share_the_protocol(self):
    short = self.dir / "short"
    run("init", "--size", "nano", "--out", short)
    path = short / "model.safetensors"
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    body = b""
    for name, tensor in header.items():
      begin, end = tensor["data_offsets"]
      if name == "wpe.weight":  # half the context
        tensor["shape"][0] //= 2
        end = (begin + end) // 2
      piece = data[8 + length + begin:8 + length + end]
      tensor["data_offsets"] = [len(body), len(body) + len(piece)]
      body += piece
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    config = json.loads((short / "config.json").read_text())
    self.assertEqual(64, config["n_positions"])
    config["n_positions"] = 32
    config.pop("n_ctx", None)
    (short / "config.json").write_text(json.dumps(config))

    sample = self.dir / "text"
    sample.write_text("one table, one protocol " * 30)
    result = run("eval", short, sample, "--compare", TINY, "--output", "json")
    self.assertEqual(0, result.returncode, result.stderr)
    self.assertEqual([32, 32],
                     [row["window"] for row in json.loads(result.stdout)])
    self.assert_fails(run("eval", TINY, sample, "--compare", short), 2,
                      "context of 32, not 64")

  def test_every_kernel_gives_the_same_number(self):
    run("quantize", "--from", TINY, "--out", self.dir / "repo/tiny")
    text = self.dir / "text"
    text.write_text("every kernel gives the same number " * 20)
    perplexities = {}
    for kernel in ("scalar", "shift", "avx2", "avx512vnni", "avx512vbmi"):
      result = run("eval", self.dir / "repo/tiny", text, "--kernel", kernel,
                   "--output", "json")
      if result.returncode == 8:
        print(f"SKIPPED: this CPU cannot run {kernel}", file=sys.stderr)
        continue
      self.assertEqual(0, result.returncode, result.stderr)
      perplexities[kernel] = json.loads(result.stdout)[0]["perplexity"]
    self.assertIn("scalar", perplexities)
    self.assertIn("shift", perplexities)
    self.assertEqual(1, len(set(perplexities.values())), perplexities)


class InitTest(TrainerTest):

  def test_random_model_serves(self):
    out = self.dir / "nano"
    result = run("init", "--size", "nano", "--seed", 5, "--out", out)
    self.assertEqual(0, result.returncode, result.stderr)
    text = self.dir / "text"
    text.write_text("any text at all, even \u00e9 and \U0001f600\n" * 20,
                    encoding="utf-8")
    result = run("eval", out, text, "--output", "json")
    self.assertEqual(0, result.returncode, result.stderr)
    nats = json.loads(result.stdout)[0]["nats_per_token"]
    # Near the uniform distribution over 512 tokens: ln 512 = 6.24.
    self.assertAlmostEqual(6.24, nats, delta=0.2)

  def test_seed_decides_the_bytes(self):
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
      run("init", "--size", "nano", "--seed", seed, "--out", self.dir / name)
      files.append((self.dir / name / "model.safetensors").read_bytes())
    self.assertEqual(files[0], files[1])
    self.assertNotEqual(files[0], files[2])

  def test_weights_have_gpt2s_deviation(self):
    out = self.dir / "nano"
    run("init", "--size", "nano", "--out", out)
    data = (out / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    begin, end = header["h.0.mlp.c_fc.weight"]["data_offsets"]
    values = struct.unpack(f"<{(end - begin) // 4}f",
                           data[8 + length + begin:8 + length + end])
    mean = sum(values) / len(values)
    deviation = (sum(v * v for v in values) / len(values) - mean**2) ** 0.5
    # 65 536 values: the deviation's standard error is 0.02 / sqrt(2 * 65536).
    self.assertAlmostEqual(0.02, deviation, delta=5 * 0.02 / 362)
    self.assertAlmostEqual(0, mean, delta=5 * 0.02 / 256)

  def test_refuses(self):
    self.assert_fails(run("init", "--size", "gpt5", "--out", self.dir / "x"), 2,
                      "gpt5", "gpt2-xl")
    self.assert_fails(run("init", "--size", "nano", "--out", self.dir), 8,
                      "is there already")
    self.assert_fails(run("init", "--size", "nano", "--seed", "-1", "--out",
                          self.dir / "x"), 2, "-1")
    self.assert_fails(
        run("init", "--size", "nano", "--out", "/proc/nowhere/x"), 4,
        "/proc/nowhere")


class UsageTest(TrainerTest):

  def test_usage(self):
    self.assertEqual(2, run().returncode)
    self.assertEqual(2, run("frobnicate").returncode)
    self.assertEqual(0, run("--help").returncode)
    self.assertTrue(re.match(r"pot \d+\.\d+\.\d+$",
                             run("--version").stdout.strip()))


if __name__ == "__main__":
  TRAINER = sys.argv.pop(1)
  unittest.main()
