#!/usr/bin/python3
"""What deploy/demo says before it does anything; CI runs the demo itself."""

import subprocess
import unittest

import pot_testing

DEMO = pot_testing.ROOT / "deploy" / "demo"


def run(*arguments):
  return subprocess.run([DEMO, *arguments], capture_output=True, text=True,
                        timeout=pot_testing.PATIENCE, check=False)


class DemoTest(unittest.TestCase):

  def test_help(self):
    for flag in ("--help", "-h"):
      result = run(flag)
      self.assertEqual(0, result.returncode, result.stderr)
      self.assertIn("--keep", result.stdout)
      self.assertNotIn("#", result.stdout)
      self.assertNotIn("set -euo", result.stdout)

  def test_bad_arguments(self):
    for arguments in (["--keeep"], ["8080"], ["--keep", "now"], [""]):
      with self.subTest(arguments):
        result = run(*arguments)
        self.assertEqual(2, result.returncode)
        self.assertEqual("", result.stdout)
        self.assertIn(f"'{arguments[-1]}'", result.stderr)
        self.assertIn("--help", result.stderr)


if __name__ == "__main__":
  pot_testing.main()
