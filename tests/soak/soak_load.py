"""The calls of the soak, and what each must answer.

Every answer names the version that it used, and is compared bit by bit with
what that version answered at the beginning, alone.
"""

import collections
import os
import random
import signal
import subprocess
import threading

import grpc
import pot_testing
from pot_testing import ModelRef
from pot_testing import PATIENCE
from pot_testing import RpcFailure
from pot_testing import Streamed
from pot_testing import TINY
from pot_testing import generate_request
from pot_testing import pb

CALLERS = 6
VERSIONS = (2, 3)  # quantized, so bitwise the same in any company
SWAP_SECONDS = 2
JOB_PAUSE_SECONDS = 20
KINDS = ("generate", "stream", "perplexity", "score", "cancel", "deadline",
         "bad request", "swap", "job")
TEXTS = [f"{name}:\nWhat {verb} thou, {other}?\n" * 40
         for name, verb, other in (("ROMEO", "say'st", "nurse"),
                                   ("KING", "wilt", "my lord"),
                                   ("First Citizen", "know'st", "Marcius"))]
TRAINING_TEXT = "".join(f"the power of {i * i} and the other, "
                        for i in range(700))


def make_repository(directory):
  repository = directory / "models"
  repository.mkdir()
  pot_testing.copy_characters(repository)
  pot_testing.quantize(TINY, repository, "tiny", "--format", "f32")
  return repository


class Worker:
  """pot-trainer worker at a low priority."""

  def __init__(self, port, work):
    self.log_path = work.with_suffix(".log")
    with open(self.log_path, "ab") as log:
      self.process = subprocess.Popen(
          ["nice", "-n", "5", "setpriv", "--pdeathsig", "KILL", "--",
           pot_testing.programs.trainer, "worker", "--server",
           f"127.0.0.1:{port}", "--work-dir", work, "--threads", "1"],
          stdin=subprocess.DEVNULL, stdout=log, stderr=log)

  def end(self):
    if self.process.poll() is None:
      os.kill(self.process.pid, signal.SIGTERM)
    self.process.wait(timeout=PATIENCE)


def make_requests():
  """Greedy and sampled ones, of different lengths."""
  requests = []
  for i in range(24):
    prompt = TEXTS[i % len(TEXTS)][i:i + 4 + i]
    sampling = ({"temperature": 0} if i % 2 else
                {"temperature": 0.9, "top_k": 10, "seed": i})
    requests.append(generate_request(
        "characters", prompt, max_new_tokens=4 + i, return_token_ids=True,
        ignore_eos=True, **sampling))
  return requests


def bad_calls(server):
  """(call, the code that it must end with)."""
  request = lambda *arguments, **fields: lambda: server.inference.Generate(
      generate_request(*arguments, **fields), timeout=PATIENCE)
  perplexity = lambda options, *text: lambda: list(server.inference.Perplexity(
      pot_testing.perplexity_messages(options, *text), timeout=PATIENCE))
  options = pb.inference.PerplexityOptions(model=ModelRef(name="characters"))
  return [
      (request("characters", ""), "INVALID_ARGUMENT"),
      (request("nobody", "x"), "NOT_FOUND"),
      (request(ModelRef(name="characters", version=99), "x"), "NOT_FOUND"),
      (request("characters", "x" * 500, max_new_tokens=10),
       "INVALID_ARGUMENT"),
      (request("characters", [10 ** 6]), "INVALID_ARGUMENT"),
      (request("characters", "x", temperature=-1), "INVALID_ARGUMENT"),
      (request("characters", "x", top_p=float("nan")), "INVALID_ARGUMENT"),
      (request("characters", "x", max_new_tokens=0), "INVALID_ARGUMENT"),
      (perplexity(options, b"\xff\xfe"), "INVALID_ARGUMENT"),
      (perplexity(options, "x"), "INVALID_ARGUMENT"),
      (lambda: server.models.LoadModel(pb.model.LoadModelRequest(
          model=ModelRef(name="../../etc")), timeout=PATIENCE),
       "INVALID_ARGUMENT"),
  ]


