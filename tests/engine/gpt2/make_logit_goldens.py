#!/usr/bin/python3
"""Writes goldens/*.safetensors: token ids and the logits they must give.

An independent GPT-2 in NumPy float64 that shares no line with the engine. Each
golden holds "ids" (T) I64 and "logits" (T, V) F32; rounding the float64
logits to F32 costs 6e-8, far below the tolerance of 1e-4.

  make_logit_goldens.py [MODELS]   MODELS is the folder of shakespeare-char;
                                   without it only tiny-bpe is written
"""
import json
import math
import os
import struct
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
TINY = os.path.join(HERE, "..", "..", "testdata", "tiny-bpe")


def read_safetensors(path):
    with open(path, "rb") as file:
        blob = file.read()
    (header_bytes,) = struct.unpack("<Q", blob[:8])
    header = json.loads(blob[8:8 + header_bytes])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + header_bytes + o for o in entry["data_offsets"])
        raw = blob[begin:end]
        if entry["dtype"] == "BF16":
            wide = np.frombuffer(raw, "<u2").astype("<u4") << 16
            array = wide.view("<f4")
        else:
            kind = {"F32": "<f4", "F16": "<f2", "U8": "u1"}[entry["dtype"]]
            array = np.frombuffer(raw, kind)
        name = name.removeprefix("transformer.")
        tensors[name] = array.astype(np.float64).reshape(entry["shape"])
    return tensors


def layer_norm(x, gain, bias, epsilon):
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred ** 2).mean(-1, keepdims=True)
    return centred / np.sqrt(variance + epsilon) * gain + bias


def gelu(x, kind):
    if kind == "gelu_new":
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)
        return 0.5 * x * (1 + np.tanh(inner))
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def logits_of(directory, ids):
    with open(os.path.join(directory, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    p = read_safetensors(os.path.join(directory, "model.safetensors"))
    epsilon, heads = config["layer_norm_epsilon"], config["n_head"]
    n, c = len(ids), config["n_embd"]
    head_size = c // heads
    mask = np.where(np.tril(np.ones((n, n))) == 1, 0.0, -np.inf)

    x = p["wte.weight"][ids] + p["wpe.weight"][:n]
    for layer in range(config["n_layer"]):
        def w(name):
            return p[f"h.{layer}.{name}"]

        def linear(y, name):
            return y @ w(name + ".weight") + w(name + ".bias")

        def norm(y, name):
            return layer_norm(y, w(name + ".weight"), w(name + ".bias"),
                              epsilon)

        q, k, v = np.split(linear(norm(x, "ln_1"), "attn.c_attn"), 3, axis=-1)
        attended = np.empty((n, c))
        for head in range(heads):
            part = slice(head * head_size, (head + 1) * head_size)
            scores = q[:, part] @ k[:, part].T / math.sqrt(head_size) + mask
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            attended[:, part] = scores @ v[:, part]
        x = x + linear(attended, "attn.c_proj")
        hidden = gelu(linear(norm(x, "ln_2"), "mlp.c_fc"),
                      config["activation_function"])
        x = x + linear(hidden, "mlp.c_proj")
    x = layer_norm(x, p["ln_f.weight"], p["ln_f.bias"], epsilon)
    return x @ p.get("lm_head.weight", p["wte.weight"]).T


def write_golden(name, ids, logits):
    data = [np.asarray(ids, "<i8"), np.asarray(logits, "<f4")]
    header, at = {}, 0
    for key, kind, array in zip(("ids", "logits"), ("I64", "F32"), data):
        header[key] = {"dtype": kind, "shape": list(array.shape),
                       "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = os.path.join(HERE, "goldens", name + ".safetensors")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(array.tobytes() for array in data)


def main():
    # 48 of its 64 positions: enough for three blocks of keys and values.
    ids = [(37 * i * i + 11 * i + 5) % 300 for i in range(48)]
    write_golden("tiny-bpe", ids, logits_of(TINY, ids))
    if len(sys.argv) > 1:
        text = ("KING RICHARD:\nNow is the winter of our discontent\n"
                "Made glorious ")
        directory = os.path.join(sys.argv[1], "shakespeare-char")
        with open(os.path.join(directory, "vocab.json"),
                  encoding="utf-8") as file:
            vocab = json.load(file)
        ids = [vocab[{" ": "\u0120", "\n": "\u010a"}.get(c, c)] for c in text]
        assert len(ids) == 64, len(ids)
        write_golden("shakespeare-char", ids, logits_of(directory, ids))


if __name__ == "__main__":
    main()
