#!/usr/bin/python3
"""Trains jobs of a real server by real workers, and kills both on the way.

The exponents that come out must be those of a job that nothing disturbed,
byte for byte.

Usage: qat_worker_test.py --server POT_SERVER --trainer POT_TRAINER
"""

import hashlib
import os
import random
import signal
import socket
import subprocess
import time
import unittest

import pot_testing
from pot_testing import ModelRef
from pot_testing import PATIENCE
from pot_testing import TINY
from pot_testing import generate_request
from pot_testing import pb

STEPS = 240
EVALUATE_EVERY = 40
SNAPSHOT_EVERY = 20
TEXT = "".join(f"the power of {i * i} and the other, " for i in range(700))


class Worker:
  """pot-trainer worker, until it ends or is ended."""

  def __init__(self, port, work, *flags):
    self.work = work
    self.log_path = work.with_suffix(".log")
    with open(self.log_path, "ab") as log:
      self.process = subprocess.Popen(
          ["setpriv", "--pdeathsig", "KILL", "--", pot_testing.programs.trainer,
           "worker", "--server", f"127.0.0.1:{port}", "--work-dir", work,
           "--threads", "1", *flags],
          stdin=subprocess.DEVNULL, stdout=log, stderr=log)

  def log(self):
    return self.log_path.read_text(errors="replace")

  def snapshot(self):
    """The step of the newest one on its disk."""
    return max((int(path.parent.name.split("-")[1]) for path in
                self.work.glob("jobs/*/snapshots/step-*/snapshot.safetensors")),
               default=0)

  def wait_for_snapshot(self, step):
    deadline = time.monotonic() + PATIENCE
    while self.snapshot() < step:
      if self.process.poll() is not None or time.monotonic() > deadline:
        raise AssertionError(f"no snapshot of step {step}:\n{self.log()}")
      time.sleep(0.002)

  def end(self, number):
    """The exit status."""
    if self.process.poll() is None:
      os.kill(self.process.pid, number)
    return self.process.wait(timeout=PATIENCE)


def free_port():
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    return listener.getsockname()[1]


