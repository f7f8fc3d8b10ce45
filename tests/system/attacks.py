"""What somebody hostile does to pot-server; see attacks_test.py.

The world's server has TLS and keys, and a port of its own for trainers that
asks for certificates.
"""

import base64
import contextlib
import dataclasses
import hashlib
import json
import pathlib
import socket
import struct
import time
import typing

import grpc

import pot_testing
import raw_http2
from pot_testing import ModelRef
from pot_testing import PATIENCE
from pot_testing import RpcFailure
from pot_testing import generate_request
from pot_testing import pb
from raw_http2 import Connection

INFERENCE = "/pot.v1.InferenceService/"
NO_TOKEN = "UNAUTHENTICATED NO_TOKEN"
BAD_TOKEN = "UNAUTHENTICATED BAD_TOKEN"
NO_SCOPE = "PERMISSION_DENIED MISSING_SCOPE"
INVALID = "INVALID_ARGUMENT INVALID_FIELD"
# Of the transport: the connection does not come about, or is cut.
REFUSED = "UNAVAILABLE None"
CLOSED = "closed"
SLOW = "DEADLINE_EXCEEDED"


@dataclasses.dataclass
class World:
  server: typing.Any  # attacks_test.SecureServer
  repository: pathlib.Path
  tokens: typing.Dict[str, str]  # by the key's name
  job: str = ""
  epoch: int = 0


@dataclasses.dataclass(frozen=True)
class Attack:
  """`run(world)` gives what came of it; anything but `expected` is a hole."""
  what: str
  how: str
  run: typing.Callable[[World], str]
  expected: str


def outcome(call):
  """"CODE REASON" of a call, "OK" when it was answered."""
  try:
    answer = call()
    if isinstance(answer, grpc.Call):
      list(answer)
  except grpc.RpcError as error:
    failure = RpcFailure(error)
    return f"{failure.code} {failure.reason}"
  return "OK"


def raw(channel, method, data=b"", *, metadata=None, timeout=PATIENCE,
        compression=None):
  """Calls `method`, a path or a descriptor; a list of messages comes back."""
  path, kind = method, ("unary", "unary")
  if not isinstance(method, str):
    path = f"/{method.containing_service.full_name}/{method.name}"
    described = pb.kinds[path]
    kind = ("stream" if described[0] else "unary",
            "stream" if described[1] else "unary")
  stub = getattr(channel, "_".join(kind))(path)
  request = iter([data]) if kind[0] == "stream" else data
  answer = stub(request, timeout=timeout, metadata=metadata,
                compression=compression)
  return list(answer) if kind[1] == "stream" else [answer]


def generate(channel, text="the"):
  return lambda: pb.inference_grpc.InferenceServiceStub(channel).Generate(
      generate_request("tiny", text, max_new_tokens=2), timeout=PATIENCE)


# --- Who are you? -------------------------------------------------------------


def with_token(token):
  def run(world):
    with world.server.new_channel(token) as channel:
      return outcome(generate(channel))
  return run


def with_metadata(*pairs):
  def run(world):
    with world.server.new_channel(None) as channel:
      values = [(key, value.format(**world.tokens)) for key, value in pairs]
      return outcome(lambda: raw(
          channel, INFERENCE + "Generate",
          generate_request("tiny", "the").SerializeToString(),
          metadata=values))
  return run


def call_of(key, service, method, request, stream=False):
  """One call with the token of the key `key`."""

  def run(world):
    with world.server.new_channel(key and world.tokens[key]) as channel:
      stub = getattr(pb, f"{service.lower()}_grpc")
      stub = getattr(stub, {"model": "ModelServiceStub",
                            "training": "TrainingServiceStub",
                            "inference": "InferenceServiceStub"}[service])
      message = request(world) if callable(request) else request
      return outcome(lambda: getattr(stub(channel), method)(
          iter(message) if stream else message, timeout=PATIENCE))

  return run


def unknown(path, key=None):
  def run(world):
    with world.server.new_channel(key and world.tokens[key]) as channel:
      return outcome(lambda: raw(channel, path))
  return run


def reflection(key):
  def run(world):
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    with world.server.new_channel(key and world.tokens[key]) as channel:
      # list_services = "*"
      return outcome(lambda: list(channel.stream_stream(path)(
          iter([b"\x3a\x01*"]), timeout=PATIENCE)))
  return run


def probe_health(world):
  with world.server.new_channel(None) as channel:
    answers = {world.server.health(name, channel) for name in
               ("pot.model.tiny", "pot.model.nobody", "pot.v1.ModelService")}
    watched = outcome(lambda: list(channel.unary_stream(
        "/grpc.health.v1.Health/Watch")(
            pb.health.HealthCheckRequest(
                service="pot.model.tiny").SerializeToString(),
            timeout=PATIENCE)))
    assert world.server.health("", channel) == "SERVING"
  return " ".join(sorted(answers | {watched}))


