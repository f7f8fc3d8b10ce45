"""pot-bench runs, reports what it says it does, and refuses what it cannot."""

import json
import math
import os
import subprocess
import sys
import tempfile
import unittest

POT_BENCH = None


def run(*arguments):
    return subprocess.run([POT_BENCH, *arguments], capture_output=True,
                          text=True, timeout=240)


class PotBenchTest(unittest.TestCase):

    def test_figures_as_table_and_json(self):
        with tempfile.TemporaryDirectory() as work:
            path = os.path.join(work, "figures.json")
            done = run("--only", "small", "--threads", "1,2",
                       "--repetitions", "1", "--work", work, "--json", path)
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(path) as file:
                report = json.load(file)
        self.assertTrue(report["machine"])
        self.assertTrue(report["engine"])
        figures = report["figures"]
        self.assertEqual([(f["key"], f["threads"]) for f in figures],
                         [("small.overhead_us_per_token", 1),
                          ("small.overhead_us_per_token", 2)])
        for figure in figures:
            self.assertTrue(math.isfinite(figure["value"]))
            self.assertEqual(figure["unit"], "us")
            self.assertEqual(figure["at_most"], 30)
        lines = done.stdout.splitlines()
        self.assertIn("threads", lines[0])
        self.assertEqual(len(lines), 1 + len(figures))
        for line in lines[1:]:
            self.assertTrue(line.startswith("small.overhead_us_per_token"))
            self.assertRegex(line, r"<= 30 +(met|MISSED) ")

    def test_unknown_section(self):
        done = run("--only", "no-such")
        self.assertEqual(done.returncode, 2)
        self.assertIn('unknown section "no-such"', done.stderr)
        self.assertIn("prefill512", done.stderr)

    def test_threads_out_of_range(self):
        done = run("--threads", "0")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("--threads", done.stdout + done.stderr)

    def test_missing_server_is_said(self):
        with tempfile.TemporaryDirectory() as work:
            os.makedirs(os.path.join(work, "models", "gpt2", "1"))
            done = run("--only", "server", "--threads", "1", "--work", work,
                       "--server", "/no/such/pot-server")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/no/such/pot-server", done.stderr)


if __name__ == "__main__":
    POT_BENCH = sys.argv.pop(1)
    unittest.main()
