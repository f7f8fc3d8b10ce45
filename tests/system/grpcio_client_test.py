#!/usr/bin/python3
"""Drives pot-server with a standard client: Python's grpcio.

Stubs come from the protos, or, in ReflectionTest, from the server itself.

Usage: grpcio_client_test.py --server POT_SERVER --trainer POT_TRAINER
"""

import itertools
import json
import math
import pathlib
import subprocess
import unittest

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf import descriptor_pool
from google.protobuf import message_factory

import pot_testing
from pot_testing import ModelRef
from pot_testing import PATIENCE
from pot_testing import Streamed
from pot_testing import generate_request
from pot_testing import pb
from pot_testing import stream

SAMPLE = pot_testing.ROOT / "deploy" / "sample.txt"
State = pb.model.ModelVersionState

# The part of grpc/reflection/v1alpha/reflection.proto that this test needs.
REFLECTION_PROTO = """
syntax = "proto3";
package grpc.reflection.v1alpha;
message ServerReflectionRequest {
  oneof message_request {
    string file_by_filename = 3;
    string file_containing_symbol = 4;
    string list_services = 7;
  }
}
message ServerReflectionResponse {
  oneof message_response {
    FileDescriptorResponse file_descriptor_response = 4;
    ListServiceResponse list_services_response = 6;
    ErrorResponse error_response = 7;
  }
}
message FileDescriptorResponse { repeated bytes file_descriptor_proto = 1; }
message ListServiceResponse { repeated ServiceResponse service = 1; }
message ServiceResponse { string name = 1; }
message ErrorResponse { int32 error_code = 1; string error_message = 2; }
"""


class ClientTest(unittest.TestCase):

  @classmethod
  def setUpClass(cls):
    cls.dir = pot_testing.temporary_directory()
    cls.repository = cls.dir / "models"
    for arguments in (["--format", "f32"], []):
      pot_testing.quantize(pot_testing.TINY, cls.repository, "tiny", *arguments)
    pot_testing.copy_characters(cls.repository)
    cls.server = pot_testing.Server(cls.repository).start()
    cls.addClassCleanup(cls.server.stop)
    cls.inference = cls.server.inference
    cls.models = cls.server.models

  def load(self, name, version):
    return self.models.LoadModel(
        pb.model.LoadModelRequest(model=ModelRef(name=name, version=version)),
        timeout=PATIENCE).version


