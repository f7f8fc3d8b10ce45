#!/usr/bin/python3
"""Writes potptq_goldens.json (needs python3-numpy, python3-torch).

PoTPTQ's Gamma after some steps, by PyTorch's autograd and AdamW in float64,
with the straight-through estimator written as a graph. potptq_test.cc makes the
same weights by the same arithmetic.
"""

import json
import pathlib
import sys

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "engine" / "quant"))
import make_quantizer_goldens as quantizer  # noqa: E402

ROWS, COLS, GROUP, STEPS = 4, 80, 32, 6


def value(a, b):
  """In [-0.5, 0.5), exact in float32."""
  return ((a * 7919 + b * 104729 + (a + 3) * (b + 7) * 31) % 4093) / 4096 - 0.5


def nearest_in_log2(x, levels):
  """Of a book without 0."""
  book = np.array(levels, np.float64)
  distance = np.abs(np.log2(np.abs(x))[..., None] - np.log2(np.abs(book)))
  distance[(x < 0)[..., None] != (book < 0)] = np.inf
  return book[distance.argmin(-1)]


def main():
  w = np.array([[value(r + 500, k) for k in range(COLS)] for r in range(ROWS)])
  importance = torch.tensor([[1 + value(k, r) for k in range(COLS)]
                             for r in range(ROWS)])
  goldens = {}
  for name in "pot2-strict", "twohot4":
    levels = quantizer.levels_of(name)
    groups = [slice(g, min(g + GROUP, COLS)) for g in range(0, COLS, GROUP)]
    start = torch.tensor([[float(quantizer.potptq(row[g].astype(np.float32),
                                                  levels)[1])
                           for g in groups] for row in w])
    gamma = torch.zeros_like(start, requires_grad=True)
    adam = torch.optim.AdamW([gamma], lr=0.05, betas=(0.9, 0.999), eps=1e-8,
                             weight_decay=0.1)
    repeat = torch.tensor([k // GROUP for k in range(COLS)])
    target = torch.tensor(w)
    for _ in range(STEPS):
      s = (start * (1 + gamma))[:, repeat]
      x = target / s
      level = torch.tensor(nearest_in_log2(x.detach().numpy(), levels))
      inside = x.detach().abs() <= max(levels)
      # Forward s * level; the rounding's derivative is taken as 1 inside.
      through = level + torch.where(inside, x - x.detach(), torch.zeros_like(x))
      loss = 0.5 * (importance * (s * through - target)**2).sum()
      adam.zero_grad()
      loss.backward()
      adam.step()
    goldens[name] = gamma.detach().flatten().tolist()
    print(name, "largest Gamma", float(gamma.abs().max()))
  (HERE / "potptq_goldens.json").write_text(
      json.dumps(goldens, indent=1) + "\n")


if __name__ == "__main__":
  main()
