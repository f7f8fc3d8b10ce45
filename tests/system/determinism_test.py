#!/usr/bin/python3
"""One request gives one text: with any kernel, thread count and company.

Usage: determinism_test.py --server POT_SERVER --trainer POT_TRAINER
"""

import sys
import threading
import unittest

import grpc

import pot_testing
from pot_testing import PATIENCE
from pot_testing import generate_request
from pot_testing import pb

KERNELS = ("scalar", "shift", "avx2", "avx512vnni", "avx512vbmi")
NEIGHBOURS = 15


def observed_request():
  return generate_request("long", "in any company ", temperature=0.9, seed=42,
                          n=2, max_new_tokens=40, logprobs=3, ignore_eos=True)


def answer_of(server):
  answer = server.inference.Generate(observed_request(), timeout=PATIENCE)
  return [(sequence.text, sequence.SerializeToString(deterministic=True))
          for sequence in answer.sequences]


def read_all(call):
  try:
    for _ in call:
      pass
  except grpc.RpcError:
    pass  # cancelled


class DeterminismTest(unittest.TestCase):

  @classmethod
  def setUpClass(cls):
    directory = pot_testing.temporary_directory()
    cls.repository = directory / "models"
    pot_testing.make_long_model(directory / "long", seed=3, positions=512,
                                width=128, layers=2)
    pot_testing.quantize(directory / "long", cls.repository, "long")

  def start_neighbours(self, server):
    """Streams of every kind that run for long, and the threads reading them.

    A thread ends with its stream.
    """
    calls = []
    readers = []
    for index in range(NEIGHBOURS):
      request = generate_request(
          "long", "neighbour " * (1 + index % 4), seed=index,
          temperature=(0, 0.5, 1.3)[index % 3], top_k=index,
          max_new_tokens=300 + 10 * index, ignore_eos=True)
      calls.append(server.inference.GenerateStream(
          pb.inference.GenerateStreamRequest(request=request),
          timeout=PATIENCE))
    for call in calls:
      self.assertTrue(next(call).HasField("chunk"))
      readers.append(threading.Thread(target=read_all, args=(call,)))
      readers[-1].start()
    return calls, readers

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
          calls, readers = self.start_neighbours(server)
          answers[kernel, threads, "in company"] = answer_of(server)
          # A neighbour needs many more steps than the request.
          self.assertTrue(all(reader.is_alive() for reader in readers),
                          "the company had left")
          for call, reader in zip(calls, readers):
            call.cancel()
            reader.join(PATIENCE)
    expected = answers["scalar", 1, "alone"]
    self.assertNotEqual(expected[0][0], expected[1][0])
    self.assertIn(("shift", 2, "in company"), answers)
    for key, answer in answers.items():
      with self.subTest(key):
        self.assertEqual(expected, answer)


if __name__ == "__main__":
  pot_testing.main()
