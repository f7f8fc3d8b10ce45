#!/usr/bin/python3
"""Writes tests/testdata/tiny-bpe: a random GPT-2 as Hugging Face ships one.

It is as unlike the usual GPT-2 as the format allows: n_inner is not 4 C, the
activation is the erf form of GELU, the head is separate, names begin with
"transformer.", mask buffers are there, and F16, BF16 and F32 are mixed. Its
weights come from a fixed seed, its merges from the text below, so running this
again gives the same bytes.
"""
import collections
import json
import os
import re
import struct

import numpy as np

CONFIG = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "activation_function": "gelu",
    "n_layer": 3,
    "n_head": 3,
    "n_embd": 96,
    "n_inner": 160,
    "n_positions": 64,
    "vocab_size": 300,
    "layer_norm_epsilon": 1e-05,
    "tie_word_embeddings": False,
}

# What the merges are learned from.
TEXT = """
The miller keeps two dogs and one of them is old. When the water is high the
old dog sleeps beside the wheel, and when the water is low it sleeps in the
sun. The young dog never sleeps, or so the miller says: it runs along the
stream from morning to evening, and nobody has seen it rest. In the winter the
wheel stands still. Then both dogs lie before the fire, and the miller mends
sacks and tells them what the flour of the coming year will cost.
"""

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "..", "testdata", "tiny-bpe")


def byte_characters():
    """GPT-2's printable stand-in for each byte, in the order of its ids."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    characters = {b: chr(b) for b in printable}
    characters.update({b: chr(256 + i) for i, b in enumerate(others)})
    return characters


def learn_merges(text, count):
    characters = byte_characters()
    words = collections.Counter(
        tuple(characters[b] for b in word.encode())
        for word in re.findall(r" ?[A-Za-z]+|[^A-Za-z]", text))
    merges = []
    for _ in range(count):
        pairs = collections.Counter()
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += times
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        merged = collections.Counter()
        for word, times in words.items():
            parts, i = [], 0
            while i < len(word):
                if word[i:i + 2] == best:
                    parts.append(word[i] + word[i + 1])
                    i += 2
                else:
                    parts.append(word[i])
                    i += 1
            merged[tuple(parts)] += times
        words = merged
    return merges


def random_tensors(config):
    """name -> (dtype, array), float values already rounded to the dtype."""
    rng = np.random.default_rng(20261122)
    c, inner = config["n_embd"], config["n_inner"]
    t, v = config["n_positions"], config["vocab_size"]

    def normal(shape, std, mean=0.0):
        return (mean + std * rng.standard_normal(shape)).astype(np.float32)

    tensors = {
        "transformer.wte.weight": ("F16", normal((v, c), 0.3)),
        "transformer.wpe.weight": ("F16", normal((t, c), 0.15)),
    }
    for layer in range(config["n_layer"]):
        half = "BF16" if layer % 2 else "F16"
        h = f"transformer.h.{layer}."
        for norm in ("ln_1", "ln_2"):
            tensors[f"{h}{norm}.weight"] = ("F32", normal(c, 0.2, 1.0))
            tensors[f"{h}{norm}.bias"] = ("F32", normal(c, 0.1))
        for name, inputs, outputs in (("attn.c_attn", c, 3 * c),
                                      ("attn.c_proj", c, c),
                                      ("mlp.c_fc", c, inner),
                                      ("mlp.c_proj", inner, c)):
            tensors[f"{h}{name}.weight"] = (half,
                                            normal((inputs, outputs), 0.12))
            tensors[f"{h}{name}.bias"] = ("F32", normal(outputs, 0.05))
        tensors[f"{h}attn.bias"] = ("U8",
                                    np.tril(np.ones((1, 1, t, t), np.uint8)))
        tensors[f"{h}attn.masked_bias"] = ("F32", np.float32(-1e4))
    tensors["transformer.ln_f.weight"] = ("F32", normal(c, 0.2, 1.0))
    tensors["transformer.ln_f.bias"] = ("F32", normal(c, 0.1))
    tensors["lm_head.weight"] = ("F16", normal((v, c), 0.25))
    return tensors


def encode(dtype, array):
    if dtype == "F16":
        return array.astype("<f2").tobytes()
    if dtype == "BF16":  # cut off, not rounded: the values are random anyway
        return (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    if dtype == "F32":
        return array.astype("<f4").tobytes()
    return array.tobytes()


def write_safetensors(path, tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, array) in tensors.items():
        encoded = encode(dtype, array)
        header[name] = {"dtype": dtype, "shape": list(array.shape),
                        "data_offsets": [len(data), len(data) + len(encoded)]}
        data += encoded
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def main():
    os.makedirs(OUT, exist_ok=True)
    merges = learn_merges(TEXT, CONFIG["vocab_size"] - 257)
    tokens = [*byte_characters().values(), *(a + b for a, b in merges),
              "<|endoftext|>"]
    assert len(set(tokens)) == CONFIG["vocab_size"]
    with open(os.path.join(OUT, "vocab.json"), "w", encoding="utf-8") as file:
        json.dump({token: i for i, token in enumerate(tokens)}, file,
                  ensure_ascii=False)
        file.write("\n")
    with open(os.path.join(OUT, "merges.txt"), "w", encoding="utf-8") as file:
        file.write("#version: 0.2\n")
        file.writelines(f"{a} {b}\n" for a, b in merges)
    with open(os.path.join(OUT, "config.json"), "w", encoding="utf-8") as file:
        json.dump(CONFIG, file, indent=1)
        file.write("\n")
    write_safetensors(os.path.join(OUT, "model.safetensors"),
                      random_tensors(CONFIG))


if __name__ == "__main__":
    main()
