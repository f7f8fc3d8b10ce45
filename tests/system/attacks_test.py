#!/usr/bin/python3
"""Attacks pot-server, and looks whether anybody else notices.

attacks.py has the list: what is done, how, and the code it must be refused
with. All go to one server with TLS, keys and a port for trainers that asks for
certificates. After each the same request gives the same text, and in the end
the repository is what it was.

Usage: attacks_test.py --server POT_SERVER --trainer POT_TRAINER
                       --client POT_CLIENT
       attacks_test.py --list    prints the attacks as a Markdown table
"""

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
import unittest

import grpc

import attacks
import pot_testing
from attacks import NO_SCOPE
from attacks import NO_TOKEN
from attacks import outcome
from attacks import raw
from certificates import Authority
from pot_testing import ModelRef
from pot_testing import PATIENCE
from pot_testing import TINY
from pot_testing import generate_request
from pot_testing import pb

MINIMUM = 20
SERVICES = {"inference": "InferenceService", "model": "ModelService",
            "training": "TrainingService", "worker": "TrainerWorkerService"}
METHODS = [method for module, name in SERVICES.items()
           for method in getattr(pb, module).DESCRIPTOR.services_by_name[
               name].methods]
# Keys and scopes; `limited` may make three calls and then one a minute.
KEYS = {"reader": "infer", "submitter": "train", "admin": "admin",
        "trainer": "worker", "all": "infer,admin,train",
        "limited": "infer", "revoked": "infer"}
LIMITED = " requests-per-second=0.017 request-burst=3 concurrent-calls=2"


def kind_of(method):
  """Whether the request and the answer are streams."""
  message = pb.descriptor.MethodDescriptorProto()
  method.CopyToProto(message)
  return message.client_streaming, message.server_streaming


pb.descriptor = __import__("google.protobuf.descriptor_pb2",
                           fromlist=["descriptor_pb2"])
pb.kinds = {f"/{method.containing_service.full_name}/{method.name}":
            kind_of(method) for method in METHODS}


def run_client(*arguments, environment=None):
  return subprocess.run(
      [pot_testing.programs.client, *map(str, arguments)],
      capture_output=True, text=True, timeout=PATIENCE, check=False,
      env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL)


def free_port():
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    return listener.getsockname()[1]


class SecureServer(pot_testing.Server):
  """With TLS; without a token nothing but health is to be had."""

  max_dataset = 1 << 60

  def __init__(self, repository, authority, token, *flags):
    self.authority = authority
    self.token = token
    self.worker_port = free_port()
    self.identities = {}
    super().__init__(repository, *flags)

  def new_channel(self, token="", *, port=None, identity=None):
    """`token` None: none; "": the server's own."""
    certificate, key = identity or (None, None)
    credentials = grpc.ssl_channel_credentials(
        self.authority.path.read_bytes(), key and key.read_bytes(),
        certificate and certificate.read_bytes())
    token = self.token if token == "" else token
    if token is not None:
      credentials = grpc.composite_channel_credentials(
          credentials, grpc.access_token_call_credentials(token))
    return grpc.secure_channel(
        f"127.0.0.1:{port or self.port}", credentials,
        options=[("grpc.max_receive_message_length", -1),
                 ("grpc.max_send_message_length", -1),
                 ("grpc.enable_retries", 0),
                 ("grpc.use_local_subchannel_pool", 1)])

  def new_worker_channel(self, token, identity):
    return self.new_channel(token, port=self.worker_port, identity=identity)


