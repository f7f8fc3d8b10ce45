"""What the system tests share: programs, repositories, a server, stubs.

Test scripts call `main()`, which reads --server, --trainer and --client, the
paths of the programs, and hands the rest of the command line to unittest.
"""

import argparse
import atexit
import hashlib
import importlib
import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import types
import unittest

import grpc
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "testdata" / "tiny-bpe"
CHARACTERS = ROOT / "deploy" / "models" / "shakespeare-char"
PROTO = ROOT / "proto"

# Nothing here is about speed: this long means that something hangs, also under
# sanitizers on a busy machine.
PATIENCE = 120

# Paths of the programs, as the command line gives them.
programs = types.SimpleNamespace(server=None, trainer=None, client=None)

SANITIZER = re.compile(
    "ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:")
ABORTED_SANITIZER = re.compile(
    "ERROR: AddressSanitizer|WARNING: ThreadSanitizer: (?!thread leak)"
    "|runtime error:")


def temporary_directory():
  """A directory that goes with the process."""
  directory = pathlib.Path(tempfile.mkdtemp(prefix="pot-test."))
  atexit.register(shutil.rmtree, directory, ignore_errors=True)
  return directory


# --- Stubs -------------------------------------------------------------------


def _protoc(out, include, files, *, with_stubs):
  command = ["protoc", f"-I{include}", f"--python_out={out}"]
  if with_stubs:
    command += [f"--grpc_python_out={out}", "--plugin=protoc-gen-grpc_python="
                + shutil.which("grpc_python_plugin")]
  subprocess.run([*command, *map(str, files)], check=True, timeout=PATIENCE)


def _generate():
  """Modules of the protos.

  Those of other people's packages are generated without their folders, because
  modules called grpc.health and google.rpc would hide Python's own packages.
  """
  out = temporary_directory()
  pot = sorted((PROTO / "pot" / "v1").glob("*.proto"))
  _protoc(out, PROTO, pot, with_stubs=True)
  for folder in ("google/rpc", "grpc/health/v1"):
    files = sorted((PROTO / folder).glob("*.proto"))
    _protoc(out, PROTO / folder, files, with_stubs=False)
  sys.path.insert(0, str(out))
  names = {path.stem: f"pot.v1.{path.stem}_pb2" for path in pot}
  names.update({f"{path.stem}_grpc": f"pot.v1.{path.stem}_pb2_grpc"
                for path in pot})
  names.update(error_details="error_details_pb2", rpc_status="status_pb2",
               health="health_pb2")
  return types.SimpleNamespace(
      **{name: importlib.import_module(module)
         for name, module in names.items()})


pb = _generate()
GenerateRequest = pb.inference.GenerateRequest
ModelRef = pb.common.ModelRef


class RpcFailure:
  """What a client sees of a failed call."""

  def __init__(self, error):
    self.code = error.code().name
    self.message = error.details()
    self.reason = None
    self.metadata = {}
    self.field = None
    self.retry_seconds = None
    for key, value in error.trailing_metadata() or ():
      if key != "grpc-status-details-bin":
        continue
      for detail in pb.rpc_status.Status.FromString(value).details:
        info = pb.error_details.ErrorInfo()
        bad = pb.error_details.BadRequest()
        retry = pb.error_details.RetryInfo()
        if detail.Unpack(info):
          assert info.domain == "pot.v1", info.domain
          self.reason = info.reason
          self.metadata = dict(info.metadata)
        elif detail.Unpack(bad):
          self.field = bad.field_violations[0].field
        elif detail.Unpack(retry):
          self.retry_seconds = (retry.retry_delay.seconds
                                + retry.retry_delay.nanos / 1e9)

  def __repr__(self):
    return f"{self.code} {self.reason} {self.field}: {self.message}"


# --- Repositories ------------------------------------------------------------


def run_trainer(*arguments):
  result = subprocess.run([programs.trainer, *map(str, arguments)],
                          capture_output=True, text=True, timeout=PATIENCE,
                          check=False)
  if result.returncode != 0:
    raise AssertionError(f"pot-trainer {arguments}: {result.stderr}")
  return result.stdout


def quantize(source, repository, name, *arguments):
  run_trainer("quantize", "--from", source, "--out", repository / name,
              *arguments)


def copy_characters(repository):
  """The shipped model's three versions, without its aliases."""
  shutil.copytree(CHARACTERS, repository / "characters",
                  ignore=shutil.ignore_patterns("aliases.jsonl"))


