#!/usr/bin/python3
"""Runs the shortened `nanogpt`, and checks what its table says.

A hundredth of the steps on a text made here: that the command works from end to
end, that training helps, and that a second run goes on from the first.
Usage: nanogpt_test.py --trainer POT_TRAINER (and what the system tests take)
"""

import os
import pathlib
import random
import re
import subprocess
import sys
import unittest

SCRIPT = pathlib.Path(__file__).resolve().with_name("nanogpt")
sys.path.insert(0, str(SCRIPT.parents[1] / "system"))

import pot_testing
from pot_testing import programs

WORDS = ("the", "king", "of", "rome", "and", "his", "queen", "do", "speak",
         "no", "more", "to", "me", "when", "night", "comes", "upon", "this")
PATIENCE = 600


def text():
  """80 kB of words, of which each chooses the next from a few."""
  generator = random.Random(5)
  next_words = {word: generator.sample(WORDS, 4) for word in WORDS}
  words, word = [], WORDS[0]
  for _ in range(18000):
    words.append(word)
    word = generator.choice(next_words[word])
  return " ".join(words)


class NanoGptTest(unittest.TestCase):

  def run_script(self, work):
    done = subprocess.run(
        [SCRIPT, self.text, work], capture_output=True, text=True, check=False,
        timeout=PATIENCE,
        env={**os.environ, "SHORT": "1", "THREADS": "1",
             "TRAINER": programs.trainer})
    self.assertEqual(0, done.returncode, done.stderr)
    return done

  def rows(self, table):
    """Name -> its numbers of nats: (without training), trained, last tenth."""
    rows = {}
    for line in table.splitlines():
      cells = [cell.strip() for cell in line.strip("|").split("|")]
      if len(cells) == 4 and cells[0] and not cells[0].startswith(("-", "weig")):
        rows[cells[0]] = [float(cell.split(" ± ")[0]) for cell in cells[1:]
                          if cell]
    return rows

  def test_table(self):
    directory = pot_testing.temporary_directory()
    self.text = directory / "text.txt"
    self.text.write_text(text())
    first = self.run_script(directory / "work")
    rows = self.rows(first.stdout)
    self.assertEqual(
        ["fp32", "pot4, papers' arithmetic, per tensor, 8 bits",
         "pot4, per row, 8 bits", "pot3, per 64, 8 bits",
         "twohot4, per row, 8 bits", "pot4, per row, 8 bits, data-free"],
        list(rows))
    (fp32, fp32_last) = rows.pop("fp32")
    # A letter of these words, drawn with equal chances, costs 2.8 nats and
    # more; their entropy is about a third of a nat.
    self.assertLess(fp32, 1.5)
    self.assertLess(abs(fp32_last - fp32), 0.1)
    for name, (untrained, trained, last) in rows.items():
      with self.subTest(name):
        self.assertGreater(untrained, fp32 - 0.01)
        self.assertLess(trained, untrained)
        self.assertLess(trained, fp32 + 0.1)
        self.assertLess(abs(last - trained), 0.1)
    self.assertRegex(first.stdout, r"fp32 on the training slice: \d\.\d{4}")
    # Nothing is trained twice.
    second = self.run_script(directory / "work")
    self.assertEqual("", second.stderr)
    self.assertEqual(first.stdout, second.stdout)


if __name__ == "__main__":
  pot_testing.main()