class AttacksTest(unittest.TestCase):

  @classmethod
  def setUpClass(cls):
    cls.directory = directory = pot_testing.temporary_directory()
    cls.repository = directory / "models"
    pot_testing.quantize(TINY, cls.repository, "tiny", "--format", "f32")
    cls.authority = Authority(directory, "authority")
    workers = Authority(directory, "workers")
    certificate, key = cls.authority.issue("server")
    cls.key_file = directory / "keys"
    cls.tokens = {}
    for name, scopes in KEYS.items():
      made = run_client("tokens", "new", "--name", name, "--scopes", scopes,
                        "--append", cls.key_file)
      assert made.returncode == 0, made.stderr
      cls.tokens[name] = made.stdout.strip()
    lines = cls.key_file.read_text().splitlines()
    cls.key_file.write_text("".join(
        line + (LIMITED if line.startswith("limited ") else "") + "\n"
        for line in lines))
    free = shutil.disk_usage(directory).free
    cls.server = SecureServer(
        cls.repository, cls.authority, cls.tokens["all"],
        "--tls-cert", certificate, "--tls-key", key,
        "--token-file", cls.key_file, "--worker-listen", "127.0.0.1:PORT",
        "--worker-client-ca", workers.path, "--reload-interval", "50ms",
        "--handshake-timeout", "1s", "--read-timeout", "1s",
        "--max-concurrent-streams", 32, "--max-dataset-size", free // 8,
        "--min-free-disk", "64MiB", "--threads", 1)
    cls.server.flags = [flag.replace("PORT", str(cls.server.worker_port))
                        for flag in cls.server.flags]
    cls.server.max_dataset = free // 8
    cls.server.identities = {
        "trainer": workers.issue("trainer"),
        "expired": workers.issue("expired", begin=-9, end=-1),
        "early": workers.issue("early", begin=1),
        "foreign": Authority(directory, "foreign").issue("trainer",
                                                         file="foreign")}
    cls.server.start()
    cls.addClassCleanup(cls.server.stop)
    cls.world = attacks.World(cls.server, cls.repository, cls.tokens)
    cls.submit_job()

  @classmethod
  def submit_job(cls):
    """A job that a trainer has leased and lost once."""
    data = b"the power of one and the other, " * 200
    digest = hashlib.sha256(data).hexdigest()
    with cls.server.new_channel(cls.tokens["submitter"]) as channel:
      training = pb.training_grpc.TrainingServiceStub(channel)
      training.UploadDataset(iter([
          pb.training.UploadDatasetRequest(header=pb.training.DatasetHeader(
              name="text", sha256=digest, size_bytes=len(data))),
          pb.training.UploadDatasetRequest(data=data)]), timeout=PATIENCE)
      spec = pb.qat_job.QatJobSpec(base=ModelRef(name="tiny", version=1))
      spec.data.datasets.sha256.append(digest)
      spec.quantization.format = "pot4"
      spec.schedule.steps = 10
      spec.batch.sequences = 1
      spec.batch.context = 16
      cls.job = training.SubmitQat(pb.training.SubmitQatRequest(spec=spec),
                                   timeout=PATIENCE).job
    with cls.server.new_worker_channel(
        cls.tokens["trainer"], cls.server.identities["trainer"]) as channel:
      worker = pb.worker_grpc.TrainerWorkerServiceStub(channel)
      for _ in range(2):  # the second lease makes the first one stale
        lease = worker.AcquireLease(pb.worker.AcquireLeaseRequest(
            worker=pb.worker.WorkerInfo(name="w", threads=1,
                                        memory_bytes=1 << 40)),
            timeout=PATIENCE).lease
    cls.world.job = lease.key.job_id
    cls.world.epoch = lease.key.epoch

  def text(self):
    request = generate_request("tiny", "the other ", temperature=0.9, seed=5,
                               max_new_tokens=40)
    answer = self.server.inference.Generate(request, timeout=PATIENCE)
    return answer.sequences[0].text, answer.summary.model

  def test_attacks_are_refused_and_nobody_else_notices(self):
    before = pot_testing.tree_of(self.repository / "tiny")
    keys = self.key_file.read_bytes()
    expected = self.text()
    pid = self.server.process.pid
    for attack in attacks.all_attacks():
      with self.subTest(attack.what, how=attack.how):
        self.assertEqual(attack.expected, attack.run(self.world))
        self.assertTrue(self.server.is_running(), "the server is gone")
        self.assertEqual(expected, self.text())
    self.assertEqual("SERVING", self.server.health())
    self.assertEqual(pid, self.server.process.pid)
    self.assertEqual(before, pot_testing.tree_of(self.repository / "tiny"))
    self.assertEqual(keys, self.key_file.read_bytes())
    self.assertFalse((self.repository / "poison").exists())
    log = self.server.log()
    for token in self.tokens.values():
      self.assertNotIn(token, log, "a token is in the log")

  def test_the_list_is_long_and_has_no_attack_twice(self):
    what = [attack.what for attack in attacks.all_attacks()]
    self.assertGreaterEqual(len(what), MINIMUM)
    self.assertEqual(len(what), len(set(what)))

  def test_no_method_can_be_called_without_its_scope(self):
    lacking = {"InferenceService": "submitter", "ModelService": "trainer",
               "TrainingService": "reader", "TrainerWorkerService": "all"}
    self.assertGreaterEqual(len(METHODS), 40)
    identity = self.server.identities["trainer"]
    for method in METHODS:
      service = method.containing_service.name
      workers = service == "TrainerWorkerService"
      port = self.server.worker_port if workers else None
      for token, expected in ((None, NO_TOKEN),
                              (self.tokens[lacking[service]], NO_SCOPE)):
        with self.subTest(method.full_name, expected=expected), \
            self.server.new_channel(token, port=port, identity=identity) as c:
          # Not even a message that is none is looked at.
          self.assertEqual(expected, outcome(lambda: raw(c, method, b"\xff")))

  def test_what_a_key_may_do_it_may(self):
    list_models = pb.model.ListModelsRequest()
    for name in ("reader", "submitter", "admin"):
      with self.server.new_channel(self.tokens[name]) as channel:
        models = pb.model_grpc.ModelServiceStub(channel)
        self.assertTrue(models.ListModels(list_models, timeout=9).versions)

  def test_who_did_what_is_on_record(self):
    self.assertEqual("submitter", self.job.submitter)
    with self.server.new_channel(self.tokens["admin"]) as channel:
      models = pb.model_grpc.ModelServiceStub(channel)
      models.SetAlias(pb.model.SetAliasRequest(
          name="tiny", alias="audit", version=1), timeout=PATIENCE)
      history = models.ListAliasHistory(pb.model.ListAliasHistoryRequest(
          name="tiny", alias="audit"), timeout=PATIENCE)
      self.assertEqual("admin", history.changes[0].actor)
      models.SetAlias(pb.model.SetAliasRequest(
          name="tiny", alias="audit", remove=True), timeout=PATIENCE)

  def wait_for(self, condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
      self.assertLess(time.monotonic(), deadline, what)
      time.sleep(0.02)

  def test_keys_follow_their_file(self):
    token = self.tokens["revoked"]
    good = self.key_file.read_text()
    self.addCleanup(self.key_file.write_text, good)

    def answer():
      with self.server.new_channel(token) as channel:
        return outcome(attacks.generate(channel))

    self.assertEqual("OK", answer())
    # A broken file is no way in, and none to lock everybody out.
    self.key_file.write_text(good.replace("revoked infer", "revoked root"))
    self.wait_for(lambda: "key file is broken" in self.server.log(), "no log")
    self.assertEqual("OK", answer())
    self.key_file.write_text("".join(
        line + "\n" for line in good.splitlines() if "revoked" not in line))
    self.wait_for(lambda: answer() == attacks.BAD_TOKEN, "still let in")
    self.key_file.write_text(good)
    self.wait_for(lambda: answer() == "OK", "not let in again")

  def served_certificate(self):
    with attacks.Connection(self.server.port) as connection:
      return connection.socket.getpeercert(binary_form=True)

  def test_certificates_follow_their_files(self):
    certificate = self.directory / "server.crt"
    key = self.directory / "server.key"
    old = self.served_certificate()
    with self.server.new_channel() as running:
      self.assertEqual("OK", outcome(attacks.generate(running)))
      # A key without its certificate: the old pair stays.
      other, other_key = self.authority.issue("server", file="next")
      good_key = key.read_bytes()
      key.write_bytes(other_key.read_bytes())
      self.wait_for(lambda: "certificate is broken" in self.server.log(),
                    "no log")
      self.assertEqual(old, self.served_certificate())
      with self.server.new_channel() as channel:
        self.assertEqual("OK", outcome(attacks.generate(channel)))
      self.assertNotEqual(good_key, key.read_bytes())
      certificate.write_bytes(other.read_bytes())
      self.wait_for(lambda: self.served_certificate() != old, "still the old")
      with self.server.new_channel() as channel:
        self.assertEqual("OK", outcome(attacks.generate(channel)))
      self.assertEqual("OK", outcome(attacks.generate(running)),
                       "a connection that stood was cut")

  # --- pot-client and pot-trainer ---------------------------------------------

  def client(self, *arguments, token=None, server=None):
    environment = {"POT_TLS_CA": str(self.authority.path)}
    if token is not None:
      environment["POT_TOKEN"] = token
    return run_client("--server", server or f"127.0.0.1:{self.server.port}",
                      *arguments, environment=environment)

  def test_the_client_shows_its_token_to_the_right_server_alone(self):
    listed = self.client("models", "list", token=self.tokens["reader"])
    self.assertEqual(0, listed.returncode, listed.stderr)
    self.assertIn("tiny", listed.stdout)
    file = self.directory / "token"
    file.write_text(self.tokens["reader"] + "\n")
    listed = self.client("models", "list", "--token-file", file)
    self.assertEqual(0, listed.returncode, listed.stderr)
    for token, reason in ((None, "NO_TOKEN"), ("pot_x", "BAD_TOKEN")):
      refused = self.client("models", "list", token=token)
      self.assertEqual(7, refused.returncode, refused.stderr)
      self.assertIn(reason, refused.stderr)
    refused = self.client("models", "load", "tiny@1",
                          token=self.tokens["reader"])
    self.assertEqual(7, refused.returncode, refused.stderr)
    self.assertIn("admin", refused.stderr)
    # To other hosts it needs TLS; nothing is sent to find out.
    for server in ("192.0.2.1:8500", "127.evil.example:8500",
                   "localhost.evil.example:8500"):
      refused = run_client("--server", server, "models", "list",
                           environment={"POT_TOKEN": "pot_x"})
      self.assertEqual(2, refused.returncode, refused.stderr)
      self.assertIn("unencrypted", refused.stderr)
    wrong_ca = Authority(self.directory, "other-authority").path
    refused = self.client("models", "list", "--tls-ca", wrong_ca,
                          "--timeout", "20s", token=self.tokens["reader"])
    self.assertEqual(4, refused.returncode, refused.stderr)

  def test_the_client_says_what_is_wrong_with_its_files(self):
    for flags, fragment in (
        (["--tls-ca", "/nowhere"], "--tls-ca: "),
        (["--tls-ca", self.key_file], "holds no PEM CERTIFICATE"),
        (["--tls-cert", self.authority.path], "belong together"),
        (["--token-file", "/nowhere"], "--token-file: "),
        (["--token-file", self.key_file], "one token")):
      result = self.client("models", "list", *flags)
      self.assertIn(result.returncode, (2, 3), result.stderr)
      self.assertIn(fragment, result.stderr)

  def worker(self, identity, token):
    certificate, key = self.server.identities[identity]
    return subprocess.run(
        [pot_testing.programs.trainer, "worker", "--once", "--server",
         f"127.0.0.1:{self.server.worker_port}", "--work-dir",
         self.directory / "work", "--tls-ca", self.authority.path,
         "--tls-cert", certificate, "--tls-key", key],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
        env={**os.environ, "POT_TOKEN": token})

  def test_a_trainer_needs_the_scope(self):
    refused = self.worker("trainer", self.tokens["reader"])
    self.assertEqual(7, refused.returncode, refused.stderr)
    self.assertIn("worker", refused.stderr)
    refused = self.worker("trainer", "pot_x")
    self.assertEqual(7, refused.returncode, refused.stderr)

  # --- Starting ---------------------------------------------------------------

  def test_wrong_files_are_all_named_before_anything_starts(self):
    garbage = self.directory / "garbage"
    garbage.write_text("garbage\n")
    result = subprocess.run(
        [pot_testing.programs.server, "--repository", self.repository,
         "--listen", "0.0.0.0:0", "--tls-cert", "/nowhere", "--tls-key",
         garbage, "--tls-client-ca", garbage, "--worker-client-ca", garbage,
         "--token-file", garbage, "--max-metadata-size", "1"],
        capture_output=True, text=True, timeout=PATIENCE, check=False)
    self.assertEqual(2, result.returncode, result.stderr)
    for setting in ("tls-cert", "tls-key", "tls-client-ca", "worker-client-ca",
                    "token-file", "max-metadata-size"):
      self.assertIn(f"--{setting}: ", result.stderr)

  def test_every_setting_is_printed(self):
    shown = subprocess.run(
        [pot_testing.programs.server, "--help"], capture_output=True,
        text=True, timeout=PATIENCE, check=True).stdout
    settings = {line.split()[0][2:] for line in shown.splitlines()
                if line.strip().startswith("--")} - {"config", "version",
                                                     "print-config"}
    printed = subprocess.run(
        [pot_testing.programs.server, "--print-config", "--repository", "/x"],
        capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    self.assertEqual(settings, {line.split(" = ")[0]
                                for line in printed.splitlines()})


class FullDiskTest(unittest.TestCase):
  """Uploads stop before the disk is full; a full one loses nothing."""

  def setUp(self):
    self.directory = pot_testing.temporary_directory()
    self.disk = self.directory / "disk"
    self.disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "pot-test", self.disk],
        capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
      self.skipTest("SKIPPED, NOTHING WAS TESTED: a small disk needs mount(8), "
                    f"which says: {mounted.stderr.strip()}")
    self.addCleanup(subprocess.run, ["umount", "-l", self.disk], check=True)
    self.repository = self.disk / "models"
    pot_testing.quantize(TINY, self.repository, "tiny", "--format", "f32")

  def upload(self, server, size):
    """The outcome of an upload of `size` bytes."""
    data = b"the power of one and the other, " * (size // 32)
    digest = hashlib.sha256(data).hexdigest()

    def messages():
      yield pb.training.UploadDatasetRequest(header=pb.training.DatasetHeader(
          name="text", sha256=digest, size_bytes=len(data)))
      for offset in range(0, len(data), 1 << 20):
        yield pb.training.UploadDatasetRequest(
            data=data[offset:offset + (1 << 20)])

    stub = pb.training_grpc.TrainingServiceStub(server.channel)
    return outcome(lambda: stub.UploadDataset(messages(), timeout=PATIENCE))

  def set_alias(self, server, alias):
    """Whether it was set."""
    return outcome(lambda: server.models.SetAlias(pb.model.SetAliasRequest(
        name="tiny", alias=alias, version=1, comment="c" * 500),
        timeout=PATIENCE)) == "OK"

  def text(self, server):
    return server.inference.Generate(generate_request(
        "tiny", "the", temperature=0, max_new_tokens=20), timeout=PATIENCE).sequences[0].text

  def test_uploads_are_refused_before_the_disk_is_full(self):
    with pot_testing.Server(self.repository, "--min-free-disk", "8MiB",
                            "--threads", 1) as server:
      expected = self.text(server)
      self.assertEqual("OK", self.upload(server, 1 << 20))
      self.assertEqual("RESOURCE_EXHAUSTED DISK_BUDGET",
                       self.upload(server, 16 << 20))
      self.assertGreater(shutil.disk_usage(self.disk).free, 8 << 20)
      self.assertEqual(expected, self.text(server))

  def test_a_full_disk_loses_nothing(self):
    with pot_testing.Server(self.repository, "--min-free-disk", "0",
                            "--threads", 1) as server:
      expected = self.text(server)
      self.assertEqual("OK", self.upload(server, 1 << 20))
      server.models.SetAlias(pb.model.SetAliasRequest(
          name="tiny", alias="before", version=1), timeout=PATIENCE)
      fill = self.disk / "fill"
      with contextlib.suppress(OSError), open(fill, "wb", buffering=0) as file:
        while True:
          file.write(b"x" * 4096)
      self.assertLess(shutil.disk_usage(self.disk).free, 4096)
      before = pot_testing.tree_of(self.repository / "tiny" / "1")
      refused = self.upload(server, 2 << 20)
      self.assertTrue(refused.startswith("RESOURCE_EXHAUSTED"), refused)
      # As many as the file's last page has room for, and some that it has not.
      kept = [f"a{i}" for i in range(100) if self.set_alias(server, f"a{i}")]
      self.assertLess(len(kept), 100)
      self.assertEqual(expected, self.text(server))
      self.assertEqual(before,
                       pot_testing.tree_of(self.repository / "tiny" / "1"))
      # With room again everything goes on, here and after a restart.
      fill.unlink()
      self.assertTrue(self.set_alias(server, "after"))
      self.assertEqual("OK", self.upload(server, 2 << 20))
      server.stop()
      server.start()
      self.assertEqual(expected, self.text(server))
      listed = server.models.GetModel(pb.model.GetModelRequest(
          model=ModelRef(name="tiny", version=1)), timeout=PATIENCE)
      self.assertEqual({*kept, "before", "after"},
                       set(listed.version.aliases) - {"default"})


def print_list():
  print("| what | how | outcome |")
  print("|---|---|---|")
  for attack in attacks.all_attacks():
    print(f"| {attack.what} | {attack.how} | {attack.expected} |")


if __name__ == "__main__":
  if sys.argv[1:] == ["--list"]:
    print_list()
  else:
    pot_testing.main()
