#!/usr/bin/python3
"""Runs every PromQL expression of the dashboards and the alert rules.

A real Prometheus scrapes a real server and worker under a little of every load
that the expressions are about: generations, a text's perplexity, mistakes, a
cancelled stream, a training job whose version is published, a broken version,
a moved alias, a server that drains. Then each expression must be valid and find
a number; tests/deploy/expressions.py says what that means for alerts.

Usage: promql_test.py --server POT_SERVER --trainer POT_TRAINER
"""

import hashlib
import pathlib
import shutil
import signal
import sys
import time
import unittest

import grpc

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "system"))

# pylint: disable=wrong-import-position
import expressions
import pot_testing
import prometheus_testing
import qat_worker_test
from pot_testing import ModelRef
from pot_testing import PATIENCE
from pot_testing import generate_request
from pot_testing import pb
from pot_testing import stream
from prometheus_testing import promtool

TEXT = "".join(f"the power of {i * i} and the other, " for i in range(300))


def make_repository(root):
  """Two models, one of which has a version that cannot be loaded."""
  pot_testing.copy_characters(root)
  pot_testing.quantize(pot_testing.TINY, root, "tiny", "--format", "f32")
  shutil.copytree(root / "tiny" / "1", root / "tiny" / "2")
  with open(root / "tiny" / "2" / "model.safetensors", "r+b") as file:
    file.seek(-4, 2)
    file.write(b"\x01\x02\x03\x04")


def refused(call):
  try:
    call()
  except grpc.RpcError as error:
    return error.code().name
  return "OK"


class Load:
  """What a server and a worker can be asked for, in seconds."""

  def __init__(self, server):
    self.server = server
    self.training = pb.training_grpc.TrainingServiceStub(server.channel)

  def submit_job(self, *, base=ModelRef(name="tiny", version=1), text=TEXT,
                 steps=36):
    data = text.encode()
    sha256 = hashlib.sha256(data).hexdigest()
    self.training.UploadDataset(iter([
        pb.training.UploadDatasetRequest(header=pb.training.DatasetHeader(
            name="text", sha256=sha256, size_bytes=len(data))),
        pb.training.UploadDatasetRequest(data=data)]), timeout=PATIENCE)
    spec = pb.qat_job.QatJobSpec(base=base)
    spec.data.datasets.sha256.append(sha256)
    spec.quantization.format = "pot4"
    spec.schedule.steps = steps
    spec.batch.sequences = 4
    spec.batch.context = 32
    spec.evaluation.every_steps = steps // 6
    spec.evaluation.max_tokens = 500
    return self.training.SubmitQat(
        pb.training.SubmitQatRequest(spec=spec), timeout=PATIENCE).job.job_id

  def job_has_ended(self, job_id):
    job = self.training.GetJob(pb.training.GetJobRequest(job_id=job_id),
                               timeout=PATIENCE).job
    state = pb.qat_job.QatJobState.Name(job.state)
    if state in ("QAT_JOB_STATE_FAILED", "QAT_JOB_STATE_CANCELLED",
                 "QAT_JOB_STATE_GATE_REJECTED"):
      raise AssertionError(f"{job}\n{self.server.log()[-3000:]}")
    return state == "QAT_JOB_STATE_SUCCEEDED"

  def generate(self):
    for i in range(3):
      self.server.inference.Generate(
          generate_request("characters", "ROMEO:\nBut soft, ",
                           temperature=0.8, seed=i, max_new_tokens=24),
          timeout=PATIENCE)
    self.server.inference.Score(pb.inference.ScoreRequest(
        model=ModelRef(name="tiny", version=1), text="the power of"),
                                timeout=PATIENCE)

  def perplexity(self):
    options = pb.inference.PerplexityOptions(
        model=ModelRef(name="tiny", version=1))
    for _ in self.server.inference.Perplexity(
        pot_testing.perplexity_messages(options, TEXT[:2000]),
        timeout=PATIENCE):
      pass

  def cancel_streams(self):
    """Some in time, at least: there is more to come after the first chunk."""
    for _ in range(4):
      call = stream(self.server, generate_request(
          "characters", "ROMEO:", ignore_eos=True, max_new_tokens=50,
          temperature=0.9, n=16))
      next(call)
      call.cancel()

  def mistakes(self):
    """Codes of calls that no server should take."""
    inference = self.server.inference
    return [
        refused(lambda: inference.Generate(
            generate_request("tiny", "a", temperature=-1), timeout=PATIENCE)),
        refused(lambda: inference.Generate(
            generate_request("nobody", "a"), timeout=PATIENCE)),
        refused(lambda: inference.Generate(
            generate_request("characters", "ROMEO:", n=16, max_new_tokens=50),
            timeout=0.005)),
    ]

  def load_models(self):
    for name, version in (("tiny", 1), ("characters", 1), ("characters", 2),
                          ("characters", 3)):
      self.server.models.LoadModel(pb.model.LoadModelRequest(
          model=ModelRef(name=name, version=version)), timeout=PATIENCE)

  def move_alias(self, version):
    self.server.models.SetAlias(pb.model.SetAliasRequest(
        name="characters", alias="default", version=version),
                                timeout=PATIENCE)


