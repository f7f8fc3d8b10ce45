#!/usr/bin/python3
"""Checks every #include against the table of who may include whom.

All Debian headers share one directory, so the build alone cannot stop engine
code from including gRPC. The table is README.md's, "Layout".
"""

import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Folder: what its files may include besides the C++ standard library and
# itself. Entries ending in "/" or ".h" are prefixes of the include path.
ABSL = ["absl/"]
ENGINE_BASE = ABSL + ["engine/base/"]
ENGINE_QUANT = ENGINE_BASE + ["engine/quant/"]
ENGINE_KERNELS = ENGINE_QUANT + ["engine/kernels/"]
ENGINE_ALL = ABSL + ["engine/"]
PROTO = ["pot/v1/", "google/rpc/", "google/protobuf/", "grpc/health/v1/"]
GRPC = ["grpcpp/", "grpc/"]
ALLOWED = {
    "engine/base": ABSL + ["nlohmann/", "openssl/"],
    "engine/text": ENGINE_BASE + ["nlohmann/", "pcre2.h"],
    "engine/quant": ENGINE_BASE,
    "engine/kernels": ENGINE_QUANT + ["oneapi/dnnl/", "immintrin.h", "omp.h"],
    "engine/checkpoint": ENGINE_QUANT + ["nlohmann/"],
    "engine/sampling": ENGINE_KERNELS,
    "engine/gpt2": ENGINE_KERNELS + ["engine/checkpoint/", "engine/text/",
                                    "nlohmann/"],
    "engine/hub": ENGINE_BASE + ["nlohmann/", "openssl/", "curl/"],
    "engine": ABSL + ["engine/"],
    "server/observability": ENGINE_BASE + ["spdlog/", "nlohmann/",
                                           "prometheus/"],
    "server/serving": ENGINE_ALL + ["server/observability/", "nlohmann/"],
    "server/security": ENGINE_BASE + ["openssl/", "server/observability/",
                                      "server/serving/error_details.h"],
    "server/training": ENGINE_ALL + ["server/observability/",
                                     "server/serving/", "sqlite3.h"] + PROTO,
    "server/rpc": ENGINE_ALL + ["server/"] + PROTO + GRPC,
    "server": ENGINE_ALL + ["server/", "CLI/", "nlohmann/"] + PROTO + GRPC,
    "trainer": ENGINE_ALL + ["CLI/", "nlohmann/", "oneapi/dnnl/",
                             "server/observability/", "client/cli/",
                             "client/transport/", "client/plot/"],
    "trainer/worker": ENGINE_ALL + ["trainer/", "server/observability/",
                                    "client/transport/"] + PROTO + GRPC,
    "client": (["CLI/", "nlohmann/", "engine/hub/"] + ENGINE_BASE + PROTO
               + GRPC),
    "client/cli": ABSL + ["CLI/"],
    "client/plot": ENGINE_BASE + ["client/text_format.h"],
    "client/transport": ENGINE_BASE + GRPC,
}
# Its header alone takes the compiler five seconds: what declares commands and
# flags includes client/cli.
INCLUDE_CLI11 = {
    "client/cli/command.cc", "client/command_line.cc", "client/completion.cc",
    "client/flag_sources.cc", "client/repl.cc", "server/command_line.cc",
    "trainer/pot_trainer_main.cc"}
# What the operating system's C headers look like: no folder, or one of these.
SYSTEM = re.compile(r"(sys|linux|netinet|arpa)/\w+\.h$|\w+\.h$")
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:<([^>]+)>|"([^"]+)")')


def folder_of(path):
  """The most specific folder of ALLOWED that holds `path`."""
  for parent in path.relative_to(ROOT).parents:
    if str(parent) in ALLOWED:
      return str(parent)
  return None


def is_allowed(folder, include):
  if include.startswith(folder + "/"):
    return True
  return any(include == entry or
             (entry.endswith("/") and include.startswith(entry))
             for entry in ALLOWED[folder])


class LayeringTest(unittest.TestCase):

  def test_includes_follow_the_table(self):
    checked = 0
    wrong = []
    cli11 = set()
    for top in ("engine", "server", "trainer", "client"):
      for path in sorted((ROOT / top).rglob("*")):
        if path.suffix not in (".h", ".cc", ".inc"):
          continue
        folder = folder_of(path)
        for number, line in enumerate(
            path.read_text(encoding="utf-8").splitlines(), 1):
          match = INCLUDE.match(line)
          if not match:
            continue
          checked += 1
          include = match.group(1) or match.group(2)
          if include.startswith("CLI/"):
            cli11.add(str(path.relative_to(ROOT)))
          if match.group(1) and ("/" not in include and "." not in include or
                                 SYSTEM.match(include)):
            continue
          if not is_allowed(folder, include):
            wrong.append(f"{path.relative_to(ROOT)}:{number}: {folder} may not "
                         f"include {include}")
    self.assertGreater(checked, 100, "found no sources to check")
    self.assertEqual([], wrong, "\n" + "\n".join(wrong))
    self.assertEqual(INCLUDE_CLI11, cli11)

  def test_a_wrong_include_is_noticed(self):
    self.assertFalse(is_allowed("engine/quant", "engine/gpt2/forward.h"))
    self.assertFalse(is_allowed("server/serving", "grpcpp/grpcpp.h"))
    self.assertFalse(is_allowed("client", "engine/gpt2/forward.h"))
    self.assertTrue(is_allowed("engine/gpt2", "engine/kernels/linear.h"))


if __name__ == "__main__":
  sys.exit(unittest.main())