class InferenceTest(ClientTest):

  def test_stream_equals_unary(self):
    for model, prompt in (("tiny", "the other power "), ("characters", "KING"),
                          ("characters", "\n")):
      for options in (dict(temperature=0, seed=1),
                      dict(temperature=0.9, seed=7),
                      dict(temperature=0.8, seed=2**64 - 1, top_k=20, n=3),
                      dict(temperature=0.7, seed=3, echo=True, logprobs=2,
                           prompt_logprobs=1, return_token_ids=True,
                           min_new_tokens=4, stop_strings=["e", "zq"])):
        with self.subTest(model=model, prompt=prompt, options=options):
          request = generate_request(model, prompt, max_new_tokens=24,
                                     **options)
          answer = self.inference.Generate(request, timeout=PATIENCE)
          streamed = Streamed(stream(self.server, request))
          self.assertEqual(options.get("n", 1), len(answer.sequences))
          self.assertEqual({s.index: s.text for s in answer.sequences},
                           streamed.texts)
          self.assertEqual({s.index: s.finish_reason for s in answer.sequences},
                           streamed.reasons)
          self.assertEqual(answer.summary.seed, streamed.summary.seed)
          self.assertEqual(answer.summary.model, streamed.summary.model)
          self.assertEqual(answer.summary.usage.generated_tokens,
                           streamed.summary.usage.generated_tokens)
          if "prompt_logprobs" in options:
            self.assertEqual(answer.prompt, streamed.prompt)

  def test_answer_says_what_happened(self):
    request = generate_request(
        "tiny", "power of two", max_new_tokens=10, temperature=0.9, seed=11,
        logprobs=3, prompt_logprobs=2, return_token_ids=True, request_id="me-1",
        ignore_eos=True)
    answer = self.inference.Generate(request, timeout=PATIENCE)
    sequence, = answer.sequences
    self.assertEqual(pb.common.FINISH_REASON_LENGTH, sequence.finish_reason)
    self.assertEqual(10, len(sequence.token_ids))
    self.assertEqual(list(sequence.token_ids),
                     [token.token_id for token in sequence.logprobs])
    self.assertAlmostEqual(sequence.cumulative_logprob,
                           sum(token.logprob for token in sequence.logprobs),
                           # The addends are rounded to floats one by one.
                           delta=10 * 20 * 2**-24)
    for token in sequence.logprobs:
      likely = [alternative.logprob for alternative in token.alternatives]
      self.assertEqual(3, len(likely))
      self.assertEqual(sorted(likely, reverse=True), likely)
    self.assertEqual(len(answer.prompt.token_ids), len(answer.prompt.logprobs))
    self.assertFalse(answer.prompt.logprobs[0].HasField("logprob"))
    self.assertTrue(answer.prompt.logprobs[1].HasField("logprob"))
    summary = answer.summary
    self.assertEqual("me-1", summary.request_id)
    self.assertEqual(11, summary.seed)
    self.assertEqual(10, summary.usage.generated_tokens)
    self.assertEqual(len(answer.prompt.token_ids), summary.usage.prompt_tokens)
    self.assertEqual(("tiny", 2), (summary.model.name, summary.model.version))
    self.assertRegex(summary.model.sha256, "^[0-9a-f]{64}$")
    self.assertRegex(summary.model.engine, r"^pot/\d+\.\d+\.\d+ \S+ affine$")
    times = summary.timings
    self.assertGreater(times.first_token_seconds, 0)
    self.assertGreaterEqual(times.total_seconds, times.first_token_seconds)

  def test_picked_seed_repeats_the_text(self):
    request = generate_request("tiny", "two", max_new_tokens=20)
    first = self.inference.Generate(request, timeout=PATIENCE)
    request.sampling.seed = first.summary.seed
    second = self.inference.Generate(request, timeout=PATIENCE)
    self.assertEqual(first.sequences[0].text, second.sequences[0].text)
    self.assertTrue(first.summary.request_id)

  def test_selectors_name_the_same_version(self):
    answer = self.inference.Generate(
        generate_request("characters", "A", max_new_tokens=1),
        timeout=PATIENCE)
    newest = answer.summary.model
    self.assertEqual(3, newest.version)
    for ref in (ModelRef(name="characters", version=3),
                ModelRef(name="characters", digest=newest.sha256)):
      answer = self.inference.Generate(
          generate_request(ref, "A", max_new_tokens=1), timeout=PATIENCE)
      self.assertEqual(newest, answer.summary.model)

  def test_best_of_returns_the_likeliest(self):
    request = generate_request("tiny", "the", max_new_tokens=12, seed=1, n=2,
                               best_of=6, ignore_eos=True)
    answer = self.inference.Generate(request, timeout=PATIENCE)
    means = [sequence.cumulative_logprob / 12 for sequence in answer.sequences]
    self.assertEqual(2, len(means))
    self.assertEqual(sorted(means, reverse=True), means)
    self.assertEqual(6 * 12, answer.summary.usage.generated_tokens)
    everyone = generate_request("tiny", "the", max_new_tokens=12, seed=1, n=6,
                                ignore_eos=True)
    answer = self.inference.Generate(everyone, timeout=PATIENCE)
    self.assertEqual(
        sorted((s.cumulative_logprob / 12 for s in answer.sequences),
               reverse=True)[:2], means)

  def test_tokenize_and_detokenize(self):
    for text in ("", "the power of two", "h\u00e9llo \U0001f600 \u4e16\u754c",
                 "a\x00b\r\n\t", " " * 50):
      with self.subTest(text):
        answer = self.inference.Tokenize(
            pb.inference.TokenizeRequest(model=ModelRef(name="tiny"), text=text,
                                         return_pieces=True), timeout=PATIENCE)
        self.assertEqual(text.encode(), b"".join(answer.pieces))
        back = self.inference.Detokenize(
            pb.inference.DetokenizeRequest(model=ModelRef(name="tiny"),
                                           token_ids=answer.token_ids),
            timeout=PATIENCE)
        self.assertEqual(text, back.text)
        self.assertEqual(text.encode(), back.data)

  def test_score_sums_what_generation_reports(self):
    request = generate_request("tiny", "the power", max_new_tokens=8,
                               temperature=0, logprobs=0, ignore_eos=True,
                               return_token_ids=True)
    sequence = self.inference.Generate(request, timeout=PATIENCE).sequences[0]
    ids = pb.common.TokenIds(ids=sequence.token_ids)
    answer = self.inference.Score(
        pb.inference.ScoreRequest(
            model=ModelRef(name="tiny"), text="the power", alternatives=1,
            continuations=[pb.inference.ScoreContinuation(token_ids=ids),
                           pb.inference.ScoreContinuation(text=" zzz")]),
        timeout=PATIENCE)
    generated, other = answer.scores
    self.assertEqual(list(sequence.token_ids),
                     [token.token_id for token in generated.tokens])
    # The engine's logits do not depend on how they were asked for.
    self.assertEqual([token.logprob for token in sequence.logprobs],
                     [token.logprob for token in generated.tokens])
    self.assertTrue(generated.is_greedy)
    self.assertFalse(other.is_greedy)
    self.assertEqual(8, generated.scored_tokens)
    self.assertEqual(sum(len(t.piece) for t in generated.tokens),
                     generated.scored_bytes)
    self.assertLessEqual(other.total_logprob, 0)
    for token in generated.tokens:
      self.assertEqual(token.token_id, token.alternatives[0].token_id)

  def test_score_of_a_prompt_is_its_perplexity(self):
    text = "what the power of two is"
    score = self.inference.Score(
        pb.inference.ScoreRequest(model=ModelRef(name="tiny"), text=text),
        timeout=PATIENCE).scores[0]
    result = self.perplexity("tiny", text)
    self.assertEqual(score.scored_tokens, result.tokens)
    self.assertEqual(score.scored_bytes, result.bytes)
    self.assertAlmostEqual(-score.total_logprob, result.total_nats, delta=1e-5)

  def perplexity(self, model, text, *, piece=1000, **options):
    ref = model if isinstance(model, ModelRef) else ModelRef(name=model)
    messages = pot_testing.perplexity_messages(
        pb.inference.PerplexityOptions(model=ref, **options), text, piece)
    events = list(self.inference.Perplexity(messages, timeout=PATIENCE))
    self.assertEqual(["progress"] * (len(events) - 1) + ["result"],
                     [event.WhichOneof("event") for event in events])
    return events[-1].result

  def test_perplexity_is_that_of_the_trainer(self):
    text = SAMPLE.read_text(encoding="utf-8")
    self.load("characters", 2)
    for version, window, stride in ((2, None, None), (3, 32, 20)):
      with self.subTest(version=version):
        flags = [] if window is None else ["--window", window,
                                           "--stride", stride]
        row, = json.loads(pot_testing.run_trainer(
            "eval", self.repository / "characters" / str(version), SAMPLE,
            "--output", "json", *flags))
        ref = ModelRef(name="characters", version=version)
        options = {} if window is None else dict(window=window, stride=stride)
        for piece in (7, 100000):
          result = self.perplexity(ref, text, piece=piece, **options)
          self.assertEqual(row["tokens"], result.tokens)
          self.assertEqual(row["bytes"], result.bytes)
          self.assertEqual((row["window"], row["stride"]),
                           (result.window, result.stride))
          for name in ("nats_per_token", "perplexity", "bits_per_byte",
                       "standard_error"):
            # The same sums in the same order; 1e-12 is room for a print-out.
            self.assertTrue(
                math.isclose(row[name], getattr(result, name), rel_tol=1e-12),
                f"{name}: {row[name]} and {getattr(result, name)}")

  def test_perplexity_against_a_reference(self):
    text = "the power of two and the other " * 20
    self.load("tiny", 1)
    reference = ModelRef(name="tiny", version=1)
    result = self.perplexity("tiny", text, reference=reference)
    alone = self.perplexity(reference, text)
    self.assertEqual(alone.perplexity, result.comparison.reference_perplexity)
    self.assertEqual(1, result.comparison.reference.version)
    self.assertGreater(result.comparison.mean_kl_nats, 0)
    self.assertLessEqual(result.comparison.top1_agreement, 1)
    same = self.perplexity(reference, text, reference=reference).comparison
    self.assertEqual((0, 1), (same.mean_kl_nats, same.top1_agreement))

  def test_health_names_services_and_models(self):
    for service in ("", "pot.v1.InferenceService", "pot.v1.ModelService",
                    "pot.model.tiny", "pot.model.characters"):
      self.assertEqual("SERVING", self.server.health(service), service)
    self.assertEqual("NOT_FOUND", self.server.health("pot.model.nothing"))


