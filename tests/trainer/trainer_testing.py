"""What the tests of pot-trainer's commands share: running it, and a directory.

Each is run with the program's path: COMMAND_test.py PATH_OF_POT_TRAINER
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "testdata" / "tiny-bpe"
TRAINER = None


def run(*arguments):
  return subprocess.run([TRAINER, *map(str, arguments)], capture_output=True,
                        text=True, timeout=120, check=False)


class TrainerTest(unittest.TestCase):

  def setUp(self):
    self.dir = pathlib.Path(tempfile.mkdtemp())
    self.addCleanup(shutil.rmtree, self.dir)

  def copy_of_tiny(self, name="model"):
    copy = self.dir / name
    shutil.copytree(TINY, copy)
    return copy

  def assert_fails(self, result, code, *fragments):
    self.assertEqual(code, result.returncode, result.stderr + result.stdout)
    for fragment in fragments:
      self.assertIn(fragment, result.stderr)
    self.assertLessEqual(len(result.stderr.splitlines()), 3, result.stderr)


def main():
  global TRAINER
  TRAINER = sys.argv.pop(1)
  unittest.main()
