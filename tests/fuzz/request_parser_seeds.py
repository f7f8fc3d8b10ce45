#!/usr/bin/python3
"""Writes corpus/request_parser_fuzzer: one good request of each kind."""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "system"))
import pot_testing  # pylint: disable=wrong-import-position

pb = pot_testing.pb


def main():
  inference = pb.inference
  model = pb.common.ModelRef(name="tiny", alias="default")
  generate = pot_testing.generate_request(
      model, "the power of two", temperature=0.9, top_k=20, top_p=0.9,
      min_p=0.05, typical_p=0.9, repetition_penalty=1.1, presence_penalty=0.5,
      frequency_penalty=0.5, logit_bias={5: 1.5}, allowed_token_ids=range(20),
      banned_token_ids=[3], seed=7, n=2, best_of=2, max_new_tokens=8,
      min_new_tokens=2, stop_strings=["\n", "end"], stop_token_ids=[4],
      echo=True, logprobs=3, prompt_logprobs=0, return_token_ids=True,
      request_id="seed",
      overflow=pb.common.CONTEXT_OVERFLOW_TRUNCATE_LEFT)
  ids = pot_testing.generate_request("tiny", [1, 2, 3], temperature=0)
  messages = {
      "generate": (0, generate),
      "generate_ids": (0, ids),
      "generate_stream": (1, inference.GenerateStreamRequest(request=generate)),
      "score": (2, inference.ScoreRequest(
          model=model, text="the power", alternatives=2, continuations=[
              inference.ScoreContinuation(text=" of two"),
              inference.ScoreContinuation(
                  token_ids=pb.common.TokenIds(ids=[1, 2]))])),
      "perplexity": (3, inference.PerplexityRequest(
          options=inference.PerplexityOptions(model=model, reference=model,
                                              window=32, stride=16))),
      # The bytes of the model's name are the sizes of the pieces.
      "tokenize": (4, inference.TokenizeRequest(
          model=pb.common.ModelRef(name="\3\1\0\5"),
          text="it's  two\u00e9 \U0001f600  33\n\n x")),
      "detokenize": (5, inference.DetokenizeRequest(
          model=model, token_ids=[1, 200, 298])),
  }
  folder = HERE / "corpus" / "request_parser_fuzzer"
  folder.mkdir(parents=True, exist_ok=True)
  for name, (kind, message) in messages.items():
    (folder / name).write_bytes(
        bytes([kind]) + message.SerializeToString(deterministic=True))


if __name__ == "__main__":
  main()
