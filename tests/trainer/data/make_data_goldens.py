#!/usr/bin/python3
"""Writes data_goldens.json: what independent, slow code makes of the same input.

Merges: byte-pair encoding that counts all pairs anew in every round. Starts:
windows of batches by a Philox4x32-10 of its own.

Usage: make_data_goldens.py > data_goldens.json
"""

import collections
import json
import random
import re
import sys

# GPT-2's pre-tokenizer for a text without marks, ideographs and numbers other
# than decimal digits, where Python's classes are Unicode's.
PIECES = re.compile(r"'(?:[sdmt]|ll|ve|re)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+"
                    r"|\s+(?!\S)|\s+")
VOCAB_SIZE = 400


def make_text():
  rng = random.Random(1)
  syllables = ["ba", "ban", "an", "a", "na", "the", "th", "é", "дом", "o"]
  words = ["".join(rng.choices(syllables, k=rng.randint(1, 4)))
           for _ in range(60)]
  parts = ["aaaaaaaa aaa aaaaa ababab bababa\n\n  ", "it's we'll 'tis  '' \t\n"]
  for _ in range(300):
    parts.append(rng.choice(words))
    parts.append(rng.choice([" ", " ", " ", ", ", "\n", "  ", "'s ", " 1984 "]))
  return "".join(parts)


def train(text):
  """Merges as pairs of ids, and the number of tokens the text then has."""
  printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
  order = printable + [b for b in range(256) if b not in printable]
  id_of_byte = {byte: i for i, byte in enumerate(order)}
  words = collections.Counter(
      tuple(id_of_byte[b] for b in piece.encode()) for piece in
      PIECES.findall(text))
  merges = []
  while 256 + len(merges) + 1 < VOCAB_SIZE:
    counts = collections.Counter()
    for word, occurrences in words.items():
      for pair in zip(word, word[1:]):
        counts[pair] += occurrences
    if not counts or max(counts.values()) < 2:
      break
    best = min(counts, key=lambda pair: (-counts[pair], pair))
    result = 256 + len(merges)
    merges.append(best)
    merged = collections.Counter()
    for word, occurrences in words.items():
      tokens = []
      i = 0
      while i < len(word):
        if word[i:i + 2] == best:
          tokens.append(result)
          i += 2
        else:
          tokens.append(word[i])
          i += 1
      merged[tuple(tokens)] += occurrences
    words = merged
  return merges, sum(len(word) * n for word, n in words.items())


def philox(counter, key):
  mask = 0xFFFFFFFF
  a, b, c, d = counter
  k0, k1 = key
  for _ in range(10):
    p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
    a, b, c, d = (q >> 32) ^ b ^ k0, q & mask, (p >> 32) ^ d ^ k1, p & mask
    k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
  return a, b, c, d


def key_of(seed, stream):
  key = seed ^ int.from_bytes(stream.encode(), "big")
  return key & 0xFFFFFFFF, key >> 32


def random_start(seed, step, micro_batch, sequence, windows):
  words = philox((step & 0xFFFFFFFF, step >> 32, micro_batch, sequence),
                 key_of(seed, "windows1"))
  return (words[1] << 32 | words[0]) * windows >> 64


def permuted(seed, epoch, index, size):
  half = 1
  while 1 << 2 * half < size:
    half += 1
  mask = (1 << half) - 1
  while True:
    left, right = index >> half, index & mask
    for i in range(6):
      word = philox((right, i, epoch & 0xFFFFFFFF, epoch >> 32),
                    key_of(seed, "orders01"))[0]
      left, right = right, left ^ (word & mask)
    index = left << half | right
    if index < size:
      return index


def main():
  text = make_text()
  merges, num_tokens = train(text)
  seed = 0x123456789ABCDEF0
  cases = [(0, 0, 0), (1, 0, 3), (2, 5, 0), (1 << 33, 1, 2)]
  json.dump({
      "text": text,
      "vocab_size": VOCAB_SIZE,
      "merges": merges,
      "num_tokens": num_tokens,
      "seed": seed,
      "corpus_tokens": 1000,
      "context": 16,
      "cases": cases,
      "random_starts": [random_start(seed, *case, 1000 - 16) for case in cases],
      "permuted_62": [permuted(seed, 3, i, 62) for i in range(62)],
  }, sys.stdout, ensure_ascii=False)
  sys.stdout.write("\n")


if __name__ == "__main__":
  main()
