#!/usr/bin/python3
"""pot-trainer's other commands as a user runs them: what they make, print, and
refuse."""

import json
import re
import struct

import trainer_testing
from trainer_testing import TINY, TrainerTest, run


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
  trainer_testing.main()
