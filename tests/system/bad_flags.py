"""Bad command lines, environments and files of settings.

See bad_input_test.py. Programs that refuse their command line exit with 2 and
change nothing.
"""

import os
import shlex
import subprocess

import pot_testing
from bad_input import Case
from pot_testing import PATIENCE
from pot_testing import programs


def run(command, environment=None, stdin=""):
  clean = {name: value for name, value in os.environ.items()
           if not name.startswith("POT_")}
  return subprocess.run(list(map(str, command)), env={**clean,
                                                      **(environment or {})},
                        input=stdin, capture_output=True, timeout=PATIENCE,
                        encoding="utf-8", errors="replace", check=False)


def described(program, arguments, environment, file):
  words = [f"{name}={shlex.quote(value)}" for name, value in
           environment.items()]
  if file is not None:
    words.append(f"printf %s {shlex.quote(file)} > FILE;")
  return " ".join([*words, program, *map(shlex.quote, arguments)])


def fill(words, world):
  """Replaces REPOSITORY, PORT, SCRATCH and FILE."""
  places = {"REPOSITORY": str(world.repository),
            "PORT": str(world.server.port),
            "SCRATCH": str(world.directory),
            "FILE": str(world.directory / "settings")}
  filled = []
  for word in words:
    for name, value in places.items():
      word = word.replace(name, value)
    filled.append(word)
  return filled


def case(program, what, code, fragment, arguments, environment=None, file=None,
         stdin=""):
  environment = environment or {}

  def call(world):
    if file is not None:
      (world.directory / "settings").write_text(file)
    values = dict(zip(environment, fill(environment.values(), world)))
    return run([getattr(programs, program), *fill(arguments, world)], values,
               stdin)

  how = described(f"pot-{program}", arguments, environment, file)
  return Case(what, how.replace("\n", "\\n"), call, f"exit {code}", fragment)


def server_cases():
  # A test that is wrong about one of these would start a server: it has no
  # models to load and a free port.
  whole = ["--repository", "SCRATCH/empty", "--listen", "127.0.0.1:0"]

  def server(what, fragment, *arguments, code=2, base=whole, **given):
    return case("server", what, code, fragment, [*base, *arguments], **given)

  for what, address, fragment in (
      ("a port that is no number", "127.0.0.1:http", "[0, 65535]"),
      ("port 65536", "127.0.0.1:65536", "[0, 65535]"),
      ("a negative port", "127.0.0.1:-1", "[0, 65535]"),
      ("no port", "127.0.0.1", "[0, 65535]"),
      ("no host", ":8500", "host"),
      ("IPv6 without brackets", "::1:8500", "brackets"),
      ("an address for everybody, without leave", "0.0.0.0:0",
       "--allow-insecure"),
      ("an IPv6 address for everybody, without leave", "[::]:0",
       "--allow-insecure")):
    yield server(what, fragment, "--listen", address, base=whole[:2])
  yield server("a port in use", "not in use", "--listen", "127.0.0.1:PORT", code=1,
               base=whole[:2])
  yield server("no repository", "--repository", base=whole[2:])
  yield server("a repository that is a file", "settings", "--repository",
               "FILE", code=1, base=whole[2:], file="")
  yield server("a repository that cannot be made", "/proc/none", "--repository",
               "/proc/none", code=1, base=whole[2:])
  yield server("an unknown flag", "--fast", "--fast")
  yield server("an argument that is no flag", "serve", "serve")
  yield server("a flag without its value", "--threads", "--threads")
  for name, value, fragment in (
      ("threads", "0", "[1, 256]"), ("threads", "257", "[1, 256]"),
      ("threads", "two", "[1, 256]"), ("threads", "", "--threads"),
      ("kernel", "mmx", "scalar"), ("activations", "int4", "int4"),
      ("activations", "float", "affine"),
      ("kv-memory", "1GB", "64MiB"), ("kv-memory", "-1MiB", "64MiB"),
      ("kv-memory", "99999999999GiB", "64MiB"), ("kv-memory", "12", "65536"),
      ("kv-memory", "0x10000", "64MiB"),
      ("prefix-cache", "-1MiB", "64MiB"), ("prefix-cache", "half", "64MiB"),
      ("max-model-memory", "much", "64MiB"),
      ("max-message-size", "1GiB", "67108864"),
      ("max-waiting-tasks", "0", "[1, "), ("max-running-sequences", "0",
                                           "[1, 4096]"),
      ("prefill-chunk-tokens", "-4", "-4"),
      ("drain-timeout", "soon", "30s"), ("drain-timeout", "-1s", "-1s"),
      ("write-timeout", "soon", "30s"),
      ("log-level", "loud", "loud"), ("log-format", "xml", "xml")):
    yield server(f"{name} of '{value}'", fragment, f"--{name}={value}")
  for name, value, fragment in (("THREADS", "many", "many"),
                                ("KV_MEMORY", "12XB", "12XB"),
                                ("LISTEN", "nowhere", "nowhere"),
                                ("ALLOW_INSECURE", "perhaps", "perhaps"),
                                ("CONFIG", "SCRATCH/none", "none was")):
    # Flags win over the environment, so those that are tested must go.
    base = whole[:2] if name == "LISTEN" else whole
    yield server(f"$POT_SERVER_{name} of '{value}'", fragment, base=base,
                 environment={f"POT_SERVER_{name}": value})
  yield server("$POT_KERNEL that nobody knows", "mmx", code=1,
               environment={"POT_KERNEL": "mmx"})
  for what, text, fragment in (
      ("a setting that nobody knows", "fast = true\n", "fast"),
      ("a setting out of range", "threads = 0\n", "[1, 256]"),
      ("a line that is none", "[[[\n", "")):
    yield server(f"file of settings: {what}", fragment, "--config", "FILE",
                 file=text)
  yield server("a file of settings that is not there", "none was",
               "--config", "SCRATCH/none")


