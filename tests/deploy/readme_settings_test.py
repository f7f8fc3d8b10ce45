#!/usr/bin/python3
"""The table of settings in deploy/README.md against `pot-server --help`.

Usage: readme_settings_test.py --server POT_SERVER [--write]

--write brings the table up to date.
"""

import re
import sys
import unittest

import deploy_testing
import pot_testing
from deploy_testing import DEPLOY

README = DEPLOY / "README.md"
MARKED = re.compile(r"(<!-- settings:[^\n]*-->\n).*?(<!-- /settings -->)",
                    re.DOTALL)
# A long option's description begins on the line after it.
OPTION = re.compile(r"  --([a-z0-9-]+)(?: TEXT)?(?:=(\S+))?\s+(.*) "
                    r"\[\$POT_SERVER_\w+\]")
# What depends on the machine that prints the help.
DEFAULTS = {"threads": "all cores"}


def table():
  rows = ["| setting | default | |", "|---|---|---|"]
  text = re.sub(r"\n {20,}", " ", deploy_testing.server_help())
  for name, default, description in OPTION.findall(text):
    default = DEFAULTS.get(name, f"`{default}`" if default else "")
    rows.append(f"| `--{name}` | {default} | {description} |")
  return "\n".join(rows) + "\n"


class ReadmeSettingsTest(unittest.TestCase):

  def test_table_is_true(self):
    marked = MARKED.search(README.read_text())
    self.assertIsNotNone(marked)
    text = marked.group(0)
    self.assertIn("--repository", text)
    wanted = marked.group(1) + table() + marked.group(2)
    self.assertEqual(
        wanted, text, "run tests/deploy/readme_settings_test.py --write "
        "--server build/release/server/pot-server")


def write():
  text = README.read_text()
  README.write_text(
      MARKED.sub(lambda marked: marked.group(1) + table() + marked.group(2),
                 text))


if __name__ == "__main__":
  if "--write" in sys.argv:
    sys.argv.remove("--write")
    pot_testing.programs.server = sys.argv[sys.argv.index("--server") + 1]
    write()
  else:
    pot_testing.main()