class ModelServiceTest(ClientTest):

  def get(self, name, **selector):
    return self.models.GetModel(
        pb.model.GetModelRequest(model=ModelRef(name=name, **selector)),
        timeout=PATIENCE).version

  def set_alias(self, name, alias, **fields):
    return self.models.SetAlias(
        pb.model.SetAliasRequest(name=name, alias=alias, **fields),
        timeout=PATIENCE).change

  def test_list_says_what_there_is(self):
    versions = self.models.ListModels(pb.model.ListModelsRequest(),
                                      timeout=PATIENCE).versions
    listed = {(v.name, v.version): v for v in versions}
    self.assertEqual({("characters", 1), ("characters", 2), ("characters", 3),
                      ("tiny", 1), ("tiny", 2)}, set(listed))
    self.assertEqual([(v.name, v.version) for v in versions], sorted(listed))
    floats, quantized = listed["tiny", 1], listed["tiny", 2]
    self.assertEqual("f32", floats.quantization.format)
    self.assertEqual("pot4", quantized.quantization.format)
    self.assertEqual(pb.model.MODEL_VERSION_STATE_AVAILABLE, quantized.state)
    self.assertEqual(4 * quantized.parameters, quantized.fp32_bytes)
    self.assertLess(quantized.resident_bytes, quantized.fp32_bytes / 2)
    config = json.loads((pot_testing.TINY / "config.json").read_text())
    self.assertEqual(
        (config["n_layer"], config["n_head"], config["n_embd"],
         config["n_inner"], config["n_positions"], config["vocab_size"], False),
        (quantized.config.layers, quantized.config.heads,
         quantized.config.embedding_width, quantized.config.inner_width,
         quantized.config.positions, quantized.config.vocabulary,
         quantized.config.tied_head))
    size = sum(path.stat().st_size
               for path in (self.repository / "tiny" / "2").iterdir())
    self.assertEqual(size, quantized.file_bytes)

  def test_load_alias_rollback_unload(self):
    self.assertEqual(pb.model.MODEL_VERSION_STATE_AVAILABLE,
                     self.load("characters", 1).state)
    change = self.set_alias("characters", "default", version=1,
                            expected_version=0, comment="first")
    self.assertEqual((0, 1), (change.from_version, change.to_version))
    self.assertEqual(1, self.get("characters", alias="default").version)
    self.load("characters", 2)
    self.set_alias("characters", "default", version=2, expected_version=1)
    request = generate_request("characters", "KING", max_new_tokens=4)
    answer = self.inference.Generate(request, timeout=PATIENCE)
    self.assertEqual(2, answer.summary.model.version)
    change = self.models.RollbackAlias(
        pb.model.RollbackAliasRequest(name="characters"),
        timeout=PATIENCE).change
    self.assertEqual((2, 1, pb.model.ALIAS_CHANGE_CAUSE_ROLLBACK),
                     (change.from_version, change.to_version, change.cause))
    answer = self.inference.Generate(request, timeout=PATIENCE)
    self.assertEqual(1, answer.summary.model.version)
    history = self.models.ListAliasHistory(
        pb.model.ListAliasHistoryRequest(name="characters"),
        timeout=PATIENCE).changes
    self.assertEqual([(2, 1), (1, 2), (0, 1)],
                     [(c.from_version, c.to_version) for c in history])
    self.assertEqual("first", history[-1].comment)
    unloaded = self.models.UnloadModel(
        pb.model.UnloadModelRequest(model=ModelRef(name="characters",
                                                   version=2)),
        timeout=PATIENCE).version
    self.assertEqual(pb.model.MODEL_VERSION_STATE_UNLOADED, unloaded.state)
    self.assertEqual(0, unloaded.resident_bytes)
    with self.assertRaises(grpc.RpcError) as caught:
      self.inference.Generate(
          generate_request(ModelRef(name="characters", version=2), "A"),
          timeout=PATIENCE)
    self.assertEqual(grpc.StatusCode.FAILED_PRECONDITION,
                     caught.exception.code())
    # Aliases are there again after a restart.
    self.server.stop()
    self.server.start()
    type(self).models = self.server.models
    type(self).inference = self.server.inference
    self.assertEqual(["default"], list(self.get("characters",
                                                version=1).aliases))
    answer = self.inference.Generate(request, timeout=PATIENCE)
    self.assertEqual(1, answer.summary.model.version)
    self.set_alias("characters", "default", remove=True)

  def test_watch_tells_of_changes(self):
    call = self.models.WatchModels(pb.model.WatchModelsRequest(name="tiny"),
                                   timeout=PATIENCE)
    self.addCleanup(call.cancel)
    seen = []
    for event in call:
      if event.kind == pb.model.MODEL_EVENT_KIND_SNAPSHOT_DONE:
        break
      self.assertEqual(pb.model.MODEL_EVENT_KIND_SNAPSHOT, event.kind)
      seen.append(event.version.version)
    self.assertEqual([1, 2], seen)

    def states_until(last):
      states = []
      for event in call:
        self.assertEqual(pb.model.MODEL_EVENT_KIND_CHANGED, event.kind)
        self.assertEqual(1, event.version.version)
        states.append(State.Name(event.version.state).rpartition("_")[2])
        if states[-1] == last:
          return states
      self.fail(f"the stream ended after {states}")

    def is_subsequence(states, of):
      left = iter(of)
      return all(state in left for state, _ in itertools.groupby(states))

    self.load("tiny", 1)
    # A slow reader may miss states, but never sees them in another order.
    states = states_until("AVAILABLE")
    self.assertTrue(is_subsequence(
        states, ["VERIFYING", "LOADING", "WARMING", "AVAILABLE"]), states)
    self.models.UnloadModel(
        pb.model.UnloadModelRequest(model=ModelRef(name="tiny", version=1)),
        timeout=PATIENCE)
    states = states_until("UNLOADED")
    self.assertTrue(is_subsequence(
        states, ["AVAILABLE", "UNLOADING", "UNLOADED"]), states)

  def test_diff_compares_formats(self):
    answer = self.models.DiffVersions(
        pb.model.DiffVersionsRequest(
            left=ModelRef(name="tiny", version=1),
            right=ModelRef(name="tiny", version=2)), timeout=PATIENCE)
    self.assertEqual((1, 2), (answer.left.version, answer.right.version))
    errors = {tensor.name: tensor.relative_squared_error
              for tensor in answer.tensors}
    self.assertGreater(len(errors), 3 * 4)
    quantized = [error for error in errors.values() if error > 0]
    # Of design to rows: pot4's normalised squared error is about 0.035.
    self.assertGreater(min(quantized), 0.005)
    self.assertLess(max(quantized), 0.1)

  def test_register_uploads_what_generates(self):
    source = self.repository / "characters" / "2"
    files = sorted(source.iterdir())

    def messages():
      infos = [pb.model.FileInfo(
          path=path.name, size_bytes=path.stat().st_size,
          sha256=pot_testing.hashlib.sha256(path.read_bytes()).hexdigest())
               for path in files]
      yield pb.model.RegisterCheckpointRequest(
          header=pb.model.CheckpointHeader(name="uploaded", files=infos,
                                           load=True))
      for index, path in enumerate(files):
        data = path.read_bytes()
        for offset in range(0, len(data), 100_000):
          yield pb.model.RegisterCheckpointRequest(chunk=pb.model.FileChunk(
              file_index=index, offset=offset,
              data=data[offset:offset + 100_000]))

    version = self.models.RegisterCheckpoint(messages(),
                                             timeout=PATIENCE).version
    self.assertEqual(("uploaded", 1), (version.name, version.version))
    self.assertEqual(pb.model.MODEL_VERSION_STATE_AVAILABLE, version.state)
    self.assertEqual(self.get("characters", version=2).digest, version.digest)
    texts = set()
    for ref in (ModelRef(name="uploaded"),
                ModelRef(name="characters", version=2)):
      self.load(ref.name, ref.version or 1)
      texts.add(self.inference.Generate(
          generate_request(ref, "KING", max_new_tokens=20, temperature=0),
          timeout=PATIENCE).sequences[0].text)
    self.assertEqual(1, len(texts))
    self.models.UnloadModel(
        pb.model.UnloadModelRequest(model=ModelRef(name="uploaded", version=1)),
        timeout=PATIENCE)
    self.models.DeleteVersion(
        pb.model.DeleteVersionRequest(name="uploaded", version=1),
        timeout=PATIENCE)
    self.assertFalse((self.repository / "uploaded" / "1").exists())


