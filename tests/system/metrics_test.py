#!/usr/bin/python3
"""Scrapes a server and a trainer at work with the real Prometheus.

Every series of server/observability/README.md must come out with its type and
labels, Prometheus's own tools must find nothing to complain about, and the
figures must be those of the calls that were made.

Usage: metrics_test.py --server POT_SERVER --trainer POT_TRAINER
"""

import collections
import json
import re
import shutil
import signal
import subprocess
import time
import unittest
import urllib.request

import grpc

import pot_testing
import prometheus_testing
from pot_testing import ModelRef
from pot_testing import PATIENCE
from pot_testing import ROOT
from pot_testing import RpcFailure
from pot_testing import TINY
from pot_testing import generate_request
from pot_testing import pb

CONTRACT = ROOT / "server" / "observability" / "README.md"
TEXT = "".join(f"the power of {i * i} and the other, " for i in range(300))
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLE = re.compile(r'^([a-z_0-9]+)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-z_0-9]+)="((?:[^"\\]|\\.)*)"')


def fetch(url):
  with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
    return answer.read().decode()


def wait_until(condition, what):
  deadline = time.monotonic() + PATIENCE
  while True:
    value = condition()
    if value:
      return value
    if time.monotonic() > deadline:
      raise AssertionError(f"no {what}")
    time.sleep(0.02)


class Scrape:
  """What one GET of /metrics says."""

  def __init__(self, port):
    self.text = fetch(f"http://127.0.0.1:{port}/metrics")
    self.values = {}
    self.types = {}
    for line in self.text.splitlines():
      if line.startswith("#"):
        _, what, name, rest = line.split(" ", 3)
        if what == "TYPE":
          self.types[name] = rest
        continue
      name, labels, value = SAMPLE.match(line).groups()
      key = (name, frozenset(LABEL.findall(labels or "")))
      assert key not in self.values, f"twice: {line}"
      self.values[key] = float(value)

  def get(self, name, **labels):
    """0 for what is not there."""
    return self.values.get((name, frozenset(labels.items())), 0)

  def sum(self, name, **labels):
    """Over all series with at least these labels."""
    wanted = set(labels.items())
    return sum(value for (key, has), value in self.values.items()
               if key == name and wanted <= has)


def documented():
  """Name to (type, set of label names), of the tables of the README."""
  series = {}
  for line in CONTRACT.read_text().splitlines():
    if not line.startswith("| `"):
      continue
    names, kind, labels, _ = [cell.strip() for cell in line.split("|")[1:5]]
    kind = kind.split(",")[0]
    for name in re.findall(r"`([a-z_*{},]+)`", names):
      opened = re.match(r"(.*)\{(.*)\}(.*)", name)
      for part in opened.group(2).split(",") if opened else [None]:
        full = opened.group(1) + part + opened.group(3) if opened else name
        if "*" in full:
          continue
        if labels.startswith("the same"):
          own = previous | set(labels.split(", ")[1:])
        else:
          own = set(labels.split(", ")) - {""}
        series[full] = (kind, own)
    previous = own
  return series


