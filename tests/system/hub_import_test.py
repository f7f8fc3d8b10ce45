#!/usr/bin/python3
"""Models by hub id: the real programs against a hub that speaks HTTP.

Usage: hub_import_test.py --server POT_SERVER --trainer POT_TRAINER
                          --client POT_CLIENT
"""

import hashlib
import os
import subprocess
import threading
import time
import unittest

import pot_testing
from certificates import Authority
from hub_testing import COMMIT, Fault, Hub
from pot_testing import PATIENCE, TINY, Server, programs

REPO = "owner/tiny"
ID = f"hf:{REPO}"
TOKEN = "hf_TheSecretToken"
WEIGHTS = TINY / "model.safetensors"


class HubImportTest(unittest.TestCase):

  def setUp(self):
    self.directory = pot_testing.temporary_directory()
    self.cache = self.directory / "cache"

  def start_hub(self, models=None, **options):
    hub = Hub(models or {REPO: TINY}, **options)
    self.addCleanup(hub.stop)
    return hub

  def start_server(self, *flags, environment=None):
    repository = self.directory / "models"
    repository.mkdir(exist_ok=True)
    server = Server(repository, "--no-training", *flags,
                    environment=environment)
    server.start()
    self.addCleanup(server.stop)
    return server

  def run_program(self, program, *arguments, hub, expected=0, **environment):
    """What it wrote, once it has shown neither token nor signature."""
    result = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True,
        timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, **hub.environment(self.cache), **environment})
    output = result.stdout + result.stderr
    self.assertEqual(expected, result.returncode, output)
    for secret in (TOKEN, "not-to-be-shown"):
      self.assertNotIn(secret, output)
    return output

  def quantize(self, hub, **options):
    return self.run_program(programs.trainer, "quantize", "--from", ID,
                            "--out", self.directory / "models" / "tiny",
                            hub=hub, **options)

  def client(self, server, *arguments, **options):
    return self.run_program(programs.client, "--server",
                            f"127.0.0.1:{server.port}", *arguments, **options)

  def blob(self):
    digest = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    return self.cache / "models--owner--tiny" / "blobs" / digest

  def partial(self):
    return self.blob().with_name(self.blob().name + ".incomplete")

  def test_client_imports_and_the_model_answers(self):
    authority = Authority(self.directory, "authority")
    hub = self.start_hub(token=TOKEN,
                         certificate=authority.issue("127.0.0.1"))
    access = {"hub": hub, "HF_TOKEN": TOKEN,
              "SSL_CERT_FILE": str(authority.path)}
    server = self.start_server()
    output = self.client(server, "models", "import", f"{ID}@v1", "--format",
                         "pot4", "--load", **access)
    self.assertIn("tiny@2", output)
    text = self.client(server, "generate", "-m", "tiny", "--max-new-tokens",
                       "8", "the other", hub=hub)
    self.assertGreater(len(text), 5)
    versions = {version.version: version.quantization.format
                for version in server.models.ListModels(
                    pot_testing.pb.model.ListModelsRequest()).versions}
    self.assertEqual({1: "f32", 2: "pot4"}, versions)
    for path, headers in hub.asked("hub") + hub.asked("hub", "HEAD"):
      self.assertEqual(f"Bearer {TOKEN}", headers["Authorization"], path)
    self.assertEqual([f"/{REPO}/model.safetensors"],
                     [path for path, _ in hub.asked("cdn")])
    for _, headers in hub.asked("cdn"):
      self.assertNotIn("Authorization", headers)
      self.assertNotIn(TOKEN, str(headers))
    # Neither downloaded nor uploaded a second time, and under another name.
    output = self.client(server, "models", "import", "tiny", ID, "--format",
                         "twohot4", **access)
    self.assertIn("not uploaded again", output)
    self.assertIn("tiny@3", output)
    self.assertEqual(1, len(hub.asked("cdn")))
    self.client(server, "models", "import", "other", ID, "--load", **access)
    self.client(server, "generate", "-m", "other", "the other", hub=hub)
    # Whom the certificate is not from is not talked to.
    refused = self.client(server, "models", "import", ID, hub=hub,
                          HF_TOKEN=TOKEN, expected=8)
    self.assertIn("SSL_CERT_FILE", refused)
    gated = self.client(server, "models", "import", ID, hub=hub,
                        SSL_CERT_FILE=str(authority.path), expected=7)
    self.assertIn("accept its terms", gated)
    self.assertIn("HF_TOKEN", gated)

  def test_server_imports_from_allowed_hosts_alone(self):
    hub = self.start_hub()
    server = self.start_server()
    refused = self.client(server, "models", "import", "tiny", "--hub", REPO,
                          hub=hub, expected=8)
    self.assertIn("--import-hosts", refused)
    self.assertIn("IMPORT_DISABLED", refused)
    server.stop()
    self.assertEqual([], hub.requests)

    server = self.start_server(
        "--import-hosts", ",".join(hub.hosts), environment={
            "HF_ENDPOINT": hub.url, "HF_HOME": "", "HF_HUB_CACHE": "",
            "NO_PROXY": "*", "HF_TOKEN": TOKEN})
    internal = self.start_hub()
    for target, reason in ((internal.cdn_url + "/owner/tiny/x", "HUB_DENIED"),
                           ("http://127.0.0.1:1/latest/meta-data",
                            "HUB_DENIED"),
                           ("file:///etc/passwd", "UNSUPPORTED_MODEL")):
      hub.redirect = target
      refused = self.client(server, "models", "import", "tiny", "--hub", REPO,
                            hub=hub, expected=8 if "http" in target else 2)
      self.assertIn(reason, refused)
    self.assertEqual([], internal.requests)
    self.assertEqual([], hub.asked("cdn"))
    hub.redirect = None
    hub.faults[REPO] = [Fault(status=503)]
    output = self.client(server, "models", "import", "tiny", "--hub", REPO,
                         "--format", "pot4", "--load", hub=hub)
    self.assertIn("tiny@1", output)
    self.client(server, "generate", "-m", "tiny", "the other", hub=hub)
    for _, headers in hub.asked("cdn"):
      self.assertNotIn("Authorization", headers)
    self.assertTrue((server.repository / ".hub").is_dir())
    missing = self.client(server, "models", "import", "tiny", "--hub", "no/one",
                          hub=hub, expected=3)
    self.assertIn("SOURCE_NOT_FOUND", missing)
    outside = self.client(server, "models", "import", "tiny", "--hub",
                          "../../etc", hub=hub, expected=2)
    self.assertIn("INVALID_FIELD", outside)
    # From the version that is there, nothing but f32.
    wrong = self.client(server, "models", "import", "x", "--from-version",
                        "tiny", "--format", "pot3", hub=hub, expected=8)
    self.assertIn("BASE_NOT_FLOAT", wrong)
    self.assertNotIn(TOKEN, server.log())
    self.assertNotIn("not-to-be-shown", server.log())

  def test_trainer_goes_on_after_cuts_and_kills(self):
    hub = self.start_hub()
    release = threading.Event()
    self.addCleanup(release.set)
    hub.faults[WEIGHTS.name] = [Fault(cut=3000, hold=release)]
    process = subprocess.Popen(
        [programs.trainer, "quantize", "--from", ID, "--out",
         self.directory / "models" / "tiny"], stderr=subprocess.DEVNULL,
        env={**os.environ, **hub.environment(self.cache)})
    self.assertTrue(hub.held.wait(PATIENCE))
    deadline = time.monotonic() + PATIENCE
    while (not self.partial().exists()
           or self.partial().stat().st_size < 3000):
      self.assertLess(time.monotonic(), deadline)
      time.sleep(0.01)
    process.kill()
    process.wait()
    release.set()
    self.assertEqual(WEIGHTS.read_bytes()[:3000], self.partial().read_bytes())
    self.assertFalse(self.blob().exists())

    hub.faults[WEIGHTS.name] = [Fault(cut=2000)]
    output = self.quantize(hub)
    self.assertIn("again in", output)
    self.assertEqual([None, "bytes=3000-", "bytes=5000-"],
                     [headers.get("Range") for _, headers in hub.asked("cdn")])
    self.assertEqual(WEIGHTS.read_bytes(), self.blob().read_bytes())
    self.assertFalse(self.partial().exists())
    # The same as from the directory.
    pot_testing.quantize(TINY, self.directory / "models", "tiny")
    models = [self.directory / "models" / "tiny" / version
              / "model.pot.safetensors" for version in ("1", "2")]
    self.assertEqual(models[0].read_bytes(), models[1].read_bytes())

    # Nothing is asked for what is in the cache, if told so.
    asked = len(hub.requests)
    text = self.directory / "text"
    text.write_text("the other and the power of two " * 9)
    self.assertIn("perplexity", self.run_program(
        programs.trainer, "eval", ID, text, hub=hub, HF_HUB_OFFLINE="1"))
    self.assertIn("perplexity", self.run_program(
        programs.trainer, "eval", f"{ID}@{COMMIT}", text, hub=hub))
    self.assertEqual(asked, len(hub.requests))

  def test_trainer_refuses_and_says_why(self):
    hub = self.start_hub()
    size = WEIGHTS.stat().st_size
    hub.faults[WEIGHTS.name] = [Fault(body=bytes(size))]
    self.assertIn("digest", self.quantize(hub, expected=1))
    self.assertFalse(self.blob().exists())
    hub.faults[WEIGHTS.name] = [Fault(body=bytes(size + 1))]
    self.assertIn("announced", self.quantize(hub, expected=1))
    hub.faults[REPO] = [Fault(status=429, headers={"Retry-After": "999"})]
    self.assertIn("wait 16m39s", self.quantize(hub, expected=6))
    hub.faults[REPO] = [Fault(status=401)]
    self.assertIn("set HF_TOKEN", self.quantize(hub, expected=7))
    hub.faults[REPO] = [Fault(status=302, headers={"Location": "/"})]
    self.assertIn("no model", self.quantize(hub, expected=3))
    for model, words in (("hf:owner/none", "check the name"),
                         (f"{ID}@v2", "no revision"),
                         ("hf:../x", "OWNER/NAME")):
      output = self.run_program(
          programs.trainer, "eval", model, WEIGHTS, hub=hub,
          expected=2 if ".." in model else 3)
      self.assertIn(words, output)
    bins = self.directory / "bins"
    bins.mkdir()
    for name in ("config.json", "vocab.json", "merges.txt",
                 "pytorch_model.bin"):
      (bins / name).write_text("{}")
    hub.models["owner/bins"] = bins
    output = self.run_program(programs.trainer, "eval", "hf:owner/bins",
                              WEIGHTS, hub=hub, expected=2)
    self.assertIn("pytorch_model.bin", output)
    self.assertFalse((self.directory / "models" / "tiny").exists())

    # A hub that asks to wait a second, and two that want the same.
    hub.faults[REPO] = [Fault(status=429, headers={"Retry-After": "1"})]
    began = time.monotonic()
    self.quantize(hub)
    self.assertGreater(time.monotonic() - began, 1)
    self.blob().unlink()
    release = threading.Event()
    hub.faults[WEIGHTS.name] = [Fault(cut=3000, hold=release)]
    hub.held.clear()
    outputs = []
    threads = [threading.Thread(
        target=lambda: outputs.append(self.quantize(hub))) for _ in range(2)]
    asked = len(hub.asked("cdn"))
    threads[0].start()
    self.assertTrue(hub.held.wait(PATIENCE))
    threads[1].start()
    time.sleep(0.5)
    release.set()
    for thread in threads:
      thread.join(PATIENCE)
    self.assertEqual(2, len(outputs))
    self.assertIn("another process downloads", "".join(outputs))
    # One that was cut, and its rest.
    self.assertEqual(asked + 2, len(hub.asked("cdn")))


if __name__ == "__main__":
  pot_testing.main()
