#!/usr/bin/python3
"""Swaps the version behind an alias 20 times while streams run on it.

No stream may fail, and each must be wholly of one version: the one that its
summary names, whose greedy text is known.

Usage: hot_swap_test.py --server POT_SERVER --trainer POT_TRAINER
"""

import threading
import unittest

import pot_testing
from pot_testing import ModelRef
from pot_testing import PATIENCE
from pot_testing import Streamed
from pot_testing import generate_request
from pot_testing import pb
from pot_testing import stream

SWAPS = 20
READERS = 4
PROMPT = "which of the two "


class HotSwapTest(unittest.TestCase):

  def setUp(self):
    directory = pot_testing.temporary_directory()
    repository = directory / "models"
    pot_testing.make_long_model(directory / "long", seed=2, width=128,
                                layers=2)
    for number_format in ("pot4", "twohot4"):
      pot_testing.quantize(directory / "long", repository, "long",
                           "--format", number_format)
    self.server = pot_testing.Server(repository).start()
    self.addCleanup(self.server.stop)

  def load(self, version):
    self.server.models.LoadModel(
        pb.model.LoadModelRequest(model=ModelRef(name="long",
                                                 version=version)),
        timeout=PATIENCE)

  def unload(self, version):
    return self.server.models.UnloadModel(
        pb.model.UnloadModelRequest(model=ModelRef(name="long",
                                                   version=version)),
        timeout=PATIENCE).version.state

  def point_to(self, version, expected):
    self.server.models.SetAlias(
        pb.model.SetAliasRequest(name="long", alias="default", version=version,
                                 expected_version=expected), timeout=PATIENCE)

  def request(self, tokens, **options):
    return generate_request("long", PROMPT, temperature=0, ignore_eos=True,
                            max_new_tokens=tokens, **options)

  def long_request(self):
    # Some 140 kB, twice the window: it cannot end before somebody reads.
    return self.request(500, logprobs=20)

  def text_of(self, version, request):
    request.model.version = version
    return Streamed(stream(self.server, request)).text

  def test_streams_never_notice(self):
    texts = {}
    long_texts = {}
    for version in (1, 2):
      self.load(version)
      texts[version] = self.text_of(version, self.request(60))
      long_texts[version] = self.text_of(version, self.long_request())
    self.assertNotEqual(texts[1], texts[2])
    self.point_to(1, 0)
    self.unload(2)

    stop = threading.Event()
    results = [[] for _ in range(READERS)]

    def read(mine):
      channel = self.server.new_channel()
      stub = pb.inference_grpc.InferenceServiceStub(channel)
      while not stop.is_set():
        try:
          streamed = Streamed(stub.GenerateStream(
              pb.inference.GenerateStreamRequest(request=self.request(60)),
              timeout=PATIENCE))
          mine.append((streamed.summary.model.version, streamed.text))
        except Exception as error:  # whatever it is, it is a finding
          mine.append((0, repr(error)))
      channel.close()

    readers = [threading.Thread(target=read, args=(mine,)) for mine in results]
    for reader in readers:
      reader.start()
    self.addCleanup(stop.set)

    old = 1
    for _ in range(SWAPS):
      new = 3 - old
      # In the middle of its text when the alias moves.
      pinned = stream(self.server, self.long_request())
      text = next(pinned).chunk.text
      self.load(new)
      self.point_to(new, old)
      states = []
      unloading = threading.Thread(
          target=lambda: states.append(self.unload(old)))
      unloading.start()
      rest = Streamed(pinned)
      self.assertEqual(old, rest.summary.model.version)
      self.assertEqual(long_texts[old], text + rest.text)
      unloading.join(PATIENCE)
      self.assertEqual([pb.model.MODEL_VERSION_STATE_UNLOADED], states)
      old = new
    stop.set()
    for reader in readers:
      reader.join(PATIENCE)

    flat = [result for mine in results for result in mine]
    wrong = [result for result in flat
             if result[0] not in texts or texts[result[0]] != result[1]]
    self.assertEqual([], wrong[:3], f"{len(wrong)} of {len(flat)} streams")
    # Every reader got on during the swaps.
    self.assertTrue(all(results), [len(mine) for mine in results])
    self.assertEqual({1, 2}, {version for version, _ in flat})


if __name__ == "__main__":
  pot_testing.main()