class QatWorkerTest(unittest.TestCase):

  def setUp(self):
    self.directory = pot_testing.temporary_directory()
    self.repository = self.directory / "models"
    pot_testing.quantize(TINY, self.repository, "tiny", "--format", "f32")
    self.worker_port = free_port()
    self.server = None
    self.start_server()

  def start_server(self):
    """With the same port for workers as before."""
    self.server = pot_testing.Server(
        self.repository, "--worker-listen",
        f"127.0.0.1:{self.worker_port}").start()
    self.addCleanup(self.server.stop)
    self.training = pb.training_grpc.TrainingServiceStub(self.server.channel)

  def start_worker(self, name, *flags):
    worker = Worker(self.worker_port, self.directory / name, *flags)
    self.addCleanup(worker.end, signal.SIGKILL)
    return worker

  def upload(self):
    data = TEXT.encode()
    sha256 = hashlib.sha256(data).hexdigest()
    self.training.UploadDataset(iter([
        pb.training.UploadDatasetRequest(header=pb.training.DatasetHeader(
            name="text", sha256=sha256, size_bytes=len(data))),
        pb.training.UploadDatasetRequest(data=data)]), timeout=PATIENCE)
    return sha256

  def spec(self, steps=STEPS):
    spec = pb.qat_job.QatJobSpec(base=ModelRef(name="tiny", version=1))
    spec.data.datasets.sha256.append(self.upload())
    spec.quantization.format = "pot4"
    spec.optimizer.learning_rate = 1e-3
    spec.schedule.steps = steps
    spec.batch.sequences = 4
    spec.batch.context = 32
    spec.distillation.SetInParent()
    spec.dropout = 0.1
    spec.seed = 5
    spec.evaluation.every_steps = EVALUATE_EVERY
    spec.evaluation.max_tokens = 1000
    spec.snapshots.every_steps = SNAPSHOT_EVERY
    return spec

  def submit(self, steps=STEPS):
    return self.submit_spec(self.spec(steps))

  def submit_spec(self, spec):
    return self.training.SubmitQat(
        pb.training.SubmitQatRequest(spec=spec), timeout=PATIENCE).job.job_id

  def job(self, job_id):
    return self.training.GetJob(pb.training.GetJobRequest(job_id=job_id),
                                timeout=PATIENCE).job

  def wait_for_state(self, job_id, state):
    final = {pb.qat_job.QAT_JOB_STATE_SUCCEEDED,
             pb.qat_job.QAT_JOB_STATE_FAILED,
             pb.qat_job.QAT_JOB_STATE_GATE_REJECTED,
             pb.qat_job.QAT_JOB_STATE_CANCELLED}
    deadline = time.monotonic() + PATIENCE
    while True:
      job = self.job(job_id)
      if job.state == state:
        return job
      if job.state in final or time.monotonic() > deadline:
        logs = "".join(path.read_text() for path in
                       self.directory.glob("*.log"))
        self.fail(f"{job}\n{logs[-6000:]}\n{self.server.log()[-3000:]}")
      time.sleep(0.05)

  def published(self, job_id):
    """The job when it is published, and the digest of its exponents."""
    job = self.wait_for_state(job_id, pb.qat_job.QAT_JOB_STATE_SUCCEEDED)
    path = (self.repository / "tiny" / str(job.published.version)
            / "model.pot.safetensors")
    return job, hashlib.sha256(path.read_bytes()).hexdigest()

  def events(self, job_id):
    return [message.event for message in self.training.WatchJob(
        pb.training.WatchJobRequest(job_id=job_id), timeout=PATIENCE)]

  def test_what_comes_out_does_not_depend_on_what_happens(self):
    undisturbed = self.submit()
    worker = self.start_worker("undisturbed", "--once")
    job, digest = self.published(undisturbed)
    self.assertEqual(0, worker.process.wait(timeout=PATIENCE), worker.log())
    self.assertEqual(1, job.attempts)
    self.assertTrue(job.gate.passed)
    self.assertLess(job.gate.checkpoint.perplexity,
                    job.gate.base.perplexity)
    events = self.events(undisturbed)
    evaluations = {event.evaluation.step: event.evaluation for event in events
                   if event.HasField("evaluation")}
    self.assertEqual(list(range(0, STEPS + 1, EVALUATE_EVERY)),
                     sorted(evaluations))
    # What the trainer measured is what the engine measures but for rounding;
    # the gate takes the same tokens.
    ours = evaluations[job.gate.checkpoint.step]
    self.assertEqual(job.gate.checkpoint.tokens, ours.tokens)
    self.assertAlmostEqual(job.gate.checkpoint.perplexity, ours.perplexity,
                           delta=1e-3 * ours.perplexity)
    self.assertAlmostEqual(job.gate.checkpoint.bits_per_byte,
                           ours.bits_per_byte,
                           delta=1e-3 * ours.bits_per_byte)
    # The new version serves, and nobody restarted anything.
    answer = self.server.inference.Generate(
        generate_request("tiny", "the power of ", temperature=0,
                         max_new_tokens=5), timeout=PATIENCE)
    self.assertEqual(job.published.version, answer.summary.model.version)
    self.assertEqual(2, answer.summary.model.version)

    # The worker dies twice, at any moment, and the server once.
    chance = random.Random(os.getpid())
    killed = self.submit()
    for step in (40, 100):
      worker = self.start_worker("killed")
      worker.wait_for_snapshot(step)
      time.sleep(chance.uniform(0, 0.05))
      self.assertEqual(-signal.SIGKILL, worker.end(signal.SIGKILL))
    worker = self.start_worker("killed")
    worker.wait_for_snapshot(140)
    self.server.signal(signal.SIGKILL)
    self.server.wait_for_exit()
    worker.wait_for_snapshot(180)
    self.start_server()
    job, digest_of_killed = self.published(killed)
    self.assertEqual(digest, digest_of_killed, worker.log())
    self.assertEqual(3, job.attempts)
    self.assertIn("going on at step", worker.log())
    # Some evaluations may be told twice, but none is missing.
    steps = {event.evaluation.step for event in self.events(killed)
             if event.HasField("evaluation")}
    self.assertEqual(set(range(0, STEPS + 1, EVALUATE_EVERY)), steps)
    self.assertEqual(0, worker.end(signal.SIGTERM), worker.log())

    # A worker is told to go; another one, elsewhere, goes on.
    stopped = self.submit()
    worker = self.start_worker("stopped")
    worker.wait_for_snapshot(100)
    self.assertEqual(0, worker.end(signal.SIGTERM), worker.log())
    self.assertEqual(pb.qat_job.QAT_JOB_STATE_QUEUED, self.job(stopped).state)
    worker = self.start_worker("another", "--once")
    _, digest_of_stopped = self.published(stopped)
    self.assertEqual(digest, digest_of_stopped)
    self.assertIn("from the server's snapshot", worker.log())

  def divergence_from_teacher(self, version):
    """Mean KL(teacher || version) over the text, nats."""
    options = pb.inference.PerplexityOptions(
        model=ModelRef(name="tiny", version=version),
        reference=ModelRef(name="teacher"), window=32)
    answers = self.server.inference.Perplexity(iter([
        pb.inference.PerplexityRequest(options=options),
        pb.inference.PerplexityRequest(text=TEXT[:4000].encode())]),
                                               timeout=PATIENCE)
    return [answer.result.comparison.mean_kl_nats for answer in answers
            if answer.HasField("result")].pop()

  def test_another_model_teaches(self):
    """One with more layers, and nothing else to learn from."""
    self.server.stop()
    source = self.directory / "teacher-source"
    pot_testing.make_long_model(source, seed=7, positions=64, width=64,
                                layers=3)
    pot_testing.quantize(source, self.repository, "teacher", "--format", "f32")
    self.start_server()
    spec = self.spec(steps=80)
    spec.distillation.teacher.name = "teacher"
    spec.loss.cross_entropy_weight = 0
    job_id = self.submit_spec(spec)
    worker = self.start_worker("pupil", "--once")
    job, _ = self.published(job_id)
    self.assertEqual(0, worker.process.wait(timeout=PATIENCE), worker.log())
    before = self.divergence_from_teacher(1)
    after = self.divergence_from_teacher(job.published.version)
    self.assertLess(after, 0.5 * before)

  def test_directives_reach_the_worker(self):
    worker = self.start_worker("worker")
    job_id = self.submit(steps=1000000)
    worker.wait_for_snapshot(SNAPSHOT_EVERY)
    self.training.PauseJob(pb.training.PauseJobRequest(job_id=job_id),
                           timeout=PATIENCE)
    self.wait_for_state(job_id, pb.qat_job.QAT_JOB_STATE_PAUSED)
    self.training.ResumeJob(pb.training.ResumeJobRequest(job_id=job_id),
                            timeout=PATIENCE)
    self.wait_for_state(job_id, pb.qat_job.QAT_JOB_STATE_RUNNING)
    self.training.StopEarlyAndPublish(
        pb.training.StopEarlyAndPublishRequest(job_id=job_id),
        timeout=PATIENCE)
    job = self.wait_for_state(job_id, pb.qat_job.QAT_JOB_STATE_SUCCEEDED)
    self.assertEqual(2, job.attempts)
    self.assertEqual(2, job.published.version)

    job_id = self.submit(steps=1000000)
    self.wait_for_state(job_id, pb.qat_job.QAT_JOB_STATE_RUNNING)
    self.training.CancelJob(pb.training.CancelJobRequest(job_id=job_id),
                            timeout=PATIENCE)
    self.wait_for_state(job_id, pb.qat_job.QAT_JOB_STATE_CANCELLED)
    self.assertEqual(0, worker.end(signal.SIGTERM), worker.log())

  def test_the_server_is_told_to_go_and_no_job_is_lost(self):
    worker = self.start_worker("worker")
    running = self.submit(steps=1000000)
    waiting = self.submit(steps=1000000)
    worker.wait_for_snapshot(SNAPSHOT_EVERY)
    self.server.signal(signal.SIGTERM)
    self.assertEqual(0, self.server.wait_for_exit())
    step = worker.snapshot()
    self.start_server()
    self.assertEqual(pb.qat_job.QAT_JOB_STATE_QUEUED, self.job(waiting).state)
    # The worker goes on where it is, whoever holds the lease by now.
    worker.wait_for_snapshot(step + 2 * SNAPSHOT_EVERY)
    self.wait_for_state(running, pb.qat_job.QAT_JOB_STATE_RUNNING)
    self.assertEqual(0, worker.end(signal.SIGTERM), worker.log())
    for job_id in (running, waiting):
      self.assertEqual(pb.qat_job.QAT_JOB_STATE_QUEUED,
                       self.job(job_id).state)

  def test_a_second_worker_in_the_same_directory_is_refused(self):
    worker = self.start_worker("worker")
    deadline = time.monotonic() + PATIENCE
    while "bytes of memory" not in worker.log():
      self.assertLess(time.monotonic(), deadline, worker.log())
      time.sleep(0.02)
    second = subprocess.run(
        [pot_testing.programs.trainer, "worker", "--server",
         f"127.0.0.1:{self.worker_port}", "--work-dir", worker.work],
        capture_output=True, text=True, timeout=PATIENCE, check=False)
    self.assertEqual(8, second.returncode)
    self.assertIn(f"process {worker.process.pid}", second.stderr)
    self.assertEqual(0, worker.end(signal.SIGTERM), worker.log())


if __name__ == "__main__":
  pot_testing.main()