def identity_attacks():
  yield Attack("no token", "Generate", with_token(None), NO_TOKEN)
  yield Attack("an invented token", "Bearer pot_AAAA..",
               with_token("pot_" + "A" * 43), BAD_TOKEN)
  yield Attack("the digest from the key file for a token", "Bearer sha256:..",
               lambda world: with_token("sha256:" + hashlib.sha256(
                   world.tokens["reader"].encode()).hexdigest())(world),
               BAD_TOKEN)
  yield Attack("a token with one character more", "Bearer TOKENx",
               lambda world: with_token(world.tokens["reader"] + "x")(world),
               BAD_TOKEN)
  yield Attack("a token as a password", "Basic ..",
               lambda world: with_metadata(
                   ("authorization", "Basic " + base64.b64encode(
                       f"reader:{world.tokens['reader']}".encode()).decode())
                   )(world), BAD_TOKEN)
  yield Attack("two tokens, one of them good", "authorization twice",
               with_metadata(("authorization", "Bearer {reader}"),
                             ("authorization", "Bearer x")), BAD_TOKEN)
  yield Attack("a token of another scope", "Generate by a trainer",
               with_token_of("trainer"), NO_SCOPE)
  yield Attack("moving an alias without being an administrator", "SetAlias",
               call_of("reader", "model", "SetAlias", pb.model.SetAliasRequest(
                   name="tiny", alias="prod", version=1)), NO_SCOPE)
  yield Attack("deleting a version without being an administrator",
               "DeleteVersion",
               call_of("submitter", "model", "DeleteVersion",
                       pb.model.DeleteVersionRequest(name="tiny", version=1)),
               NO_SCOPE)
  yield Attack("publishing by force without being an administrator",
               "PublishCheckpoint(force)",
               call_of("submitter", "training", "PublishCheckpoint",
                       lambda world: pb.training.PublishCheckpointRequest(
                           job_id=world.job, checkpoint_id="x", force=True)),
               NO_SCOPE)
  yield Attack("asking what services there are", "reflection, no token",
               reflection(None), NO_TOKEN)
  yield Attack("the same with a token", "reflection", reflection("admin"),
               "UNIMPLEMENTED None")
  yield Attack("guessing methods", "/pot.v1.InferenceService/Guess, no token",
               unknown("/pot.v1.InferenceService/Guess"), NO_TOKEN)
  yield Attack("looking for the trainers' service where it is not",
               "AcquireLease at the other port",
               unknown("/pot.v1.TrainerWorkerService/AcquireLease"), NO_TOKEN)
  yield Attack("asking the health service for models", "Check, Watch, no token",
               probe_health, f"UNAUTHENTICATED {NO_TOKEN}")


def with_token_of(key):
  return lambda world: with_token(world.tokens[key])(world)


# --- The connection -----------------------------------------------------------


def plain_text(world):
  with grpc.insecure_channel(f"127.0.0.1:{world.server.port}") as channel:
    return outcome(generate(channel))


def as_worker(certificate):
  """AcquireLease with the files of a certificate, or none."""

  def run(world):
    with world.server.new_worker_channel(
        world.tokens["trainer"], world.server.identities[certificate]
        if certificate else None) as channel:
      return outcome(lambda: pb.worker_grpc.TrainerWorkerServiceStub(
          channel).AcquireLease(pb.worker.AcquireLeaseRequest(), timeout=20))

  return run


def garbage(data, tls=False):
  """The server ends the connection and says nothing but, perhaps, why."""

  def run(world):
    with Connection(world.server.port, tls=tls) as connection:
      with contextlib.suppress(OSError):
        connection.send(data)
      answer = connection.read(1 << 16)
    return CLOSED if b"pot" not in answer else f"said {answer}"

  return run


def flood_of_pings(world):
  with Connection(world.server.port).open() as connection:
    with contextlib.suppress(OSError):
      for _ in range(8):
        connection.send(raw_http2.frame(raw_http2.PING, b"8 bytes."))
    return f"GOAWAY {connection.goaway()}"


def rapid_reset(world):
  """CVE-2023-44487: calls that are taken back at once."""
  headers = raw_http2.request_headers(INFERENCE + "Generate")
  with Connection(world.server.port).open() as connection:
    with contextlib.suppress(OSError):
      for stream in range(1, 4001, 2):
        connection.send(
            raw_http2.frame(raw_http2.HEADERS, headers,
                            flags=raw_http2.END_HEADERS, stream=stream)
            + raw_http2.frame(raw_http2.RST_STREAM, struct.pack(">I", 8),
                              stream=stream))
    with world.server.new_channel(world.tokens["reader"]) as channel:
      return outcome(generate(channel))