class ReflectionTest(ClientTest):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    directory = pot_testing.temporary_directory()
    (directory / "reflection.proto").write_text(REFLECTION_PROTO)
    subprocess.run(
        ["protoc", f"-I{directory}", "reflection.proto",
         f"--descriptor_set_out={directory}/set"], check=True, timeout=PATIENCE)
    files = descriptor_pb2.FileDescriptorSet.FromString(
        pathlib.Path(directory / "set").read_bytes())
    cls.reflection = message_factory.GetMessages(files.file)

  def ask(self, **request):
    package = "grpc.reflection.v1alpha."
    ask = self.server.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=(
            self.reflection[package + "ServerReflectionResponse"].FromString))
    message = self.reflection[package + "ServerReflectionRequest"](**request)
    return next(iter(ask(iter([message]), timeout=PATIENCE)))

  def test_lists_services(self):
    names = {service.name for service in
             self.ask(list_services="").list_services_response.service}
    self.assertLessEqual(
        {"pot.v1.InferenceService", "pot.v1.ModelService",
         "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"},
        names)

  def messages_of(self, symbol):
    """Classes of all messages of the file that defines `symbol`."""
    pool = descriptor_pool.DescriptorPool()
    known = set()

    def add(response):
      self.assertEqual("file_descriptor_response",
                       response.WhichOneof("message_response"), response)
      parsed = [descriptor_pb2.FileDescriptorProto.FromString(data) for data in
                response.file_descriptor_response.file_descriptor_proto]
      for file in parsed:
        if file.name in known:
          continue
        known.add(file.name)
        for dependency in file.dependency:
          if dependency not in known:
            add(self.ask(file_by_filename=dependency))
        pool.Add(file)
      return parsed[0].name

    name = add(self.ask(file_containing_symbol=symbol))
    factory = message_factory.MessageFactory(pool)
    return factory.GetMessages([name]), pool.FindFileByName(name)

  def method(self, file, service, name):
    descriptor = file.services_by_name[service].methods_by_name[name]
    return f"/{descriptor.containing_service.full_name}/{descriptor.name}"

  def test_generates_without_any_proto_file(self):
    messages, file = self.messages_of("pot.v1.InferenceService")
    call = self.server.channel.unary_unary(
        self.method(file, "InferenceService", "Generate"),
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=messages["pot.v1.GenerateResponse"].FromString)
    request = messages["pot.v1.GenerateRequest"](text="KING")
    request.model.name = "characters"
    request.sampling.temperature = 0
    request.stopping.max_new_tokens = 20
    text = call(request, timeout=PATIENCE).sequences[0].text
    expected = self.inference.Generate(
        generate_request("characters", "KING", temperature=0,
                         max_new_tokens=20), timeout=PATIENCE)
    self.assertEqual(expected.sequences[0].text, text)

  def test_measures_perplexity_without_any_proto_file(self):
    messages, file = self.messages_of("pot.v1.InferenceService")
    call = self.server.channel.stream_stream(
        self.method(file, "InferenceService", "Perplexity"),
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=messages["pot.v1.PerplexityResponse"].FromString)
    request = messages["pot.v1.PerplexityRequest"]
    options = request()
    options.options.model.name = "characters"
    text = b"Now is the winter of our discontent\n" * 10
    events = list(call(iter([options, request(text=text)]), timeout=PATIENCE))
    perplexity = events[-1].result.perplexity
    # A model of characters that has learnt anything is far below the 65 of
    # uniform guesses.
    self.assertTrue(1 < perplexity < 20, perplexity)

  def test_describes_the_other_services(self):
    for symbol in ("pot.v1.ModelService", "grpc.health.v1.Health"):
      _, file = self.messages_of(symbol)
      self.assertIn(symbol.rpartition(".")[2], file.services_by_name)

  def test_unknown_symbol_is_an_error(self):
    answer = self.ask(file_containing_symbol="pot.v1.NoService")
    self.assertEqual(grpc.StatusCode.NOT_FOUND.value[0],
                     answer.error_response.error_code)


if __name__ == "__main__":
  pot_testing.main()
