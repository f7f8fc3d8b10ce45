#!/usr/bin/python3
"""pot-client bench against a real server.

Usage: bench_test.py --server POT_SERVER --trainer POT_TRAINER
                     --client POT_CLIENT
"""

import json
import subprocess
import unittest

import pot_testing
from pot_testing import PATIENCE


class BenchTest(unittest.TestCase):

  def start(self, *flags):
    repository = pot_testing.temporary_directory() / "models"
    repository.mkdir()
    pot_testing.copy_characters(repository)
    server = pot_testing.Server(repository, "--no-training", *flags).start()
    self.addCleanup(server.stop)
    return server

  def bench(self, server, *flags, expected=0):
    result = subprocess.run(
        [pot_testing.programs.client, "--server", f"127.0.0.1:{server.port}",
         "bench", "--output", "json", "--warmup", "200ms", *flags],
        capture_output=True, text=True, timeout=PATIENCE, check=False)
    self.assertEqual(expected, result.returncode, result.stderr)
    return json.loads(result.stdout) if result.stdout else result.stderr

  def test_closed_and_open_loop(self):
    server = self.start()
    report = self.bench(server, "--concurrency", "1,8", "--duration", "700ms",
                        "--slo", "ttft=60s,itl=60s", "--max-new-tokens", "5:9",
                        "--prompt-tokens", "2:8")
    self.assertEqual(server.health("pot.model.characters"), "SERVING")
    self.assertEqual("characters", report["model"]["name"])
    self.assertEqual([1, 8], [level["concurrency"]
                              for level in report["levels"]])
    for level in report["levels"]:
      self.assertGreater(level["answered"], 0)
      self.assertEqual(level["requests"], level["answered"], level)
      self.assertEqual(level["requests"], level["met_slo"])
      self.assertEqual(level["answered"], level["first_token_seconds"]["count"])
      # 5 to 9 tokens have 4 to 8 gaps.
      gaps = level["inter_token_seconds"]["count"]
      self.assertLessEqual(4 * level["answered"], gaps)
      self.assertGreaterEqual(8 * level["answered"], gaps)
      for name in ("first_token_seconds", "inter_token_seconds",
                   "total_seconds"):
        times = [level[name][key] for key in
                 ("p50", "p90", "p95", "p99", "max")]
        self.assertEqual(sorted(times), times)
        self.assertLessEqual(level[name]["mean"], times[-1])

    # 5 ms apart; how many answers come in time is the machine's business.
    prompts = pot_testing.temporary_directory() / "prompts"
    prompts.write_text("ROMEO:\n\nJULIET:\n")
    level = self.bench(server, "--rate", "200", "--duration", "500ms",
                       "--prompt-file", prompts)["levels"][0]
    self.assertEqual(100, level["requests"])
    self.assertEqual(100, level["answered"] + sum(
        failure["requests"] for failure in level["failures"].values()))

  def test_refusals_are_counted_apart(self):
    server = self.start("--max-waiting-tasks", "1", "--max-running-sequences",
                        "1")
    level = self.bench(server, "--concurrency", "24", "--duration", "700ms",
                       "--max-new-tokens", "40")["levels"][0]
    self.assertGreater(level["answered"], 0)
    self.assertEqual(["RESOURCE_EXHAUSTED"], list(level["failures"]))
    refused = level["failures"]["RESOURCE_EXHAUSTED"]
    self.assertGreater(refused["requests"], 0)
    self.assertEqual({"QUEUE_FULL": refused["requests"]}, refused["reasons"])
    self.assertEqual(refused["requests"], refused["told_when_to_retry"])
    self.assertEqual(level["requests"],
                     level["answered"] + refused["requests"])

  def test_errors_of_all_requests(self):
    server = self.start()
    error = self.bench(server, "--duration", "300ms", "--max-new-tokens",
                       "9999", expected=2)
    self.assertIn("CONTEXT_OVERFLOW", error)
    self.assertIn("MODEL_NOT_FOUND", self.bench(
        server, "-m", "nobody", expected=3))


if __name__ == "__main__":
  pot_testing.main()