class Soak:
  """One run against `server`. Its methods that take `stop` run beside each
  other until that is set; what they find wrong is in `wrong`."""

  def __init__(self, server, worker):
    self.server = server
    self.worker = worker
    self.training = pb.training_grpc.TrainingServiceStub(server.channel)
    self.requests = make_requests()
    self.bad_calls = bad_calls(server)
    self.answers = {}  # (kind, version, index): what is to come
    self.counts = collections.Counter()
    self.compared = 0
    self.wrong = []

  # --- What is right -------------------------------------------------------

  def model(self, version=None):
    return (ModelRef(name="characters", version=version) if version
            else ModelRef(name="characters"))

  def generate(self, index, version=None):
    """(version that answered, token ids and text)."""
    request = pb.inference.GenerateRequest()
    request.CopyFrom(self.requests[index])
    request.model.CopyFrom(self.model(version))
    answer = self.server.inference.Generate(request, timeout=PATIENCE)
    sequence = answer.sequences[0]
    return (answer.summary.model.version,
            (tuple(sequence.token_ids), sequence.text))

  def perplexity(self, index, version=None):
    options = pb.inference.PerplexityOptions(model=self.model(version))
    result = list(self.server.inference.Perplexity(
        pot_testing.perplexity_messages(options, TEXTS[index]),
        timeout=PATIENCE))[-1].result
    return result.model.version, (result.tokens, result.total_nats)

  def score(self, index, version=None):
    answer = self.server.inference.Score(
        pb.inference.ScoreRequest(model=self.model(version),
                                  text=TEXTS[index][:40]), timeout=PATIENCE)
    return answer.model.version, (answer.scores[0].total_logprob,)

  def learn_answers(self):
    for version in VERSIONS:
      self.load(version)
      for name, call, count in (("generate", self.generate,
                                 len(self.requests)),
                                ("perplexity", self.perplexity, len(TEXTS)),
                                ("score", self.score, len(TEXTS))):
        for index in range(count):
          answered_by, answer = call(index, version)
          assert answered_by == version
          self.answers[name, version, index] = answer
    # Or nothing would tell the two apart.
    assert all(self.answers["perplexity", 2, i]
               != self.answers["perplexity", 3, i] for i in range(len(TEXTS)))
    self.point_to(VERSIONS[0], 0)
    self.unload(VERSIONS[1])

  def compare(self, name, index, version, answer):
    self.compared += 1
    if self.answers.get((name, version, index)) != answer:
      self.wrong.append(f"{name} {index} of version {version}: {answer}")

  # --- Calls ---------------------------------------------------------------

  def mixed_calls(self, stop, seed):
    chance = random.Random(seed)
    calls = ((self.call_generate, 6), (self.call_stream, 6),
             (self.call_perplexity, 1), (self.call_score, 2),
             (self.call_cancelled, 2), (self.call_with_deadline, 1),
             (self.call_wrongly, 2))
    methods, weights = zip(*calls)
    while not stop.is_set() and self.server.is_running():
      try:
        chance.choices(methods, weights)[0](chance)
      except Exception as error:  # whatever it is, it is a finding
        self.wrong.append(repr(error)[:500])
        if len(self.wrong) > 1000:
          return
        stop.wait(0.1)

  def call_generate(self, chance):
    index = chance.randrange(len(self.requests))
    self.compare("generate", index, *self.generate(index))
    self.counts["generate"] += 1

  def call_stream(self, chance):
    index = chance.randrange(len(self.requests))
    ids = []

    def events():
      for message in pot_testing.stream(self.server, self.requests[index]):
        ids.extend(message.chunk.token_ids)
        yield message

    streamed = Streamed(events())
    self.compare("generate", index, streamed.summary.model.version,
                 (tuple(ids), streamed.text))
    self.counts["stream"] += 1

  def call_perplexity(self, chance):
    index = chance.randrange(len(TEXTS))
    self.compare("perplexity", index, *self.perplexity(index))
    self.counts["perplexity"] += 1

  def call_score(self, chance):
    index = chance.randrange(len(TEXTS))
    self.compare("score", index, *self.score(index))
    self.counts["score"] += 1

  def call_cancelled(self, chance):
    call = pot_testing.stream(self.server, chance.choice(self.requests))
    for _ in range(chance.randrange(3)):
      next(call, None)
    call.cancel()
    self.counts["cancel"] += 1

  def call_with_deadline(self, chance):
    try:
      self.server.inference.Generate(
          chance.choice(self.requests), timeout=chance.uniform(0.0005, 0.01))
    except grpc.RpcError as error:
      if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
        raise
    self.counts["deadline"] += 1

  def call_wrongly(self, chance):
    call, code = chance.choice(self.bad_calls)
    try:
      call()
    except grpc.RpcError as error:
      failure = RpcFailure(error)
      if failure.code != code:
        self.wrong.append(f"{failure} where {code} was due")
    else:
      self.wrong.append(f"an answer where {code} was due")
    self.counts["bad request"] += 1

  # --- Versions ------------------------------------------------------------

  def load(self, version, name="characters"):
    self.server.models.LoadModel(
        pb.model.LoadModelRequest(model=ModelRef(name=name, version=version)),
        timeout=PATIENCE)

  def unload(self, version, name="characters"):
    self.server.models.UnloadModel(
        pb.model.UnloadModelRequest(model=ModelRef(name=name,
                                                   version=version)),
        timeout=PATIENCE)

  def point_to(self, version, expected, name="characters"):
    self.server.models.SetAlias(
        pb.model.SetAliasRequest(name=name, alias="default", version=version,
                                 expected_version=expected), timeout=PATIENCE)

  def swap(self, stop):
    old, new = VERSIONS
    while not stop.wait(SWAP_SECONDS) and self.server.is_running():
      try:
        self.load(new)
        self.point_to(new, old)
        self.unload(old)
        old, new = new, old
        self.counts["swap"] += 1
      except grpc.RpcError as error:
        self.wrong.append(f"swap: {RpcFailure(error)}")

  def unload_all(self):
    for version in self.server.models.ListModels(
        pb.model.ListModelsRequest(), timeout=PATIENCE).versions:
      if version.state == pb.model.MODEL_VERSION_STATE_AVAILABLE:
        self.unload(version.version, version.name)

  # --- Training ------------------------------------------------------------

  def train(self, stop):
    """A job after the other; what it published is deleted again."""
    while not stop.is_set() and self.server.is_running():
      try:
        self.train_once(stop)
      except Exception as error:
        self.wrong.append(f"job: {repr(error)[:500]}")
      stop.wait(JOB_PAUSE_SECONDS)

  def submit(self):
    data = TRAINING_TEXT.encode()
    sha256 = pot_testing.hashlib.sha256(data).hexdigest()
    self.training.UploadDataset(iter([
        pb.training.UploadDatasetRequest(header=pb.training.DatasetHeader(
            name="text", sha256=sha256, size_bytes=len(data))),
        pb.training.UploadDatasetRequest(data=data)]), timeout=PATIENCE)
    spec = pb.qat_job.QatJobSpec(base=ModelRef(name="tiny", version=1))
    spec.data.datasets.sha256.append(sha256)
    spec.quantization.format = "pot4"
    spec.optimizer.learning_rate = 1e-3
    spec.schedule.steps = 100
    spec.batch.sequences = 4
    spec.batch.context = 32
    spec.evaluation.every_steps = 50
    spec.evaluation.max_tokens = 1000
    return self.training.SubmitQat(
        pb.training.SubmitQatRequest(spec=spec), timeout=PATIENCE).job.job_id

  def wait_for_job(self, job_id, stop):
    """The job in its last state, or None when `stop` is set before."""
    while not stop.wait(0.2):
      job = self.training.GetJob(pb.training.GetJobRequest(job_id=job_id),
                                 timeout=PATIENCE).job
      if job.state >= pb.qat_job.QAT_JOB_STATE_SUCCEEDED:
        return job
    return None

  def cancel_job(self, job_id):
    self.training.CancelJob(pb.training.CancelJobRequest(job_id=job_id),
                            timeout=PATIENCE)

  def delete_job(self, job_id):
    self.training.DeleteJob(pb.training.DeleteJobRequest(job_id=job_id),
                            timeout=PATIENCE)

  def submit_and_cancel(self):
    job_id = self.submit()
    self.cancel_job(job_id)
    self.wait_for_job(job_id, threading.Event())
    self.delete_job(job_id)

  def train_once(self, stop):
    job_id = self.submit()
    job = self.wait_for_job(job_id, stop)
    if job is None:
      self.cancel_job(job_id)
      return
    if job.state != pb.qat_job.QAT_JOB_STATE_SUCCEEDED:
      self.wrong.append(f"job: state {job.state}, {job.state_message}")
      return
    self.point_to(1, job.published.version, "tiny")
    self.unload(job.published.version, "tiny")
    self.server.models.DeleteVersion(
        pb.model.DeleteVersionRequest(
            name="tiny", version=job.published.version), timeout=PATIENCE)
    self.delete_job(job_id)
    self.counts["job"] += 1
