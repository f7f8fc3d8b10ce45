#!/usr/bin/python3
"""One request gives one text: with any kernel, thread count and company.

Receipts prove it from outside. Usage:
determinism_test.py --server POT_SERVER --trainer POT_TRAINER --client POT_CLIENT
"""

import contextlib
import hashlib
import json
import struct
import subprocess
import sys
import threading
import unittest

import grpc

import pot_testing
from pot_testing import PATIENCE
from pot_testing import generate_request
from pot_testing import pb
from pot_testing import programs

KERNELS = ("scalar", "shift", "avx2", "avx512vnni", "avx512vbmi", "amx")
NEIGHBOURS = 15


def observed_request():
  return generate_request("long", "in any company ", temperature=0.9, seed=42,
                          n=2, max_new_tokens=40, logprobs=3, ignore_eos=True)


def answer_of(server):
  answer = server.inference.Generate(observed_request(), timeout=PATIENCE)
  return [(sequence.text, sequence.SerializeToString(deterministic=True))
          for sequence in answer.sequences]


class Neighbour(threading.Thread):
  """Streams of one kind, one after the other, until it is told to leave."""

  def __init__(self, server, index):
    super().__init__()
    self.chunks = 0
    self.received = threading.Condition()
    self._server = server
    self._request = generate_request(
        "long", "neighbour " * (1 + index % 4), seed=index,
        temperature=(0, 0.5, 1.3)[index % 3], top_k=index,
        max_new_tokens=300 + 10 * index, ignore_eos=True)
    self._leave = threading.Event()

  def run(self):
    while not self._leave.is_set():
      call = self._server.inference.GenerateStream(
          pb.inference.GenerateStreamRequest(request=self._request),
          timeout=PATIENCE)
      for _ in call:
        with self.received:
          self.chunks += 1
          self.received.notify_all()
        if self._leave.is_set():
          call.cancel()
          return

  def receives_more(self):
    """Whether another chunk comes from now on."""
    with self.received:
      chunks = self.chunks
      return self.received.wait_for(lambda: self.chunks > chunks, PATIENCE)

  def leave(self):
    self._leave.set()
    self.join(PATIENCE)


def run_client(server, *arguments):
  return subprocess.run(
      [programs.client, "--server", f"127.0.0.1:{server.port}",
       *map(str, arguments)], capture_output=True, text=True,
      timeout=PATIENCE, check=False)


def output_digest(receipt):
  """What the .proto says of ReplayReceipt.output_sha256."""
  digest = hashlib.sha256()
  for sequence in receipt["sequences"]:
    ids = sequence["token_ids"]
    digest.update(struct.pack(f"<Q{len(ids)}i", len(ids), *ids))
    digest.update(struct.pack(f"<{len(ids)}Q",
                              *map(int, sequence["logits_xxh64"])))
  return digest.hexdigest()


