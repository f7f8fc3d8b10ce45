#!/usr/bin/python3
"""Runs what README.md tells a newcomer to type.

The two commands of its first part build the project, so CI runs those; here are
the ones of "Your own model" and the Python of "The API in ten lines".
"""

import os
import pathlib
import re
import subprocess
import sys
import unittest

import pot_testing
from pot_testing import PATIENCE, ROOT, TINY, Server, programs

README = (ROOT / "README.md").read_text(encoding="utf-8")


def fence(heading, language):
  """Content of the first code block of `language` below `heading`."""
  section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
  return re.search(rf"```{language}\n(.*?)```", section, re.DOTALL).group(1)


class ReadmeTest(unittest.TestCase):

  def test_your_own_model(self):
    work = pot_testing.temporary_directory()
    (work / "some-text.txt").write_text("the other and the power of two " * 9)
    (work / "path" / "to").mkdir(parents=True)
    (work / "path" / "to" / "gpt2").symlink_to(TINY)
    script = fence("Your own model", "sh")
    commands = {}
    for line in script.splitlines():
      name = re.match(r"build/release/\w+/(pot-\w+) ", line)
      self.assertIsNotNone(name, f"a command of another kind: {line}")
      commands.setdefault(name.group(1), []).append(line)
    self.assertEqual({"pot-trainer": 2, "pot-server": 1, "pot-client": 1},
                     {name: len(lines) for name, lines in commands.items()})

    def run(line, environment=None):
      for name, path in (("trainer", programs.trainer),
                         ("client", programs.client)):
        line = line.replace(f"build/release/{name}/pot-{name}", path)
      return subprocess.run(
          ["bash", "-c", line], cwd=work, capture_output=True, text=True,
          timeout=PATIENCE, check=True,
          env={**os.environ, **(environment or {})}).stdout

    for line in commands["pot-trainer"]:
      output = run(line)
      self.assertTrue(output.strip())
    self.assertIn("perplexity", output)
    # The server as the line says, but on a free port.
    self.assertRegex(commands["pot-server"][0],
                     r"^build/release/server/pot-server --repository models &$")
    with Server(work / "models") as server:
      output = run(commands["pot-client"][0],
                   {"POT_SERVER": f"127.0.0.1:{server.port}"})
      self.assertGreater(len(output), 10)

  def test_make_it_better(self):
    worker, submit = fence("Make it better", "sh").splitlines()
    self.assertRegex(worker, r"^build/release/trainer/pot-trainer worker .*&$")
    self.assertRegex(submit, r"^build/release/client/pot-client submit-qat ")
    work = pot_testing.temporary_directory()
    (work / "corpus.txt").write_text("the other and the power of two " * 90)
    for arguments in (["--format", "f32"], []):
      pot_testing.quantize(TINY, work / "models", "shakespeare-char",
                           *arguments)
    with Server(work / "models") as server:
      worker = worker.replace("build/release/trainer/pot-trainer",
                              f"exec {programs.trainer}").rstrip("& ")
      process = subprocess.Popen(
          ["setpriv", "--pdeathsig", "KILL", "--", "bash", "-c",
           worker.replace("127.0.0.1:8500", f"127.0.0.1:{server.port}")],
          cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
          stderr=subprocess.DEVNULL)
      try:
        result = subprocess.run(
            ["bash", "-c", submit.replace("build/release/client/pot-client",
                                          programs.client)],
            cwd=work, capture_output=True, text=True, timeout=PATIENCE,
            env={**os.environ, "POT_SERVER": f"127.0.0.1:{server.port}",
                 "POT_SUBMIT_QAT_STEPS": "4"})
      finally:
        process.terminate()
        process.wait(timeout=PATIENCE)
      self.assertEqual(0, result.returncode, result.stderr)
      self.assertRegex(result.stderr + result.stdout,
                       r"shakespeare-char@3|version 3")

  def test_api_in_ten_lines(self):
    code = fence("The API in ten lines", "python")
    self.assertLessEqual(
        len([line for line in code.splitlines() if line.strip()]), 10)
    work = pot_testing.temporary_directory()
    stubs = work / "stubs"
    stubs.mkdir()
    protoc = re.search(r"`(protoc .*?)`", README, re.DOTALL).group(1)
    self.assertIn("--python_out=DIR", protoc)
    subprocess.run(["bash", "-c", " ".join(protoc.split()).replace(
        "DIR", str(stubs))], cwd=ROOT, check=True, timeout=PATIENCE)
    repository = work / "models"
    subprocess.run(["cp", "-r", ROOT / "deploy" / "models", repository],
                   check=True)
    with Server(repository) as server:
      script = work / "client.py"
      self.assertIn("127.0.0.1:8500", code)
      script.write_text(code.replace("127.0.0.1:8500",
                                     f"127.0.0.1:{server.port}"))
      output = subprocess.run(
          [sys.executable, script], capture_output=True, text=True,
          timeout=PATIENCE, check=True,
          env={**os.environ, "PYTHONPATH": str(stubs)}).stdout
      # "ROMEO:" leaves 58 of the model's 64 positions.
      self.assertRegex(output.strip(), r" 58$")

  def test_every_link_has_a_target(self):
    for document in sorted(ROOT.rglob("*.md")):
      if "build" in document.relative_to(ROOT).parts[:1]:
        continue
      for target in re.findall(r"\]\(([^)#:]+)\)",
                               document.read_text(encoding="utf-8")):
        self.assertTrue((document.parent / target).exists(),
                        f"{document.relative_to(ROOT)} points to {target}")


if __name__ == "__main__":
  pot_testing.main()