def client_cases():
  at = ["--server", "127.0.0.1:PORT"]

  def client(what, code, fragment, *arguments, base=at, **given):
    return case("client", what, code, fragment, [*base, *arguments], **given)

  yield client("no command", 2, "")
  yield client("an unknown command", 2, "sing", "sing")
  yield client("an unknown command of models", 2, "dance", "models", "dance")
  yield client("an unknown flag", 2, "--loud", "generate", "--loud", "x")
  yield client("a timeout of 0", 2, "timeout", "--timeout", "0s", "health")
  yield client("a timeout that is none", 2, "soon", "--timeout", "soon",
               "health")
  yield client("an unknown output", 2, "xml", "--output", "xml", "health")
  yield client("a temperature that is no number", 2, "warm", "generate",
               "--temperature", "warm", "-m", "tiny", "x")
  yield client("a temperature out of range", 2, "[0, 100]", "generate",
               "--temperature", "1000", "-m", "tiny", "x")
  yield client("no tokens to generate", 2, "max_new_tokens", "generate",
               "--max-new-tokens", "0", "-m", "tiny", "x")
  yield client("an empty prompt", 2, "at least one", "generate", "-m", "tiny",
               "-")
  yield client("a file that is not there", 3, "No such file", "perplexity",
               "-m", "tiny", "SCRATCH/none")
  yield client("an unknown model", 3, "nobody", "generate", "-m", "nobody",
               "x")
  yield client("an unknown version", 3, "99", "generate", "-m", "tiny@99", "x")
  yield client("a model name that is a path", 2, "../tiny", "generate", "-m",
               "../tiny", "x")
  yield client("a version that is not loaded", 8, "not loaded", "generate",
               "-m", "tiny@2", "x")
  yield client("nobody at the address", 4, "", "tokenize", "-m", "tiny", "x",
               base=["--server", "127.0.0.1:1", "--timeout", "5s"])
  yield client("an environment that is wrong", 2, "POT_TIMEOUT", "health",
               environment={"POT_TIMEOUT": "never"})
  yield client("a file of flags that is not there", 2, "No such file",
               "--config", "SCRATCH/none", "health")
  yield client("a file of flags with a key that nobody knows", 2, "speed",
               "--config", "FILE", "health", file="speed = 9\n")
  yield client("a shell that nobody knows", 2, "cmd.exe", "completion",
               "cmd.exe")
  yield client("an alias of digits", 2, "digits", "models", "alias", "tiny",
               "42", "3")
  yield client("deleting what is loaded", 8, "", "models", "rm", "tiny@3")


def all_cases():
  yield from server_cases()
  yield from client_cases()
