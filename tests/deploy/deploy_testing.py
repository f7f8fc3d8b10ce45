"""What the tests of deploy/ share."""

import pathlib
import re
import shutil
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
sys.path.insert(0, str(ROOT / "tests" / "system"))

import pot_testing  # pylint: disable=wrong-import-position

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def seconds(text):
  """Of "30s" or "1m30s"."""
  parts = re.findall(r"(\d+)(ms|s|m|h)", text)
  assert parts and "".join(map("".join, parts)) == text, text
  return sum(int(number) * SECONDS[unit] for number, unit in parts)


def skip(message):
  """Skips the test, and says so where tests/run looks for it."""
  print(f"SKIPPED: {message}", file=sys.stderr)
  raise unittest.SkipTest(message)


def require(program, what):
  if shutil.which(program) is None:
    skip(f"no {program}: {what} is not checked")


def run(*command, stdin=None, cwd=None):
  """Its standard output; an AssertionError with all it said if it fails."""
  result = subprocess.run(list(map(str, command)), input=stdin, cwd=cwd,
                          capture_output=True, text=True,
                          timeout=pot_testing.PATIENCE, check=False)
  if result.returncode != 0:
    raise AssertionError(f"{' '.join(map(str, command))}:\n"
                         f"{result.stdout[-3000:]}{result.stderr[-3000:]}")
  return result.stdout


def server_help():
  return run(pot_testing.programs.server, "--help")


def worker_help():
  return run(pot_testing.programs.trainer, "worker", "--help")


def check_server_variables(test, variables, where):
  """They are pot-server's, which ignores those that it does not know."""
  known = set(re.findall(r"\$(POT_SERVER_\w+)", server_help()))
  test.assertTrue(known)
  for name in variables:
    if name.startswith("POT_SERVER_"):
      test.assertIn(name, known, where)


def check_worker_flags(test, arguments, where):
  help_text = worker_help()
  for argument in arguments:
    flag = argument.split("=")[0]
    if flag.startswith("--"):
      test.assertRegex(help_text, rf"(?m)^ +{flag}\b", where)
