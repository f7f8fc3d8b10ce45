#!/usr/bin/python3
"""Prints the median seconds of a training step of GPT-2 124M in PyTorch.

Usage: torch_step.py THREADS REPETITIONS

fp32, unquantized, batch 12 x 64, random weights, AdamW: the baseline of
pot-bench's train.vs_torch. The model is written with PyTorch's own layers, as
nobody needs transformers for it. Exits with 1 where torch multiplies by the
reference BLAS, a hundred times slower than its users have it: Debian's
python3-torch takes OpenBLAS once libopenblas0-pthread is installed.
"""
import statistics
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

L, H, C, P, V = 12, 12, 768, 1024, 50257
B, T = 12, 64


class Layer(nn.Module):

  def __init__(self):
    super().__init__()
    self.ln1, self.ln2 = nn.LayerNorm(C), nn.LayerNorm(C)
    self.qkv, self.proj = nn.Linear(C, 3 * C), nn.Linear(C, C)
    self.fc, self.out = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

  def forward(self, x, mask):
    q, k, v = (y.view(B, T, H, C // H).transpose(1, 2)
               for y in self.qkv(self.ln1(x)).split(C, 2))
    scores = q @ k.transpose(2, 3) * (C // H) ** -0.5
    weights = scores.masked_fill(mask, float("-inf")).softmax(-1)
    x = x + self.proj((weights @ v).transpose(1, 2).reshape(B, T, C))
    return x + self.out(F.gelu(self.fc(self.ln2(x))))


class Gpt2(nn.Module):

  def __init__(self):
    super().__init__()
    self.wte, self.wpe = nn.Embedding(V, C), nn.Embedding(P, C)
    self.layers = nn.ModuleList(Layer() for _ in range(L))
    self.ln = nn.LayerNorm(C)
    for parameter in self.parameters():
      if parameter.dim() == 2:
        nn.init.normal_(parameter, std=0.02)

  def forward(self, tokens, mask):
    x = self.wte(tokens) + self.wpe(torch.arange(T))
    for layer in self.layers:
      x = layer(x, mask)
    return self.ln(x) @ self.wte.weight.T


def check_blas():
  a, b = torch.randn(C, C), torch.randn(C, C)
  a @ b
  begin = time.perf_counter()
  a @ b
  if 2 * C ** 3 / (time.perf_counter() - begin) < 10e9:
    sys.exit("torch multiplies by the reference BLAS; install "
             "libopenblas0-pthread")


def main():
  torch.set_num_threads(int(sys.argv[1]))
  check_blas()
  model = Gpt2()
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
  mask = torch.tril(torch.ones(T, T)) == 0
  seconds = []
  for _ in range(int(sys.argv[2]) + 1):
    tokens = torch.randint(V, (B, T + 1))
    begin = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    logits = model(tokens[:, :-1], mask)
    F.cross_entropy(logits.view(-1, V), tokens[:, 1:].reshape(-1)).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    seconds.append(time.perf_counter() - begin)
  print(f"{statistics.median(seconds[1:]):.4f}")


main()
