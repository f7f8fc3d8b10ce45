#!/usr/bin/python3
"""Gives pot-server everything that is wrong, and looks what it says.

Each case states what is wrong, how it is given, and the documented code,
reason and part of the message (proto/README.md, "Errors"). All go to one
server, which afterwards must be the same process, give the same text for the
same request, and have left its repository alone.

Usage: bad_input_test.py --server POT_SERVER --trainer POT_TRAINER
                         --client POT_CLIENT
       bad_input_test.py --list    prints the cases as a Markdown table
"""

import subprocess
import sys
import unittest

import grpc

import bad_files
import bad_flags
import bad_requests
import pot_testing
from bad_input import World
from bad_input import pb
from bad_input import ref
from pot_testing import PATIENCE
from pot_testing import RpcFailure
from pot_testing import generate_request

MINIMUM = 60


def all_cases():
  for module in (bad_requests, bad_files, bad_flags):
    yield from module.all_cases()


class BadInputTest(unittest.TestCase):

  @classmethod
  def setUpClass(cls):
    directory = pot_testing.temporary_directory()
    world = World(None, directory, directory / "models", directory / "imports")
    for arguments in ([], ["--format", "f32"], ["--format", "twohot4"]):
      pot_testing.quantize(pot_testing.TINY, world.repository, "tiny",
                           *arguments)
    pot_testing.copy_characters(world.repository)
    bad_files.prepare(world)
    world.server = pot_testing.Server(world.repository, "--import-root",
                                      world.imports).start()
    cls.addClassCleanup(world.server.stop)
    world.server.models.LoadModel(
        pb.model.LoadModelRequest(model=ref(version=1)), timeout=PATIENCE)
    world.server.models.SetAlias(
        pb.model.SetAliasRequest(name="tiny", alias="stable", version=1),
        timeout=PATIENCE)
    cls.world = world

  def text(self):
    request = generate_request("tiny", "the other ", temperature=0.9, seed=5,
                               max_new_tokens=40)
    answer = self.world.server.inference.Generate(request, timeout=PATIENCE)
    return answer.sequences[0].text, answer.summary.model

  def check(self, case):
    try:
      result = case.call(self.world)
    except grpc.RpcError as error:
      failure = RpcFailure(error)
      self.assertEqual(case.code, failure.code, failure)
      self.assertEqual(case.reason, failure.reason, failure)
      self.assertIn(case.fragment, failure.message)
      self.assertLess(len(failure.message), 1500, "a message for people")
      if failure.code == "INVALID_ARGUMENT" and \
          failure.reason not in ("MALFORMED_MESSAGE", "SHAPE_MISMATCH"):
        self.assertTrue(failure.field, f"no field: {failure}")
      return
    if not isinstance(result, subprocess.CompletedProcess):
      self.fail(f"was accepted: {result}")
    said = result.stderr + result.stdout
    self.assertEqual(case.code, f"exit {result.returncode}", said)
    self.assertIn(case.fragment, result.stderr)
    self.assertEqual("", result.stdout)

  def test_everything_wrong_is_refused(self):
    server = self.world.server
    before = pot_testing.tree_of(self.world.repository)
    expected = self.text()
    pid = server.process.pid
    for case in all_cases():
      with self.subTest(case.what, how=case.how):
        self.check(case)
        self.assertTrue(server.is_running(), "the server is gone")
    self.assertEqual(expected, self.text())
    self.assertEqual("SERVING", server.health())
    self.assertEqual(pid, server.process.pid)
    after = pot_testing.tree_of(self.world.repository)
    self.assertEqual(before, after, "the repository changed")

  def test_the_list_is_long_and_has_no_case_twice(self):
    how = [case.how for case in all_cases()]
    self.assertGreaterEqual(len(how), MINIMUM)
    self.assertEqual([], [case for case in how if how.count(case) > 1])


def print_list():
  print("| what is wrong | how it is given | code | reason | message has |")
  print("|---|---|---|---|---|")
  for case in all_cases():
    cells = (case.what, case.how, case.code, case.reason or "", case.fragment)
    print("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")


if __name__ == "__main__":
  if sys.argv[1:] == ["--list"]:
    print_list()
  else:
    pot_testing.main()
