#!/usr/bin/python3
"""Runs the shortened `novels`, and checks what its table says.

A small model for some steps on a text made here: that the command works from
end to end, that training helps, and that a second run goes on from the first.
Usage: novels_test.py --trainer POT_TRAINER (and what the system tests take)
"""

import os
import pathlib
import re
import subprocess
import sys
import unittest

SCRIPT = pathlib.Path(__file__).resolve().with_name("novels")
sys.path.insert(0, str(SCRIPT.parents[1] / "system"))

import pot_testing
from nanogpt_test import text
from pot_testing import programs

PATIENCE = 600
NUMBER = r"(\d+\.\d+) ± \d+\.\d+"


class NovelsTest(unittest.TestCase):

  def test_table(self):
    directory = pot_testing.temporary_directory()
    words = text()
    (directory / "train").write_text(words[:60000])
    (directory / "validation").write_text(words[60000:])

    def run():
      done = subprocess.run(
          [SCRIPT, "train", "validation", "work"], cwd=directory,
          capture_output=True, text=True, check=False, timeout=PATIENCE,
          env={**os.environ, "SHORT": "1", "THREADS": "1",
               "TRAINER": programs.trainer})
      self.assertEqual(0, done.returncode, done.stderr)
      return done

    first = run()
    rows = {name: tuple(map(float, numbers)) for name, *numbers in re.findall(
        rf"^\| (.+?) \| {NUMBER} \| {NUMBER} \| {NUMBER} \|$", first.stdout,
        re.M)}
    self.assertEqual(
        ["fp32", "pot4, per row, to nearest", "pot4, per row, GPTQ",
         "pot4, per row, trained (QAT)"], list(rows))
    nats, _, bits = rows["fp32"]
    # 300 tokens, drawn with equal chances, cost 5.7 nats; a word of this text
    # about 1.4, and a token is a word or less.
    self.assertLess(nats, 2.5)
    self.assertGreater(nats / bits, 0.69)  # a token has a byte or more
    nearest = rows["pot4, per row, to nearest"][0]
    self.assertGreater(nearest, nats)
    self.assertLess(rows["pot4, per row, GPTQ"][0], nearest)
    self.assertLess(rows["pot4, per row, trained (QAT)"][0], nearest)
    # Nothing is trained twice.
    second = run()
    self.assertEqual("", second.stderr)
    self.assertEqual(first.stdout, second.stdout)


if __name__ == "__main__":
  pot_testing.main()
