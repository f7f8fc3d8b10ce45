#!/usr/bin/python3
"""Writes gptq_goldens.json: what GPTQ must give for small matrices.

An independent GPTQ in NumPy float64, straight from the definition: after each
column the inverse Hessian of the columns that are left is computed anew
(arXiv 2210.17323, equation 2), without any factorization. gptq_test.cc makes
the same weights and inputs by the same arithmetic.
"""

import json
import pathlib

import numpy as np

ROWS, COLS, TOKENS, GROUP = 8, 160, 400, 64
LEVELS = [0] + [1 << i for i in range(7)] + [-(1 << i) for i in range(8)]


def value(a, b):
  """In [-0.5, 0.5), exact in float32."""
  return ((a * 7919 + b * 104729 + (a + 3) * (b + 7) * 31) % 4093) / 4096 - 0.5


def inputs():
  x = np.zeros((TOKENS, COLS), np.float32)
  for t in range(TOKENS):
    mixed = np.float32(0)
    for k in range(COLS):
      mixed = np.float32(value(t, k)) + np.float32(0.75) * mixed
      x[t, k] = 0 if k == 13 else mixed * np.float32(1 + k % 5)
  return x


def weights():
  return np.array([[value(r + 1000, k) * abs(value(r, k + 77)) for k in
                    range(COLS)] for r in range(ROWS)], np.float32)


def nearest(w, scale):
  """The level's value; ties go to the smaller magnitude."""
  best = min(LEVELS, key=lambda level: (abs(w - scale * level), abs(level)))
  return best


def search_scale(group):
  top, best, best_error = 128, 0, np.inf
  levels = np.array(LEVELS, np.float64)
  ratio = 0.04
  for _ in range(64):
    for sign in (1, -1):
      scale = sign * ratio * np.abs(group).max() / top
      error = (np.abs(group[:, None] - scale * levels[None]).min(1) ** 2).sum()
      if error < best_error:
        best, best_error = scale, error
    ratio *= 1.069144897992863
  return float(np.float32(best))


def gptq(w, hessian, order):
  w = w.astype(np.float64).copy()
  scales = np.array([[search_scale(row[g:g + GROUP].astype(np.float64))
                      for g in range(0, COLS, GROUP)] for row in w])
  levels = np.zeros((ROWS, COLS), int)
  left = list(order)
  while left:
    k = left[0]
    inverse = np.linalg.inv(hessian[np.ix_(left, left)])
    for r in range(ROWS):
      scale = scales[r, k // GROUP]
      level = nearest(w[r, k], scale)
      levels[r, k] = level
      error = (w[r, k] - scale * level) / inverse[0, 0]
      for i, column in enumerate(left):
        w[r, column] -= error * inverse[0, i]
    left = left[1:]
  return levels, scales


def refine(w, hessian, order, levels, scales):
  """Two rounds: scales by least squares, then codes one by one."""
  w = w.astype(np.float64)
  root = np.linalg.cholesky(hessian).T  # hessian = root' root
  levels, scales = levels.copy(), scales.copy()
  for _ in range(2):
    for r in range(ROWS):
      groups = range(0, COLS, GROUP)
      columns = np.stack([root[:, g:g + GROUP] @ levels[r, g:g + GROUP]
                          for g in groups], 1)
      scales[r] = np.linalg.lstsq(columns, root @ w[r], rcond=None)[0]
      for k in order:
        step = np.repeat(scales[r], GROUP)[:COLS]
        error = w[r] - levels[r] * step
        best = levels[r, k] * step[k] + error @ hessian[:, k] / hessian[k, k]
        levels[r, k] = nearest(best, step[k])
  return levels, scales


def main():
  x, w = inputs().astype(np.float64), weights()
  hessian = x.T @ x
  mean = np.diag(hessian).mean()
  damped = hessian.copy()
  for k in range(COLS):
    damped[k, k] = mean if damped[k, k] == 0 else damped[k, k] + 0.01 * mean
  goldens = {}
  for name, order in (
      ("given_order", range(COLS)),
      ("activation_order",
       np.argsort(-np.diag(hessian), kind="stable").tolist())):
    levels, scales = gptq(w, damped, order)

    def error(levels, scales):
      quantized = levels * np.repeat(scales, GROUP, axis=1)[:, :COLS]
      return (((w - quantized) @ x.T) ** 2).sum() / ((w @ x.T) ** 2).sum()

    refined = error(*refine(w, damped, order, levels, scales))
    goldens[name] = {"levels": levels.tolist(),
                     "output_error": error(levels, scales),
                     "refined_error": refined}
    print(name, goldens[name]["output_error"], refined)
  path = pathlib.Path(__file__).with_name("gptq_goldens.json")
  path.write_text(json.dumps(goldens, separators=(",", ":")) + "\n")


if __name__ == "__main__":
  main()