def write_safetensors(path, tensors, metadata=None):
  """`tensors`: name to a float32 array."""
  header = {"__metadata__": metadata} if metadata else {}
  offset = 0
  for name, values in tensors.items():
    size = values.size * 4
    header[name] = {"dtype": "F32", "shape": list(values.shape),
                    "data_offsets": [offset, offset + size]}
    offset += size
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % 8)
  with open(path, "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    for values in tensors.values():
      file.write(np.ascontiguousarray(values, "<f4").tobytes())


def read_safetensors(path):
  """(header, data) of a file that is well-formed."""
  data = pathlib.Path(path).read_bytes()
  length = struct.unpack("<Q", data[:8])[0]
  return json.loads(data[8:8 + length]), data[8 + length:]


def make_long_model(directory, *, seed, positions=1024, width=192, layers=3):
  """A random model whose streams last: tiny-bpe's tokenizer, a long context.

  Its weights are wide enough that greedy text depends on each of them.
  """
  directory.mkdir(parents=True)
  for name in ("vocab.json", "merges.txt"):
    shutil.copy(TINY / name, directory / name)
  vocabulary = len(json.loads((TINY / "vocab.json").read_text()))
  (directory / "config.json").write_text(json.dumps({
      "model_type": "gpt2", "activation_function": "gelu_new",
      "n_layer": layers, "n_head": width // 64, "n_embd": width,
      "n_positions": positions, "vocab_size": vocabulary,
      "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True}))
  random = np.random.Generator(np.random.Philox(seed))

  def normal(*shape):
    return random.normal(0, 0.15, shape).astype(np.float32)

  def layer_norm(name):
    return {f"{name}.weight": np.ones(width, np.float32),
            f"{name}.bias": np.zeros(width, np.float32)}

  def linear(name, inputs, outputs):
    return {f"{name}.weight": normal(inputs, outputs),
            f"{name}.bias": np.zeros(outputs, np.float32)}

  tensors = {"wte.weight": normal(vocabulary, width),
             "wpe.weight": normal(positions, width)}
  for i in range(layers):
    tensors.update(layer_norm(f"h.{i}.ln_1"))
    tensors.update(linear(f"h.{i}.attn.c_attn", width, 3 * width))
    tensors.update(linear(f"h.{i}.attn.c_proj", width, width))
    tensors.update(layer_norm(f"h.{i}.ln_2"))
    tensors.update(linear(f"h.{i}.mlp.c_fc", width, 4 * width))
    tensors.update(linear(f"h.{i}.mlp.c_proj", 4 * width, width))
  tensors.update(layer_norm("ln_f"))
  write_safetensors(directory / "model.safetensors", tensors)


def tree_of(directory):
  """Every path below `directory` with the digest of its content."""
  return {str(path.relative_to(directory)):
          hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file()
          else "directory" for path in sorted(directory.rglob("*"))}


# --- Server ------------------------------------------------------------------


class Server:
  """pot-server on a free loopback port, from `with` until its end."""

  def __init__(self, repository, *flags, environment=None):
    self.repository = pathlib.Path(repository)
    self.flags = [str(flag) for flag in flags]
    if "--metrics-listen" not in self.flags:
      # Two servers cannot have the default's port.
      self.flags += ["--metrics-listen", "none"]
    self.environment = environment or {}
    self.directory = temporary_directory()
    self.log_path = self.directory / "log"
    self.process = None
    self.channel = None

  def start(self, *, wait=True):
    port_file = self.directory / "port"
    port_file.unlink(missing_ok=True)
    with open(self.log_path, "ab") as log:
      # setpriv: the server dies with the test, whatever ends that.
      self.process = subprocess.Popen(
          ["setpriv", "--pdeathsig", "KILL", "--", programs.server,
           "--repository", str(self.repository), "--listen", "127.0.0.1:0",
           "--port-file", str(port_file), *self.flags],
          stdin=subprocess.DEVNULL, stdout=log, stderr=log,
          env={**os.environ, **self.environment})
    self.wait_until(port_file.exists, "the port file")
    self.port = int(port_file.read_text())
    self.channel = self.new_channel()
    self.bind(self.channel)
    if wait:
      self.wait_until(lambda: self.health() == "SERVING", "SERVING")
    return self

  def new_channel(self):
    return grpc.insecure_channel(
        f"127.0.0.1:{self.port}",
        options=[("grpc.max_receive_message_length", -1),
                 ("grpc.use_local_subchannel_pool", 1),
                 # Without probes the window of a stream stays 64 KiB, so that
                 # one that nobody reads holds the server up for good.
                 ("grpc.http2.bdp_probe", 0)])

  def bind(self, channel):
    self.inference = pb.inference_grpc.InferenceServiceStub(channel)
    self.models = pb.model_grpc.ModelServiceStub(channel)

  def wait_until(self, condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
      if self.process.poll() is not None:
        raise AssertionError(
            f"pot-server ended with {self.process.returncode} before {what}:\n"
            f"{self.log()[-4000:]}")
      if time.monotonic() > deadline:
        raise AssertionError(f"no {what}:\n{self.log()[-4000:]}")
      time.sleep(0.02)

  def log(self):
    return self.log_path.read_text(errors="replace")

  def health(self, service="", channel=None):
    """Name of the status, or of the code of the error."""
    check = (channel or self.channel).unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=pb.health.HealthCheckRequest.SerializeToString,
        response_deserializer=pb.health.HealthCheckResponse.FromString)
    try:
      answer = check(pb.health.HealthCheckRequest(service=service),
                     timeout=PATIENCE)
    except grpc.RpcError as error:
      return error.code().name
    return pb.health.HealthCheckResponse.ServingStatus.Name(answer.status)

  def is_running(self):
    return self.process.poll() is None

  def signal(self, number):
    os.kill(self.process.pid, number)

  def wait_for_exit(self):
    """The exit status; negative: the signal that ended it."""
    return self.process.wait(timeout=PATIENCE)

  def stop(self, *, aborted=False):
    """Ends the server if it runs and complains about what sanitizers found.

    `aborted`: it was told to go at once, so threads that it left behind are no
    finding.
    """
    if self.channel is not None:
      self.channel.close()
    if self.process is not None and self.is_running():
      self.signal(signal.SIGTERM)
      try:
        self.wait_for_exit()
      except subprocess.TimeoutExpired:
        self.process.kill()
        self.process.wait()
        raise AssertionError("pot-server ignored SIGTERM:\n"
                             + self.log()[-4000:]) from None
    log = self.log()
    found = (ABORTED_SANITIZER if aborted else SANITIZER).search(log)
    if found:
      raise AssertionError(log[found.start():][:8000])

  def __enter__(self):
    return self.start()

  def __exit__(self, *unused):
    self.stop()


# --- Calls -------------------------------------------------------------------


def generate_request(model, prompt, **fields):
  """`fields`: of Sampling, Stopping and Output, each where it belongs."""
  request = GenerateRequest(
      model=model if isinstance(model, ModelRef) else ModelRef(name=model))
  if isinstance(prompt, str):
    request.text = prompt
  else:
    request.token_ids.ids.extend(prompt)
  for name, value in fields.items():
    part = next(part for part in (request.sampling, request.stopping,
                                  request.output, request)
                if name in part.DESCRIPTOR.fields_by_name)
    field = part.DESCRIPTOR.fields_by_name[name]
    if field.message_type and field.message_type.GetOptions().map_entry:
      getattr(part, name).update(value)
    elif field.label == field.LABEL_REPEATED:
      getattr(part, name).extend(value)
    else:
      setattr(part, name, value)
  return request


class Streamed:
  """A whole GenerateStream: text of each sequence, and what came besides."""

  def __init__(self, call):
    self.texts = {}
    self.reasons = {}
    self.chunks = 0
    self.prompt = None
    self.summary = None
    for message in call:
      event = message.WhichOneof("event")
      assert self.summary is None, "an event after the summary"
      if event == "chunk":
        chunk = message.chunk
        assert chunk.index not in self.reasons, "a chunk after the last one"
        self.chunks += 1
        self.texts[chunk.index] = self.texts.get(chunk.index, "") + chunk.text
        if chunk.finish_reason:
          self.reasons[chunk.index] = chunk.finish_reason
      elif event == "prompt":
        self.prompt = message.prompt
      else:
        self.summary = message.summary

  @property
  def text(self):
    return self.texts[0]


def stream(server, request):
  return server.inference.GenerateStream(
      pb.inference.GenerateStreamRequest(request=request), timeout=PATIENCE)


def perplexity_messages(options, text, piece=1000):
  yield pb.inference.PerplexityRequest(options=options)
  data = text.encode() if isinstance(text, str) else text
  for begin in range(0, len(data), piece):
    yield pb.inference.PerplexityRequest(text=data[begin:begin + piece])


def main():
  parser = argparse.ArgumentParser(add_help=False)
  for name in vars(programs):
    parser.add_argument(f"--{name}")
  arguments, rest = parser.parse_known_args()
  for name in vars(programs):
    setattr(programs, name, getattr(arguments, name))
  unittest.main(module="__main__", argv=[sys.argv[0], *rest])
