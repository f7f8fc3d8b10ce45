#!/usr/bin/python3
"""Writes testdata/quantizer_goldens.bin (needs python3-numpy, python3-torch).

Independent of the C++ code: the paper's quantizer in torch float32, as
written down in the papers; the nearest quantizer and PoTPTQ's
step 1 by exhaustive search in float64; activations in float64. The file is a sequence of tensors, each a
line "name dtype rows cols" followed by rows * cols little-endian values.
"""
import os
import sys

import numpy as np
import torch

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "testdata",
                   "quantizer_goldens.bin")
GROUPS = {"tensor": None, "row": None, "g32": 32, "g128": 128}
STEPS = 64


def levels_of(name):
    """Levels by code, from the text of pot_format.h."""
    if name == "twohot4":
        book = [1, 3, 5, 7, 10, 14, 20, 28]
        return book + [-x for x in book]
    bits = int(name[3])
    half = 1 << (bits - 1)
    if name.startswith("int"):
        return list(range(half)) + list(range(-half, 0))
    if name.endswith("-strict"):
        return [2**m for m in range(half)] + [-(2**m) for m in range(half)]
    arm = [2**(m - 1) for m in range(1, half)]
    return [0] + arm + [-(2**(half - 1))] + [-x for x in arm]


FORMATS = ["pot2", "pot3", "pot4", "pot5", "pot6", "pot2-strict",
           "pot3-strict", "pot4-strict", "twohot4", "int3", "int4"]


def groups_of(shape, granularity):
    """Slices (row range, column range) that share a scale, in scale order."""
    rows, cols = shape
    if granularity == "tensor":
        return [(slice(0, rows), slice(0, cols))]
    size = GROUPS[granularity] or cols
    return [(slice(r, r + 1), slice(c, min(c + size, cols)))
            for r in range(rows) for c in range(0, cols, size)]


def paper(w, k, eps):
    """Levels and scale of one group, in float32 throughout."""
    w = torch.from_numpy(w)
    s = w.abs().max() / 2**k
    s = torch.clamp(s, min=eps)
    if s == 0:  # 0 / 0 in the papers' code
        return np.zeros(w.shape), np.float32(0)
    n = w / s
    a = torch.round(n.abs())
    e = torch.clamp(torch.round(torch.log2(a)), max=k)
    q = torch.where(a == 0, torch.zeros_like(a), torch.sign(n) * 2**e)
    return q.numpy(), s.numpy()


def nearest(w, levels):
    """Codes and scale of one group, by trying every scale and every level."""
    w = w.astype(np.float64)
    top = max(abs(x) for x in levels)
    biggest = np.abs(w).max()
    if biggest == 0:
        return np.zeros(w.shape, np.uint8), np.float32(0)
    lopsided = min(levels) != -max(levels)
    # Stable: the first of equally near ones has the smaller |level|, then
    # the smaller code.
    order = sorted(range(len(levels)), key=lambda c: (abs(levels[c]), c))
    book = np.array([levels[c] for c in order], np.float64)
    best = (np.inf, None, None)
    for t in range(STEPS):
        for sign in (1, -1) if lopsided else (1,):
            s = np.float32(sign * 0.04 * 67.5**(t / (STEPS - 1)) * biggest /
                           top)
            distance = np.abs(w[..., None] - float(s) * book)
            pick = distance.argmin(axis=-1)
            error = (distance.min(axis=-1)**2).sum()
            if error < best[0]:
                best = (error, s, pick)
    return np.array(order, np.uint8)[best[2]], best[1]


def potptq(w, levels):
    """The same for PoTPTQ: nearest in log2, halfway to 0."""
    w = w.astype(np.float64)
    biggest = np.abs(w).max()
    if biggest == 0:
        return np.zeros(w.shape, np.uint8), np.float32(0)
    s0 = biggest / (max(abs(x) for x in levels) / 2)
    least = min(abs(x) for x in levels if x)
    signs = (1, -1) if min(levels) != -max(levels) else (1,)
    best = (np.inf, None, None)
    for i in range(1, 201):
        for sign in signs:
            s = np.float32(sign * s0 * (0.01 * i))
            x = w / float(s)
            codes = np.zeros(w.shape, np.uint8)
            distance = np.full(w.shape, np.inf)
            for code, level in enumerate(levels):
                if level == 0:
                    continue
                same = (x < 0) == (level < 0)
                with np.errstate(divide="ignore"):
                    d = np.abs(np.log2(np.abs(x)) - np.log2(abs(level)))
                better = same & ((d < distance) | np.isinf(distance))
                codes[better], distance[better] = code, d[better]
            if 0 in levels:
                codes[np.abs(x) <= least / 2] = levels.index(0)
            q = float(s) * np.array(levels, np.float64)[codes]
            error = ((w - q)**2).sum()
            if error < best[0]:
                best = (error, s, codes)
    return best[2], best[1]