class DeterminismTest(unittest.TestCase):

  @classmethod
  def setUpClass(cls):
    directory = pot_testing.temporary_directory()
    cls.repository = directory / "models"
    cls.source = directory / "long"
    pot_testing.make_long_model(cls.source, seed=3, positions=512, width=128,
                                layers=2)
    pot_testing.quantize(cls.source, cls.repository, "long")

  def assert_all_receive_more(self, neighbours):
    for neighbour in neighbours:
      self.assertTrue(neighbour.receives_more(), "the company had left")

  @contextlib.contextmanager
  def company(self, server):
    """Neighbours whose streams go on all the while."""
    neighbours = [Neighbour(server, index) for index in range(NEIGHBOURS)]
    for neighbour in neighbours:
      neighbour.start()
    try:
      self.assert_all_receive_more(neighbours)
      yield
      self.assert_all_receive_more(neighbours)
    finally:
      for neighbour in neighbours:
        neighbour.leave()

  def is_supported(self, kernel):
    """Whether this CPU has `kernel`; says so on stderr when not."""
    server = pot_testing.Server(self.repository, "--kernel", kernel)
    try:
      server.start()
    except AssertionError:
      # One message is for names nobody knows, another for this.
      self.assertIn("this CPU", server.log())
      print(f"SKIPPED: this CPU cannot run {kernel}", file=sys.stderr)
      return False
    finally:
      server.stop()
    return True

  def test_answer_depends_on_the_request_alone(self):
    answers = {}
    for kernel in KERNELS:
      if not self.is_supported(kernel):
        continue
      for threads in (1, 2):
        with pot_testing.Server(self.repository, "--kernel", kernel,
                                "--threads", threads) as server:
          answers[kernel, threads, "alone"] = answer_of(server)
          with self.company(server):
            answers[kernel, threads, "in company"] = answer_of(server)
    expected = answers["scalar", 1, "alone"]
    self.assertNotEqual(expected[0][0], expected[1][0])
    self.assertIn(("shift", 2, "in company"), answers)
    for key, answer in answers.items():
      with self.subTest(key):
        self.assertEqual(expected, answer)

  def test_receipts_replay_elsewhere(self):
    path = pot_testing.temporary_directory() / "receipt"
    with pot_testing.Server(self.repository, "--kernel", "scalar",
                            "--threads", 1) as server:
      made = run_client(
          server, "generate", "-m", "long", "--receipt", path, "--stream",
          "--temperature", 0.9, "--top-p", 0.95, "--logit-bias", "7=0.3",
          "--n", 2, "--max-new-tokens", 40, "--ignore-eos", "in any company ")
      self.assertEqual((made.returncode, made.stderr), (0, ""))
    receipt = json.loads(path.read_text())
    self.assertEqual([40, 40], [len(sequence["token_ids"])
                                for sequence in receipt["sequences"]])
    self.assertEqual(receipt["output_sha256"], output_digest(receipt))

    with pot_testing.Server(self.repository, "--threads", 2,
                            "--prefill-chunk-tokens", 4) as server:
      with self.company(server):
        again = run_client(server, "replay", path)
      self.assertEqual((again.returncode, again.stderr), (0, ""))
      self.assertIn("identical: 80 tokens in 2 sequences", again.stdout)

      # A receipt of tokens that the model did not draw.
      forged = json.loads(path.read_text())
      token = forged["sequences"][1]["token_ids"][17]
      forged["sequences"][1]["token_ids"][17] = token + 1
      forgery = path.with_suffix(".forged")
      forgery.write_text(json.dumps(forged))
      refused = run_client(server, "replay", forgery)
      self.assertEqual(2, refused.returncode)
      self.assertIn("it was changed", refused.stderr)
      forged["output_sha256"] = output_digest(forged)
      forgery.write_text(json.dumps(forged))
      refuted = run_client(server, "replay", forgery)
      self.assertEqual(1, refuted.returncode)
      self.assertIn("not identical: sequence 1, token 17: the receipt has "
                    f"token {token + 1} ", refuted.stderr)

    with pot_testing.Server(self.repository, "--activations",
                            "symmetric") as server:
      other = run_client(server, "replay", path)
      self.assertEqual(8, other.returncode)
      self.assertIn("symmetric f16", other.stderr)

  def test_receipts_name_the_model_that_they_lack(self):
    directory = pot_testing.temporary_directory()
    path = directory / "receipt"
    with pot_testing.Server(self.repository) as server:
      made = run_client(server, "generate", "-m", "long", "--receipt", path,
                        "--max-new-tokens", 5, "company")
      self.assertEqual((made.returncode, made.stderr), (0, ""))
      run_client(server, "models", "unload", "long@1")
      unloaded = run_client(server, "replay", path)
      self.assertEqual(8, unloaded.returncode, unloaded.stderr)
      self.assertIn("pot-client models load long@1", unloaded.stderr)
    digest = json.loads(path.read_text())["model"]["sha256"]
    # Other weights under the same name and number.
    pot_testing.quantize(self.source, directory / "models", "long",
                         "--format", "twohot4")
    with pot_testing.Server(directory / "models") as server:
      missing = run_client(server, "replay", path)
      self.assertEqual(3, missing.returncode, missing.stderr)
      self.assertIn(f"the receipt is of long@1 sha256:{digest}",
                    missing.stderr)
      self.assertRegex(missing.stderr,
                       "the server's long@1 is sha256:[0-9a-f]{64}")


if __name__ == "__main__":
  pot_testing.main()
