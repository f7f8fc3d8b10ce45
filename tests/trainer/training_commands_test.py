#!/usr/bin/python3
"""pot-trainer pretrain and qat as a user runs them: what they make and refuse."""

import json
import re
import shutil

import trainer_testing
from trainer_testing import TINY, TrainerTest, run


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


if __name__ == "__main__":
  trainer_testing.main()
