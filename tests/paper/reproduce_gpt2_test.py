#!/usr/bin/python3
"""Runs the shortened `reproduce-gpt2` on a stand-in, the shipped character model.

That it imports by hub id, makes every model and prints both tables; that the
order of the rows is what rounding does; that a second run does nothing twice.
Usage: reproduce_gpt2_test.py --trainer POT_TRAINER (and what the system tests
take)
"""

import os
import pathlib
import random
import subprocess
import sys
import unittest

SCRIPT = pathlib.Path(__file__).resolve().with_name("reproduce-gpt2")
sys.path.insert(0, str(SCRIPT.parents[1] / "system"))

import pot_testing
from hub_testing import Hub
from pot_testing import programs

PATIENCE = 600


def text():
  """40 kB in the stand-in's alphabet, somewhat like what it was trained on."""
  lines = (pot_testing.ROOT / "deploy" / "sample.txt").read_text().split("\n")
  generator = random.Random(5)
  chosen, length = [], 0
  while length < 40000:
    chosen.append(generator.choice(lines))
    length += len(chosen[-1]) + 1
  return "\n".join(chosen)


class ReproduceGpt2Test(unittest.TestCase):

  def run_script(self, *arguments):
    done = subprocess.run(
        [SCRIPT, *arguments], capture_output=True, text=True, check=False,
        timeout=PATIENCE,
        env={**os.environ, "SHORT": "1", "THREADS": "1", "LR": "2e-4",
             "TRAINER": programs.trainer,
             **self.hub.environment(self.directory / "cache")})
    self.assertEqual(0, done.returncode, done.stderr)
    return done

  def test_tables(self):
    self.directory = pot_testing.temporary_directory()
    self.hub = Hub({"owner/stand-in": pot_testing.CHARACTERS / "1"})
    self.addCleanup(self.hub.stop)
    file = self.directory / "text.txt"
    file.write_text(text())
    arguments = (file, "hf:owner/stand-in", self.directory / "work")
    first = self.run_script(*arguments)
    rows = {}
    for line in first.stdout.splitlines()[2:]:
      name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
      rows[name] = [float(cell.split(" ± ")[0]) for cell in cells if cell]
    self.assertEqual(
        ["fp32"] + [f"pot{bits}, papers' arithmetic, per tensor"
                    for bits in (3, 4, 5, 6)]
        + [f"pot{bits}, nearest, per 64" for bits in (3, 4, 5, 6)]
        + ["twohot4, nearest, per 64", "pot4, GPTQ, per 64"], list(rows))
    fp32 = rows["fp32"]
    # 65 characters; the sample's perplexity is 4.9.
    self.assertLess(max(fp32), 12)
    for name, values in rows.items():
      with self.subTest(name):
        trained = name in ("pot4, papers' arithmetic, per tensor",
                           "pot4, nearest, per 64", "twohot4, nearest, per 64")
        self.assertEqual(4 if trained else 2, len(values))
        for protocol in (0, 1):
          # Three standard errors of few positions.
          self.assertGreater(values[protocol], 0.7 * fp32[protocol])
          if trained:
            self.assertLess(values[2 + protocol], values[protocol])
    # Far apart: 6, 8 and 18 on more of this text.
    for protocol in (0, 1):
      self.assertLess(rows["pot4, nearest, per 64"][protocol],
                      rows["pot4, papers' arithmetic, per tensor"][protocol])
      self.assertLess(rows["pot4, papers' arithmetic, per tensor"][protocol],
                      rows["pot3, papers' arithmetic, per tensor"][protocol])
    asked = len(self.hub.requests)
    second = self.run_script(*arguments)
    self.assertEqual("", second.stderr)
    self.assertEqual(first.stdout, second.stdout)
    self.assertEqual(asked, len(self.hub.requests))


if __name__ == "__main__":
  pot_testing.main()