def activation(x, affine):
    """Scale, zero point and unrounded codes of each row, in float64."""
    scales, zeros, codes = [], [], []
    for row in x.astype(np.float64):
        low, high = min(row.min(), 0), max(row.max(), 0)
        scale = (high - low) / 254 if affine else max(-low, high) / 127
        zero = -127 - np.round(low / scale) if affine and scale else 0
        scales.append([scale])
        zeros.append([zero])
        codes.append(row / scale + zero if scale else 0 * row)
    return scales, zeros, codes


def main():
    rng = np.random.default_rng(20261122)
    out = open(OUT, "wb")

    def put(name, array, dtype):
        array = np.ascontiguousarray(array, dtype)
        assert array.ndim == 2, name
        out.write(("%s %s %d %d\n" % (name, array.dtype.name, *array.shape))
                  .encode())
        out.write(array.astype(array.dtype.newbyteorder("<")).tobytes())

    edges = np.zeros((4, 70), np.float32)
    # Row 0: max 64, so that s = 1 in pot4 and halves are exact ties.
    edges[0, :12] = [64, .5, 1.5, 2.5, -.5, -1.5, 5.5, 11.5, 45.5, -46, 0, -0.]
    edges[1, :6] = [-128, 1, 3, 6, 96, -95.99]  # the longer arm is negative
    edges[2] = rng.normal(size=70) * 1e-3  # below the eps of 1/32
    # Row 3: all zero.
    matrices = {
        "gauss": rng.normal(size=(4, 200)).astype(np.float32) * 0.02,
        "tails": (rng.standard_t(2, size=(4, 130)) * 0.1).astype(np.float32),
        "edges": edges,
    }
    for name, w in matrices.items():
        put("weights/" + name, w, "float32")
        for granularity in GROUPS:
            groups = groups_of(w.shape, granularity)
            for fmt in FORMATS:
                levels = levels_of(fmt)
                codes = np.zeros(w.shape, np.uint8)
                scales = np.zeros((len(groups), 1), np.float32)
                for g, where in enumerate(groups):
                    codes[where], scales[g] = nearest(w[where], levels)
                case = "nearest/%s/%s/%s" % (name, fmt, granularity)
                put(case + "/codes", codes, "uint8")
                put(case + "/scales", scales, "float32")
                if granularity not in ("row", "g32"):
                    continue
                for g, where in enumerate(groups):
                    codes[where], scales[g] = potptq(w[where], levels)
                case = "potptq/%s/%s/%s" % (name, fmt, granularity)
                put(case + "/codes", codes, "uint8")
                put(case + "/scales", scales, "float32")
            for bits in range(2, 7):
                for eps_name, eps in ("0", 0.0), ("1/32", 2.0**-5):
                    q = np.zeros(w.shape, np.float32)
                    scales = np.zeros((len(groups), 1), np.float32)
                    for g, where in enumerate(groups):
                        q[where], scales[g] = paper(
                            w[where], 2**(bits - 1) - 2, eps)
                    # Signed exponent plus one; 0 for the level 0.
                    m = np.where(q == 0, 0, np.sign(q) * (
                        np.log2(np.abs(q) + (q == 0)) + 1))
                    case = "paper/%s/pot%d/%s/%s" % (
                        name, bits, granularity, eps_name.replace("/", "_"))
                    put(case + "/levels", m, "int8")
                    put(case + "/scales", scales, "float32")

    # round(log2 a), log2 correctly rounded to float32, on the integers that
    # float32 has around every sqrt(2) * 2^e, and every small integer.
    a = list(range(1, 300))
    for e in range(31):
        middle = np.float32(2.0**(e + 0.5))
        for ulps in range(-12, 13):
            x = float(np.float32(middle + ulps * np.spacing(middle)))
            a += [x] if x == round(x) and x >= 1 else [max(1, round(x))]
    a = np.array([a], np.float64).astype(np.float32)
    exact = np.round(np.log2(a.astype(np.float64)).astype(np.float32))
    put("log2/a", a, "float32")
    put("log2/rounded", exact, "int32")
    by_torch = torch.round(torch.log2(torch.from_numpy(a))).numpy()
    print("round(log2 a): torch differs from correct rounding on",
          int((by_torch != exact).sum()), "of", a.size, "; on",
          int((by_torch != exact)[a < 2**15].sum()), "below 2^15",
          file=sys.stderr)

    x = np.concatenate([
        rng.normal(size=(6, 96)), np.abs(rng.normal(size=(2, 96))) * 30,
        -np.abs(rng.normal(size=(2, 96))) * 1e-3,
        rng.standard_t(1.5, size=(4, 96)), np.full((1, 96), 3.25),
        np.full((1, 96), -1e30), np.zeros((1, 96)),
    ]).astype(np.float32)
    put("activation/x", x, "float32")
    for affine, name in (True, "affine"), (False, "symmetric"):
        scales, zeros, codes = activation(x, affine)
        put("activation/%s/scales" % name, scales, "float64")
        put("activation/%s/zeros" % name, zeros, "int32")
        put("activation/%s/codes" % name, codes, "float32")


if __name__ == "__main__":
    main()
