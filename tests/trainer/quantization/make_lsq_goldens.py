#!/usr/bin/python3
"""Writes goldens/lsq.safetensors (needs python3-numpy, python3-torch).

Gradients of learned scales as the pseudocode of LSQ (arXiv 1902.08153,
appendix) has them: gradscale() and roundpass() by detaching, torch's autograd
for the rest, in float64. Nothing here is derived by hand, and nothing is shared
with the C++ code.
"""
import json
import os
import struct

import numpy as np
import torch

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "goldens",
                   "lsq.safetensors")
# Name: levels, sign of the scales, group length.
TWO_HOT = [1, 3, 5, 7, 10, 14, 20, 28]
CASES = {
    "twohot4/g32": (TWO_HOT + [-x for x in TWO_HOT], 1, 32),
    "pot4/row": ([0] + [2**i for i in range(7)] + [-2**i for i in range(8)], -1,
                 70),
    "pot3-strict/tensor": ([1, 2, 4, 8, -1, -2, -4, -8], 1, None),
}
ROWS, COLS = 5, 70


def gradscale(x, scale):
    return (x - x * scale).detach() + x * scale


def roundpass(x, levels):
    book = torch.tensor(sorted(levels), dtype=torch.float64)
    distance = (x.detach()[..., None] - book).abs()
    near = distance.sort(-1).values
    # Far enough from every threshold for float32 to round alike.
    assert (near[..., 1] - near[..., 0]).min() > 1e-4
    return book[distance.argmin(-1)] - x.detach() + x


def main():
    rng = np.random.default_rng(20261122)
    tensors = {}
    for name, (levels, sign, group) in CASES.items():
        w0 = rng.normal(size=(ROWS, COLS)).astype(np.float32)
        upstream = rng.normal(size=(ROWS, COLS)).astype(np.float32)
        groups = 1 if group is None else ROWS * -(-COLS // group)
        # About a tenth of the weights lies beyond the top level.
        log0 = (np.log(1.7 / max(levels)) +
                rng.normal(size=groups) * 0.2).astype(np.float32)
        w = torch.tensor(w0, dtype=torch.float64, requires_grad=True)
        logs = torch.tensor(log0, dtype=torch.float64, requires_grad=True)
        if group is None:
            index = torch.zeros(ROWS, COLS, dtype=torch.long)
        else:
            per_row = -(-COLS // group)
            index = (torch.arange(ROWS)[:, None] * per_row +
                     torch.arange(COLS)[None, :] // group)
        count = torch.bincount(index.flatten()).double()
        top = max(abs(x) for x in levels)
        s = sign * torch.exp(logs)
        s = gradscale(s, 1 / torch.sqrt(count * top))[index]
        v = torch.clamp(w / s, min(levels), max(levels))
        q = roundpass(v, levels) * s
        q.backward(torch.tensor(upstream, dtype=torch.float64))
        tensors[name + "/w"] = w0
        tensors[name + "/log_scales"] = log0
        tensors[name + "/upstream"] = upstream
        tensors[name + "/q"] = q.detach().numpy()
        tensors[name + "/dw"] = w.grad.numpy()
        tensors[name + "/dlog_scales"] = logs.grad.numpy()

    names = {np.dtype("float64"): "F64", np.dtype("float32"): "F32"}
    header, data = {}, b""
    for name, x in sorted(tensors.items(),
                          key=lambda item: -item[1].dtype.itemsize):
        raw = np.ascontiguousarray(x).astype(x.dtype.newbyteorder("<")).tobytes()
        header[name] = {"dtype": names[x.dtype], "shape": list(x.shape),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % 64)
    os.makedirs(os.path.dirname(OUT), exist_ok=True)
    with open(OUT, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + data)


if __name__ == "__main__":
    main()