def silent_connections(world):
  """Many connections that never finish their handshake."""
  connections = [socket.create_connection(("127.0.0.1", world.server.port), 20)
                 for _ in range(100)]
  for connection in connections[::2]:
    connection.send(b"\x16\x03\x01")  # the beginning of a ClientHello
  with world.server.new_channel(world.tokens["reader"]) as channel:
    served = outcome(generate(channel))
  ended = 0
  for connection in connections:
    with connection, contextlib.suppress(ConnectionError):
      if connection.recv(1) != b"":
        return "the server spoke"
    ended += 1
  return f"{served}, {ended} closed"


def connection_attacks():
  yield Attack("plain text to the encrypted port", "no TLS", plain_text,
               REFUSED)
  yield Attack("a trainer without a certificate", "no certificate",
               as_worker(None), REFUSED)
  yield Attack("a trainer's certificate that has expired", "not after yesterday",
               as_worker("expired"), REFUSED)
  yield Attack("a certificate that is not valid yet", "not before tomorrow",
               as_worker("early"), REFUSED)
  yield Attack("a certificate of somebody else's authority", "same name",
               as_worker("foreign"), REFUSED)
  yield Attack("a web browser", "GET / HTTP/1.1",
               garbage(b"GET / HTTP/1.1\r\nHost: pot\r\n\r\n"), CLOSED)
  yield Attack("bytes that are no TLS", "64 KiB of 0xff",
               garbage(b"\xff" * 65536), CLOSED)
  yield Attack("TLS without HTTP/2 inside", "an SSH greeting in TLS",
               garbage(b"SSH-2.0-x\r\n" * 100, tls=True), CLOSED)
  yield Attack("a frame longer than any may be", "length 2^24-1",
               garbage(raw_http2.PREFACE + raw_http2.frame(raw_http2.SETTINGS)
                       + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + b"x" * 65536,
                       tls=True), CLOSED)
  yield Attack("a flood of pings", "8 at once", flood_of_pings,
               f"GOAWAY {raw_http2.ENHANCE_YOUR_CALM}")
  yield Attack("rapid reset", "2000 calls taken back at once", rapid_reset,
               "OK")
  yield Attack("connections that say nothing", "100, half of a handshake",
               silent_connections, "OK, 100 closed")


# --- Too much -----------------------------------------------------------------


def giant_metadata(world):
  with world.server.new_channel(world.tokens["reader"]) as channel:
    return outcome(lambda: raw(
        channel, INFERENCE + "Tokenize", metadata=[("x-junk", "y" * (1 << 20))]))


def huge_message(world):
  with world.server.new_channel(world.tokens["reader"]) as channel:
    return outcome(generate(channel, "x" * (5 << 20)))


def compressed_bomb(world):
  with world.server.new_channel(world.tokens["reader"]) as channel:
    return outcome(lambda: raw(
        channel, INFERENCE + "Tokenize", b"\x12\x80\x80\x80\x20"
        + b"x" * (64 << 20), compression=grpc.Compression.Gzip))


def over_quota(world):
  """One key asks for more than its share; others do not notice."""
  outcomes = set()
  retry = 0
  with world.server.new_channel(world.tokens["limited"]) as channel:
    for _ in range(20):
      try:
        generate(channel)()
        outcomes.add("OK")
      except grpc.RpcError as error:
        failure = RpcFailure(error)
        retry = failure.retry_seconds
        outcomes.add(f"{failure.code} {failure.reason}")
        assert failure.metadata["limit"], failure.metadata
        assert failure.metadata["value"], failure.metadata
  assert retry and retry > 0, "no RetryInfo"
  with world.server.new_channel(world.tokens["reader"]) as channel:
    assert outcome(generate(channel)) == "OK"
  return ", ".join(sorted(outcomes))


def many_streams(world):
  """More calls on one connection than it may have; another is not held up."""
  with contextlib.ExitStack() as stack:
    flood = stack.enter_context(
        world.server.new_channel(world.tokens["reader"]))
    stub = pb.inference_grpc.InferenceServiceStub(flood)
    never = stack.enter_context(contextlib.closing(Silence()))
    calls = [stub.Perplexity(never, timeout=PATIENCE) for _ in range(100)]
    with world.server.new_channel(world.tokens["reader"]) as channel:
      served = outcome(generate(channel))
    for call in calls:
      call.cancel()
  return served