class MetricsTest(unittest.TestCase):

  @classmethod
  def setUpClass(cls):
    for program in ("prometheus", "promtool"):
      if shutil.which(program) is None:
        raise AssertionError(
            f"{program} is not installed: deploy/install-deps test")
    cls.directory = pot_testing.temporary_directory()
    cls.repository = cls.directory / "models"
    pot_testing.make_long_model(cls.directory / "long", seed=1, width=320,
                                layers=5)
    for _ in range(2):
      pot_testing.quantize(cls.directory / "long", cls.repository, "long")
    pot_testing.quantize(TINY, cls.repository, "tiny", "--format", "f32")

  def start(self):
    metrics_port_file = self.directory / "metrics-port"
    self.server = pot_testing.Server(
        self.repository, "--metrics-listen", "127.0.0.1:0",
        "--metrics-port-file", metrics_port_file, "--max-waiting-tasks", 1,
        "--max-running-sequences", 16, "--log-format", "json").start()
    self.addCleanup(self.server.stop)
    self.metrics_port = int(metrics_port_file.read_text())
    self.worker_metrics_port = prometheus_testing.free_port()
    self.training = pb.training_grpc.TrainingServiceStub(self.server.channel)
    self.sent = collections.Counter()
    self.types = {}

  def scrape(self, port=None):
    scrape = Scrape(port or self.metrics_port)
    self.types.update(scrape.types)
    return scrape

  def call(self, method, request, *, code="OK", reason=None, **options):
    """A unary call, counted; the answer or the failure."""
    self.sent[method, code] += 1
    options.setdefault("timeout", PATIENCE)
    try:
      answer = getattr(self.server.inference, method)(request, **options)
      self.assertEqual("OK", code)
      return answer
    except grpc.RpcError as error:
      failure = RpcFailure(error)
      self.assertEqual((code, reason), (failure.code, failure.reason), failure)
      return failure

  def long_request(self, *, version=1, tokens=1000, **fields):
    return generate_request(ModelRef(name="long", version=version), "the",
                            max_new_tokens=tokens, ignore_eos=True, **fields)

  def stream(self, request, **options):
    return self.server.inference.GenerateStream(
        pb.inference.GenerateStreamRequest(request=request), **options)

  # --- The load -------------------------------------------------------------

  def make_calls(self):
    for i in range(5):
      self.call("Generate", self.long_request(tokens=20),
                metadata=[("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")]
                if i == 0 else [("traceparent", "00-not-a-trace-01")])
    for _ in range(2):
      self.sent["GenerateStream", "OK"] += 1
      for _ in self.stream(self.long_request(tokens=30)):
        pass
    self.call("Score", pb.inference.ScoreRequest(
        model=ModelRef(name="tiny"), text="the power of the other"))
    self.call("Tokenize", pb.inference.TokenizeRequest(
        model=ModelRef(name="tiny"), text="the"))
    self.sent["Perplexity", "OK"] += 1
    for _ in self.server.inference.Perplexity(pot_testing.perplexity_messages(
        pb.inference.PerplexityOptions(model=ModelRef(name="tiny")), TEXT)):
      pass

  def make_wrong_calls(self):
    for _ in range(2):
      self.call("Generate", generate_request("tiny", ""),
                code="INVALID_ARGUMENT", reason="EMPTY_PROMPT")
    for _ in range(3):
      self.call("Generate", generate_request("nobody", "the"),
                code="NOT_FOUND", reason="MODEL_NOT_FOUND")
    with self.assertRaises(grpc.RpcError) as unknown:
      self.server.channel.unary_unary("/pot.v1.Nothing/Nothing")(
          b"", timeout=PATIENCE)
    self.assertEqual("UNIMPLEMENTED", unknown.exception.code().name)
    # The 999 steps after the first token take longer: a quarter of the mean
    # time is less than the fastest, and enough for the refusal to come back.
    timings = self.call("Generate", self.long_request(tokens=20)).summary.timings
    step = timings.decode_seconds / 19
    self.call("Generate", self.long_request(), code="DEADLINE_EXCEEDED",
              reason="DEADLINE_INFEASIBLE", timeout=max(0.04, 999 * step / 4))

  def cancel_streams(self):
    """At least so many tokens are wasted."""
    read = 0
    for _ in range(2):
      call = self.stream(self.long_request())
      for _ in range(3):
        next(call)
        read += 1
      call.cancel()
      self.sent["GenerateStream", "CANCELLED"] += 1
    return read

  def overload(self):
    """A stream that nobody reads keeps all slots, one call waits for them."""
    occupant = self.stream(self.long_request(n=16, logprobs=20))
    next(occupant)
    wait_until(lambda: self.scrape().get("pot_sequences_parked") == 16,
               "parked sequences")
    self.sent["Generate", "OK"] += 1
    waiting = self.server.inference.Generate.future(
        self.long_request(tokens=3), timeout=PATIENCE)
    full = wait_until(
        lambda: next((scrape for scrape in [self.scrape()]
                      if scrape.get("pot_requests_waiting") == 1), None),
        "waiting request")
    self.assertEqual(1, full.get("pot_requests_running"))
    self.assertEqual(16, full.get("pot_sequences_running"))
    self.assertGreater(full.get("pot_kv_cache_usage_ratio"), 0)
    self.assertAlmostEqual(
        full.get("pot_kv_cache_bytes") / full.get("pot_kv_cache_capacity_bytes"),
        full.get("pot_kv_cache_usage_ratio"), places=5)
    for _ in range(2):
      self.call("Generate", self.long_request(tokens=3),
                code="RESOURCE_EXHAUSTED", reason="QUEUE_FULL")
    occupant.cancel()
    self.sent["GenerateStream", "CANCELLED"] += 1
    self.assertEqual(3, waiting.result().summary.usage.generated_tokens)

  def swap(self):
    for version in (1, 2):
      self.server.models.LoadModel(pb.model.LoadModelRequest(
          model=ModelRef(name="long", version=version)), timeout=PATIENCE)
      self.server.models.SetAlias(pb.model.SetAliasRequest(
          name="long", alias="live", version=version), timeout=PATIENCE)
    self.call("Generate", self.long_request(version=2, tokens=5))

  def train(self, prometheus):
    """A job from its submission to its publication, by a real worker."""
    data = TEXT.encode()
    stored = pb.training.DatasetHeader(
        name="text", sha256=pot_testing.hashlib.sha256(data).hexdigest(),
        size_bytes=len(data))
    self.training.UploadDataset(iter([
        pb.training.UploadDatasetRequest(header=stored),
        pb.training.UploadDatasetRequest(data=data)]), timeout=PATIENCE)
    spec = pb.qat_job.QatJobSpec(base=ModelRef(name="tiny", version=1))
    spec.data.datasets.sha256.append(stored.sha256)
    spec.quantization.format = "pot4"
    spec.schedule.steps = 100000
    spec.batch.sequences = 2
    spec.batch.context = 32
    spec.evaluation.every_steps = 30
    spec.evaluation.max_tokens = 500
    spec.gate.max_perplexity_ratio = 100
    job = self.training.SubmitQat(pb.training.SubmitQatRequest(spec=spec),
                                  timeout=PATIENCE).job.job_id
    self.assertEqual(1, self.scrape().get("pot_jobs", state="QUEUED"))
    worker = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", pot_testing.programs.trainer,
         "worker", "--server", f"127.0.0.1:{self.server.port}", "--threads",
         "1", "--name", "w", "--work-dir", self.directory / "work",
         "--metrics-listen", f"127.0.0.1:{self.worker_metrics_port}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    self.addCleanup(worker.wait)
    self.addCleanup(worker.send_signal, signal.SIGKILL)
    # Seen at work, it may end.
    wait_until(lambda: prometheus.value("pot_job_eta_seconds") is not None
               and prometheus.value("pot_job_val_perplexity") is not None
               and prometheus.value("pot_worker_job") == 1, "running job")
    self.scrape()
    self.scrape(self.worker_metrics_port)
    self.training.StopEarlyAndPublish(
        pb.training.StopEarlyAndPublishRequest(job_id=job), timeout=PATIENCE)
    wait_until(
        lambda: self.scrape().get("pot_jobs", state="SUCCEEDED") == 1,
        "job that succeeded")
    return self.training.GetJob(pb.training.GetJobRequest(job_id=job)).job

  # --- What is checked ------------------------------------------------------

  def check_values(self, scrape, job, cancelled_tokens):
    counted = collections.Counter()
    for (name, labels), value in scrape.values.items():
      if name == "pot_requests_total":
        labels = dict(labels)
        counted[labels["method"], labels["code"]] += int(value)
    self.assertEqual(self.sent, counted)
    for (method, code), count in self.sent.items():
      self.assertEqual(count, scrape.sum("grpc_server_handled_total",
                                         grpc_method=method, grpc_code=code))
    for method in {method for method, _ in self.sent}:
      self.assertEqual(
          scrape.sum("grpc_server_started_total", grpc_method=method),
          scrape.sum("grpc_server_handling_seconds_count", grpc_method=method))
    for reason, count in {"EMPTY_PROMPT": 2, "MODEL_NOT_FOUND": 3,
                          "QUEUE_FULL": 2, "DEADLINE_INFEASIBLE": 1,
                          "NOT_IMPLEMENTED": 1,
                          "DRAINING": 0}.items():
      self.assertEqual(count, scrape.get("pot_rejections_total",
                                         reason=reason), reason)

    self.assertEqual(1, scrape.get(
        "grpc_server_handled_total", grpc_type="unknown",
        grpc_service="unknown", grpc_method="unknown",
        grpc_code="UNIMPLEMENTED"))

    model = {"model": "long", "version": "1"}
    ended = 6 * 20 + 2 * 30 + 3
    wasted = scrape.get("pot_wasted_tokens_total", **model)
    self.assertGreaterEqual(wasted, cancelled_tokens + 1)
    self.assertEqual(ended + wasted,
                     scrape.get("pot_generated_tokens_total", **model))
    # 9 whole calls, 3 cancelled ones.
    self.assertEqual(12, scrape.get("pot_time_to_first_token_seconds_count",
                                    **model))
    self.assertGreaterEqual(
        scrape.get("pot_inter_token_latency_seconds_count", **model),
        6 * 19 + 2 * 29)
    self.assertEqual(3, scrape.get("pot_cancel_to_stop_seconds_count"))
    self.assertGreater(scrape.get("pot_batch_size_sum", phase="decode"),
                       ended / 2)
    self.assertEqual(5, scrape.get("pot_generated_tokens_total", model="long",
                                   version="2"))

    self.assertEqual(1, scrape.get("pot_model_swaps_total", model="long",
                                   alias="live"))
    self.assertEqual(2, scrape.get("pot_model_alias_version", model="long",
                                   alias="live"))
    for version in ("1", "2"):
      self.assertEqual(1, scrape.get("pot_model_state", model="long",
                                     version=version, state="AVAILABLE"))
      self.assertGreater(scrape.get("pot_model_resident_bytes", model="long",
                                    version=version), 1e6)
    self.assertEqual(1, scrape.get("pot_publish_total", result="published"))
    self.assertAlmostEqual(
        job.progress.step / 100000,
        scrape.get("pot_job_progress_ratio", job=job.job_id), places=4)
    perplexity = scrape.get("pot_model_eval_perplexity", model="tiny",
                            version="2")
    self.assertAlmostEqual(job.gate.checkpoint.perplexity, perplexity, places=3)
    resident = scrape.get("process_resident_memory_bytes")
    self.assertTrue(1e7 < resident < 1e11, resident)

  def check_lint(self, text):
    result = subprocess.run(["promtool", "check", "metrics"], input=text,
                            capture_output=True, text=True, timeout=PATIENCE,
                            check=False)
    self.assertEqual((0, "", ""),
                     (result.returncode, result.stdout, result.stderr))

  def check_contract(self, prometheus):
    """Names, types and labels, as Prometheus has stored them."""
    metadata = prometheus.get("metadata")
    for name, (kind, labels) in sorted(documented().items()):
      stored = name + "_bucket" if kind == "histogram" else name
      # What came last may be in the server's answer and not scraped yet.
      series = wait_until(
          lambda: prometheus.get("series", **{"match[]": stored}),
          f"{stored} in Prometheus")
      self.assertEqual(kind, self.types[name], name)
      # Prometheus forgets what was not there lately.
      if name in metadata:
        self.assertEqual({kind}, {one["type"] for one in metadata[name]}, name)
      for one in series:
        own = set(one) - {"__name__", "instance", "job", "exported_job", "le"}
        if "exported_job" in one:  # our label "job", beside Prometheus's own
          own.add("job")
        if name == "pot_requests_total" and "model" not in own:
          own |= {"model", "version"}
        self.assertEqual(labels, own, one)
    undocumented = {name for name in self.types if name.startswith(
        ("pot_", "grpc_", "process_"))} - set(documented())
    self.assertEqual(set(), undocumented)

  def check_log(self):
    lines = [json.loads(line) for line in self.server.log().splitlines()]
    requests = [line for line in lines if line["message"] == "request"]
    told = collections.Counter((line["method"], line["code"])
                               for line in requests)
    self.assertEqual(self.sent,
                     {key: told[key] for key in self.sent})
    self.assertEqual([TRACE], [line["trace_id"] for line in requests
                               if "trace_id" in line])
    whole = [line for line in requests
             if line["method"] == "Generate" and line["code"] == "OK"]
    for line in whole:
      self.assertRegex(line["request_id"], ".")
      self.assertRegex(line["sha256"], "^[0-9a-f]{64}$")
      self.assertGreater(int(line["generated_tokens"]), 0)
      self.assertGreater(float(line["total_seconds"]), 0)
      for key in ("prompt_tokens", "queue_seconds", "prefill_seconds",
                  "decode_seconds", "first_token_seconds"):
        self.assertIn(key, line)
    self.assertFalse([line for line in requests if "prompt" in line])

  def test_every_series_and_figure(self):
    self.start()
    prometheus = prometheus_testing.Prometheus(
        {"server": f"127.0.0.1:{self.metrics_port}",
         "trainer": f"127.0.0.1:{self.worker_metrics_port}"}, interval="200ms")
    self.addCleanup(prometheus.stop)
    prometheus.start()
    self.swap()
    self.make_calls()
    self.make_wrong_calls()
    cancelled_tokens = self.cancel_streams()
    self.overload()
    job = self.train(prometheus)
    wait_until(lambda: self.scrape().get("pot_requests_running") == 0,
               "end of cancelled calls")
    cancelled = sum(count for (_, code), count in self.sent.items()
                    if code == "CANCELLED")
    wait_until(lambda: self.scrape().sum(
        "grpc_server_handled_total", grpc_code="CANCELLED") == cancelled,
               "all cancelled calls")
    scrape = self.scrape()
    self.check_values(scrape, job, cancelled_tokens)
    self.check_lint(scrape.text)
    worker = self.scrape(self.worker_metrics_port)
    self.check_lint(worker.text)
    steps = worker.get("pot_worker_steps_total")
    self.assertGreaterEqual(steps, job.progress.step)
    self.assertEqual(steps * 2 * 32, worker.get("pot_worker_tokens_total"))
    self.assertEqual(1, worker.get("pot_worker_jobs_total", outcome="trained"))

    total = sum(self.sent.values())
    wait_until(
        lambda: prometheus.value("sum(pot_requests_total)") == total,
        "all requests in Prometheus")
    wait_until(
        lambda: prometheus.value("sum(pot_worker_jobs_total)") == 1,
        "the worker in Prometheus")
    self.check_contract(prometheus)
    self.check_log()

    # A version's series end with it.
    self.server.models.UnloadModel(pb.model.UnloadModelRequest(
        model=ModelRef(name="long", version=1)), timeout=PATIENCE)
    gone = {key for key in self.scrape().values
            if {("model", "long"), ("version", "1")} <= key[1]}
    self.assertEqual(set(), gone)

  def test_prompts_are_logged_when_asked_for(self):
    with pot_testing.Server(self.repository, "--log-prompts") as server:
      server.inference.Generate(
          generate_request("tiny", "a secret", max_new_tokens=2),
          timeout=PATIENCE)
      server.wait_until(lambda: 'prompt="a secret"' in server.log(),
                        "the prompt in the log")


if __name__ == "__main__":
  pot_testing.main()