class PromqlTest(unittest.TestCase):

  @classmethod
  def setUpClass(cls):
    prometheus_testing.require("prometheus", "promtool")

  def test_dashboards_are_what_their_source_says(self):
    script = expressions.DEPLOY / "grafana" / "dashboards.py"
    module = {"__file__": str(script), "__name__": "dashboards"}
    exec(compile(script.read_text(), str(script), "exec"), module)
    out = pot_testing.temporary_directory()
    module["OUT"] = out
    module["main"]()
    written = {path.name: path.read_text() for path in out.glob("*.json")}
    kept = {path.name: path.read_text() for path in expressions.DASHBOARDS}
    self.assertEqual({"slo.json", "engine.json", "training.json",
                      "clients.json"}, set(kept))
    for name, text in kept.items():
      self.assertEqual(written[name], text,
                       f"{name}: run deploy/grafana/dashboards.py")

  def test_alerts_fire_on_what_they_are_about(self):
    promtool("check", "config",
             expressions.DEPLOY / "prometheus" / "prometheus.yaml")
    promtool("check", "rules", expressions.ALERTS)
    tests = expressions.ALERTS.with_name("alerts_test.yaml")
    promtool("test", "rules", tests)
    text = tests.read_text()
    for alert, _ in expressions.of_alerts():
      self.assertIn(f"runbook: deploy/README.md#{alert.lower()}", text,
                    f"{alert} never fires in {tests.name}")

  def test_every_alert_has_a_runbook(self):
    headings = [line.strip("# \n") for line in
                (expressions.DEPLOY / "README.md").read_text().splitlines()
                if line.startswith("#")]
    for alert, _ in expressions.of_alerts():
      self.assertIn(alert, headings)

  def test_operands(self):
    self.assertEqual(
        ["rate(a[5m])", "b{c='x > y'}", "up"],
        expressions.operands(
            "(rate(a[5m]) > 3 and on (i) b{c='x > y'} == 0) or absent(up)"))
    self.assertEqual(["sum(a)"],
                     expressions.operands("(sum(a) or vector(0))"))

  def test_every_expression_finds_something(self):
    directory = pot_testing.temporary_directory()
    make_repository(directory / "models")
    metrics_port, worker_port, trainer_port = (
        prometheus_testing.free_port() for _ in range(3))
    server = pot_testing.Server(
        directory / "models", "--metrics-listen", f"127.0.0.1:{metrics_port}",
        "--worker-listen", f"127.0.0.1:{worker_port}").start()
    self.addCleanup(server.stop)
    worker = qat_worker_test.Worker(
        worker_port, directory / "work", "--metrics-listen",
        f"127.0.0.1:{trainer_port}")
    self.addCleanup(worker.end, signal.SIGKILL)
    with prometheus_testing.Prometheus(
        {"pot-server": f"127.0.0.1:{metrics_port}",
         "pot-trainer": f"127.0.0.1:{trainer_port}"},
        rules=[expressions.ALERTS]) as prometheus:
      prometheus.wait_for_targets()
      begin = time.time()
      self.load(server, prometheus)
      self.check_expressions(prometheus, begin)

  def load(self, server, prometheus):
    load = Load(server)
    load.load_models()
    load.move_alias(1)
    job_id = load.submit_job()
    # Rates need points before and after: everything happens twice to each
    # version, with scrapes between.
    for version in (2, 3):
      for _ in range(2):
        load.generate()
        load.perplexity()
        load.cancel_streams()
        codes = load.mistakes()
        self.assertEqual(["INVALID_ARGUMENT", "NOT_FOUND"], codes[:2])
        time.sleep(0.6)
      load.move_alias(version)
    server.wait_until(lambda: load.job_has_ended(job_id), "the job's end")
    load.generate()
    # A stream that waits for its client holds the drain up.
    held = server.inference.Perplexity(iter_until_cancelled(), timeout=PATIENCE)
    time.sleep(0.2)
    server.signal(signal.SIGTERM)
    server.wait_until(lambda: server.health() == "NOT_SERVING", "NOT_SERVING")
    for _ in range(2):
      self.assertEqual("UNAVAILABLE", refused(load.generate))
      time.sleep(0.6)
    held.cancel()

  def check_expressions(self, prometheus, begin):
    wrong = []
    checked = 0
    places = [(place, expression)
              for place, whole in expressions.of_dashboards()
              for expression in {whole, *expressions.operands(whole)}]
    places += [(f"alert {alert}", expression)
               for alert, whole in expressions.of_alerts()
               for expression in expressions.operands(whole)]
    for place, expression in places:
      checked += 1
      try:
        series = prometheus.query_range(expression, begin, time.time())
      except AssertionError as error:
        wrong.append(f"{place}: {error}")
        continue
      if not any(value not in ("NaN", "+Inf", "-Inf")
                 for one in series for _, value in one["values"]):
        wrong.append(f"{place}: empty: {expression}")
    for _, whole in expressions.of_alerts():
      prometheus.query(whole)
    self.assertGreater(checked, 100)
    self.assertEqual([], wrong, "\n" + "\n".join(wrong))


def iter_until_cancelled():
  options = pb.inference.PerplexityOptions(
      model=ModelRef(name="tiny", version=1))
  yield pb.inference.PerplexityRequest(options=options)
  time.sleep(PATIENCE)


if __name__ == "__main__":
  pot_testing.main()
