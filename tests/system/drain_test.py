#!/usr/bin/python3
"""How pot-server ends: signals under load and at rest, and a crash.

Streams are kept running by not reading them: a stream that nobody reads parks
its sequence, so that nothing here depends on how fast anything is.

Usage: drain_test.py --server POT_SERVER --trainer POT_TRAINER
"""

import shutil
import signal
import threading
import unittest

import grpc

import pot_testing
from pot_testing import ModelRef
from pot_testing import PATIENCE
from pot_testing import RpcFailure
from pot_testing import generate_request
from pot_testing import pb
from pot_testing import stream

# As many as the server computes together.
STREAMS = 32
TOKENS = 450


def long_request(index=0):
  # The alternatives make an answer of some 125 kB, twice the window; the server
  # itself keeps 64 messages, some 18 kB.
  return generate_request("long", f"stream {index} ", temperature=0.9,
                          seed=index, logprobs=20, ignore_eos=True,
                          max_new_tokens=TOKENS)


def parse_message(data):
  return pb.inference.GenerateStreamResponse.FromString(data)


class DrainTest(unittest.TestCase):

  @classmethod
  def setUpClass(cls):
    cls.dir = pot_testing.temporary_directory()
    cls.repository = cls.dir / "models"
    cls.imports = cls.dir / "imports"
    pot_testing.make_long_model(cls.imports / "long", seed=1)
    pot_testing.quantize(cls.imports / "long", cls.repository, "long")
    # The test's repository as every case finds it.
    cls.pristine = pot_testing.tree_of(cls.repository)

  def server(self, *flags, wait=True, aborted=False):
    server = pot_testing.Server(self.repository, *flags).start(wait=wait)
    self.addCleanup(server.stop, aborted=aborted)
    return server

  def parked_streams(self, server, count=STREAMS):
    """Streams whose first chunk has come; each on its own connection."""
    calls = []
    for index in range(count):
      channel = server.new_channel()
      self.addCleanup(channel.close)
      # Bytes: only the last message is of interest.
      open_stream = channel.unary_stream(
          "/pot.v1.InferenceService/GenerateStream",
          request_serializer=(
              pb.inference.GenerateStreamRequest.SerializeToString))
      calls.append(open_stream(
          pb.inference.GenerateStreamRequest(request=long_request(index)),
          timeout=PATIENCE))
    for call in calls:
      self.assertTrue(parse_message(next(call)).HasField("chunk"))
    return calls

  def begin_drain(self, server):
    server.signal(signal.SIGTERM)
    server.wait_until(lambda: server.health() == "NOT_SERVING", "NOT_SERVING")

  def test_streams_finish_and_new_calls_are_refused(self):
    server = self.server("--drain-timeout", "10m")
    calls = self.parked_streams(server)
    self.begin_drain(server)
    for service in ("pot.v1.InferenceService", "pot.v1.ModelService",
                    "pot.model.long"):
      self.assertEqual("NOT_SERVING", server.health(service), service)
    newcomers = {
        "Generate": lambda: server.inference.Generate(long_request(),
                                                      timeout=PATIENCE),
        "GenerateStream": lambda: next(stream(server, long_request())),
        "Tokenize": lambda: server.inference.Tokenize(
            pb.inference.TokenizeRequest(model=ModelRef(name="long")),
            timeout=PATIENCE),
        "Score": lambda: server.inference.Score(
            pb.inference.ScoreRequest(model=ModelRef(name="long"), text="ab"),
            timeout=PATIENCE),
        "Perplexity": lambda: list(server.inference.Perplexity(
            pot_testing.perplexity_messages(
                pb.inference.PerplexityOptions(model=ModelRef(name="long")),
                "text"), timeout=PATIENCE)),
        "LoadModel": lambda: server.models.LoadModel(
            pb.model.LoadModelRequest(model=ModelRef(name="long")),
            timeout=PATIENCE),
    }
    for name, call in newcomers.items():
      with self.subTest(name):
        with self.assertRaises(grpc.RpcError) as caught:
          call()
        failure = RpcFailure(caught.exception)
        self.assertEqual(("UNAVAILABLE", "DRAINING"),
                         (failure.code, failure.reason), failure)
        self.assertGreater(failure.retry_seconds or 0, 0, failure)
    self.assertTrue(server.is_running())

    results = [None] * STREAMS

    def read(index):
      results[index] = parse_message(list(calls[index])[-1])

    readers = [threading.Thread(target=read, args=(index,))
               for index in range(STREAMS)]
    for reader in readers:
      reader.start()
    for reader in readers:
      reader.join(PATIENCE)
    for result in results:
      self.assertIsNotNone(result, "a stream was cut off")
      self.assertEqual(TOKENS, result.summary.usage.generated_tokens)
    self.assertEqual(0, server.wait_for_exit())

  def test_drain_timeout_cuts_what_still_runs(self):
    server = self.server("--drain-timeout", "0s")
    calls = self.parked_streams(server)
    server.signal(signal.SIGTERM)
    self.assertEqual(0, server.wait_for_exit())
    for call in calls:
      with self.assertRaises(grpc.RpcError) as caught:
        list(call)
      # DRAINING from the server, or a broken connection if that was faster.
      self.assertEqual(grpc.StatusCode.UNAVAILABLE, caught.exception.code(),
                       caught.exception)

  def test_second_signal_aborts(self):
    server = self.server("--drain-timeout", "10m", aborted=True)
    calls = self.parked_streams(server)
    self.begin_drain(server)
    server.signal(signal.SIGTERM)
    self.assertEqual(1, server.wait_for_exit())
    for call in calls:
      with self.assertRaises(grpc.RpcError):
        list(call)

  def test_signals_at_rest(self):
    for number in (signal.SIGTERM, signal.SIGINT):
      with self.subTest(number):
        server = self.server("--drain-timeout", "10m")
        server.signal(number)
        self.assertEqual(0, server.wait_for_exit())

  def test_signal_while_models_load(self):
    server = self.server("--drain-timeout", "10m", wait=False)
    server.signal(signal.SIGTERM)
    self.assertEqual(0, server.wait_for_exit())

  def test_watchers_do_not_hold_the_server_up(self):
    server = self.server("--drain-timeout", "10m")
    watch = server.models.WatchModels(pb.model.WatchModelsRequest(),
                                      timeout=2 * PATIENCE)
    next(watch)
    health = server.channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=pb.health.HealthCheckRequest.SerializeToString,
        response_deserializer=pb.health.HealthCheckResponse.FromString)(
            pb.health.HealthCheckRequest(), timeout=2 * PATIENCE)
    self.assertEqual(pb.health.HealthCheckResponse.SERVING,
                     next(health).status)
    server.signal(signal.SIGTERM)
    self.assertEqual(pb.health.HealthCheckResponse.NOT_SERVING,
                     next(health).status)
    self.assertEqual(0, server.wait_for_exit())

  def test_perplexity_that_waits_for_text_is_cut(self):
    server = self.server("--drain-timeout", "1s")
    begun = threading.Event()
    done = threading.Event()
    self.addCleanup(done.set)

    def messages():
      yield pb.inference.PerplexityRequest(
          options=pb.inference.PerplexityOptions(model=ModelRef(name="long")))
      while not begun.is_set():
        yield pb.inference.PerplexityRequest(text=b"some text " * 1000)
      done.wait()

    call = server.inference.Perplexity(messages(), timeout=PATIENCE)
    self.assertTrue(next(call).HasField("progress"))
    begun.set()
    server.signal(signal.SIGTERM)
    self.assertEqual(0, server.wait_for_exit())
    with self.assertRaises(grpc.RpcError):
      list(call)

  def test_kill_and_restart(self):
    server = self.server("--import-root", self.imports)
    request = generate_request("long", "after all ", temperature=0,
                               max_new_tokens=40)
    text = server.inference.Generate(request,
                                     timeout=PATIENCE).sequences[0].text
    self.parked_streams(server, 2)
    importing = server.models.ImportModel(
        pb.model.ImportModelRequest(
            name="imported", directory="long",
            quantization=pb.quantization.Quantization(format="twohot4")),
        timeout=PATIENCE)
    # The import has begun, and has come to an end or not.
    next(importing)
    server.signal(signal.SIGKILL)
    self.assertEqual(-signal.SIGKILL, server.wait_for_exit())
    before = pot_testing.tree_of(self.repository)
    self.assertLessEqual(self.pristine.items(), before.items())

    server.start()
    answer = server.inference.Generate(request, timeout=PATIENCE)
    self.assertEqual(text, answer.sequences[0].text)
    versions = server.models.ListModels(pb.model.ListModelsRequest(),
                                        timeout=PATIENCE).versions
    for version in versions:
      # Whatever is visible is whole.
      loaded = server.models.LoadModel(
          pb.model.LoadModelRequest(
              model=ModelRef(name=version.name, version=version.version)),
          timeout=PATIENCE).version
      self.assertEqual(pb.model.MODEL_VERSION_STATE_AVAILABLE, loaded.state)
    self.assertIn(("long", 1), [(v.name, v.version) for v in versions])
    again = list(server.models.ImportModel(
        pb.model.ImportModelRequest(name="imported", directory="long"),
        timeout=PATIENCE))
    self.assertEqual("imported", again[-1].version.name)
    shutil.rmtree(self.repository / "imported")


if __name__ == "__main__":
  pot_testing.main()