class Silence:
  """An iterator of requests that never has one until it is closed."""

  def __init__(self):
    self.closed = False

  def __iter__(self):
    return self

  def __next__(self):
    while not self.closed:
      time.sleep(0.02)
    raise StopIteration

  def close(self):
    self.closed = True


def slow_stream(key, service, method, first):
  """A stream that begins and then says nothing: how it ends."""

  def run(world):
    def requests():
      yield first
      yield from silence

    with contextlib.closing(Silence()) as silence, \
        world.server.new_channel(world.tokens[key]) as channel:
      stub = getattr(pb, f"{service.lower()}_grpc")
      stub = getattr(stub, f"{service}ServiceStub")(channel)
      # Whether the details come, too, is a race (proto/README.md).
      return outcome(lambda: getattr(stub, method)(
          requests(), timeout=PATIENCE)).split()[0]

  return run


def dataset_header(size, digest="0" * 64):
  return pb.training.UploadDatasetRequest(header=pb.training.DatasetHeader(
      name="flood", sha256=digest, size_bytes=size))


def upload_flood(world):
  """Each upload claims room; together more than there may be."""
  outcomes = set()
  with contextlib.ExitStack() as stack:
    silence = stack.enter_context(contextlib.closing(Silence()))
    channel = stack.enter_context(
        world.server.new_channel(world.tokens["submitter"]))
    stub = pb.training_grpc.TrainingServiceStub(channel)
    futures = []
    for i in range(40):
      digest = hashlib.sha256(b"%d" % i).hexdigest()

      def requests(digest=digest):
        yield dataset_header(world.server.max_dataset, digest)
        yield from silence

      futures.append(stub.UploadDataset.future(requests(), timeout=PATIENCE))
    for future in futures:
      result = outcome(future.result)
      outcomes.add(SLOW if result.startswith(SLOW) else result)
  return ", ".join(sorted(outcomes))


def too_much_attacks():
  yield Attack("giant metadata", "1 MiB", giant_metadata,
               "RESOURCE_EXHAUSTED None")
  yield Attack("a huge message", "5 MiB of 4 MiB", huge_message,
               "RESOURCE_EXHAUSTED None")
  yield Attack("a compressed bomb", "64 MiB in 64 KiB", compressed_bomb,
               "UNIMPLEMENTED None")
  yield Attack("more than the quota", "20 calls of 3", over_quota,
               "OK, RESOURCE_EXHAUSTED QUOTA_EXCEEDED")
  yield Attack("more streams than a connection may have", "100 Perplexity",
               many_streams, "OK")
  yield Attack("a text that never comes", "Perplexity, then silence",
               slow_stream("reader", "Inference", "Perplexity",
                           pb.inference.PerplexityRequest(
                               options=pb.inference.PerplexityOptions(
                                   model=ModelRef(name="tiny")))),
               SLOW)
  yield Attack("an upload that never comes", "UploadDataset, then silence",
               slow_stream("submitter", "Training", "UploadDataset",
                           dataset_header(1000)), SLOW)
  yield Attack("a checkpoint that never comes",
               "RegisterCheckpoint, then silence",
               slow_stream("admin", "Model", "RegisterCheckpoint",
                           pb.model.RegisterCheckpointRequest(
                               header=pb.model.CheckpointHeader(
                                   name="slow", files=[pb.model.FileInfo(
                                       path="manifest.json", size_bytes=5,
                                       sha256="0" * 64)]))),
               SLOW)
  yield Attack("a flood of uploads", "40 that announce the largest size",
               upload_flood, f"{SLOW}, RESOURCE_EXHAUSTED DISK_BUDGET")
  yield Attack("an upload larger than any disk", "2^60 bytes",
               call_of("submitter", "training", "UploadDataset",
                       [dataset_header(2**60)], stream=True),
               "RESOURCE_EXHAUSTED UPLOAD_TOO_LARGE")


# --- Poison -------------------------------------------------------------------


def weights(header):
  return struct.pack("<Q", len(header)) + header + b"\0" * 64


