#!/usr/bin/python3
"""pot-trainer quantize as a user runs it: what it makes and refuses."""

import json
import re
import shutil
import struct

import trainer_testing
from trainer_testing import ROOT, TINY, TrainerTest, run


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
        (["--bits-budget", "nan"], ["--bits-budget", "nan is not a number"]),
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


if __name__ == "__main__":
  trainer_testing.main()