def poisoned(name, weights_file, expected):
  """A checkpoint whose manifest is right and whose weights are poison."""
  source = pot_testing.CHARACTERS / "2"
  content = {path.name: path.read_bytes() for path in source.iterdir()}
  content["model.pot.safetensors"] = weights_file
  manifest = json.loads(content["manifest.json"])
  for path, entry in manifest["files"].items():
    entry["bytes"] = len(content[path])
    entry["sha256"] = hashlib.sha256(content[path]).hexdigest()
  content["manifest.json"] = json.dumps(manifest).encode()
  files = [pb.model.FileInfo(path=path, size_bytes=len(data),
                             sha256=hashlib.sha256(data).hexdigest())
           for path, data in content.items()]
  messages = [pb.model.RegisterCheckpointRequest(
      header=pb.model.CheckpointHeader(name="poison", files=files))]
  for index, data in enumerate(content.values()):
    for offset in range(0, len(data), 1 << 20):
      messages.append(pb.model.RegisterCheckpointRequest(
          chunk=pb.model.FileChunk(file_index=index, offset=offset,
                                   data=data[offset:offset + (1 << 20)])))
  return Attack("a poisoned checkpoint: " + name, "RegisterCheckpoint",
                call_of("admin", "model", "RegisterCheckpoint", messages,
                        stream=True), expected)


def poison_attacks():
  corrupt = "DATA_LOSS CORRUPT_CHECKPOINT"
  yield poisoned("a header of 2^62 bytes",
                 struct.pack("<Q", 1 << 62) + b"{}" + b"\0" * 64, corrupt)
  yield poisoned("a header nested a million deep",
                 weights(b'{"a":' * 1000000 + b"1" + b"}" * 1000000), corrupt)
  yield poisoned("a tensor of 2^80 elements", weights(json.dumps(
      {"a": {"dtype": "F32", "shape": [2**40, 2**40],
             "data_offsets": [0, 64]}}).encode()), corrupt)
  yield poisoned("a million tensors", weights(json.dumps(
      {f"t{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
       for i in range(200000)}).encode()), corrupt)
  yield Attack("a way out of the repository", "model ../../etc",
               call_of("admin", "model", "LoadModel", pb.model.LoadModelRequest(
                   model=ModelRef(name="../../etc", version=1))), INVALID)
  yield Attack("a file beside the checkpoint", "path ../../../root/.ssh/x",
               call_of("admin", "model", "RegisterCheckpoint",
                       [pb.model.RegisterCheckpointRequest(
                           header=pb.model.CheckpointHeader(
                               name="x", files=[pb.model.FileInfo(
                                   path="../../../root/.ssh/authorized_keys",
                                   size_bytes=1, sha256="0" * 64)]))],
                       stream=True), INVALID)
  yield Attack("a text's name that is a path", "name ../../keys",
               call_of("submitter", "training", "UploadDataset",
                       [pb.training.UploadDatasetRequest(
                           header=pb.training.DatasetHeader(
                               name="ok", sha256="../../../keys",
                               size_bytes=1))], stream=True), INVALID)


# --- Other people's jobs ------------------------------------------------------


def stolen(method, request):
  """With a good certificate and token, but not the lease."""

  def run(world):
    with world.server.new_worker_channel(
        world.tokens["trainer"], world.server.identities["trainer"]) as channel:
      stub = pb.worker_grpc.TrainerWorkerServiceStub(channel)
      message = request(world)
      return outcome(lambda: getattr(stub, method)(
          iter(message) if isinstance(message, list) else message,
          timeout=PATIENCE))

  return run


def lease_of(world, epoch=0):
  return pb.worker.LeaseKey(job_id=world.job, epoch=world.epoch + epoch)


def lease_attacks():
  def complete(epoch):
    return lambda world: pb.worker.CompleteRequest(
        lease=lease_of(world, epoch),
        failed=pb.worker.FailedOutcome(message="mine now"))

  yield Attack("ending a job with a lease that was lost", "epoch - 1",
               stolen("Complete", complete(-1)), "ABORTED STALE_LEASE")
  yield Attack("ending a job with a lease of the future", "epoch + 1",
               stolen("Complete", complete(1)), "ABORTED STALE_LEASE")
  yield Attack("uploading a checkpoint with a lease that was lost", "epoch - 1",
               stolen("UploadCheckpoint", lambda world: [
                   pb.worker.UploadCheckpointRequest(
                       header=pb.worker.CheckpointUploadHeader(
                           upload=pb.worker.UploadHeader(
                               lease=lease_of(world, -1), upload_id="theft",
                               step=1, files=[pb.worker.StoredFile(
                                   path="a", size_bytes=1,
                                   sha256="0" * 64)])))]),
               "ABORTED STALE_LEASE")
  yield Attack("reading another job's text", "FetchDataset, epoch - 1",
               stolen("FetchDataset", lambda world:
                      pb.worker.FetchDatasetRequest(
                          lease=lease_of(world, -1), sha256="0" * 64)),
               "ABORTED STALE_LEASE")


def all_attacks():
  for group in (identity_attacks, connection_attacks, too_much_attacks,
                poison_attacks, lease_attacks):
    yield from group()
