#!/usr/bin/python3
"""Writes gradient_goldens.json: losses and gradients of a tiny GPT-2 by PyTorch
in float64, and ten steps of training by torch.optim.AdamW.

The model is written here from its definition, with PyTorch's own layers. Its
weights and tokens are formulas, which gradient_test.cc has, too:

  element i of tensor t (Gpt2Tensors' order, matrices as [out][in]):
      base + amplitude * sin(1 + 0.37 i + 1.7 t)
  token of sequence b at position p: (7 b + 3 p + p^2) mod V

Of each gradient three projections are kept: with 1, cos(i) and sin(0.1 i^2).
"""
import json
import math
import os

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

L, H, C, I, P, V = 2, 2, 12, 20, 9, 23
B, T = 3, 7
EPSILON = 1e-5


def shapes(tied):
    out = [("wte.weight", (V, C)), ("wpe.weight", (P, C))]
    for l in range(L):
        h = f"h.{l}."
        out += [(h + "ln_1.weight", (C,)), (h + "ln_1.bias", (C,)),
                (h + "attn.c_attn.weight", (3 * C, C)),
                (h + "attn.c_attn.bias", (3 * C,)),
                (h + "attn.c_proj.weight", (C, C)),
                (h + "attn.c_proj.bias", (C,)),
                (h + "ln_2.weight", (C,)), (h + "ln_2.bias", (C,)),
                (h + "mlp.c_fc.weight", (I, C)), (h + "mlp.c_fc.bias", (I,)),
                (h + "mlp.c_proj.weight", (C, I)),
                (h + "mlp.c_proj.bias", (C,))]
    out += [("ln_f.weight", (C,)), ("ln_f.bias", (C,))]
    if not tied:
        out.append(("lm_head.weight", (V, C)))
    return out


def parameters(tied, shift=0.0):
    params = {}
    for t, (name, shape) in enumerate(shapes(tied)):
        gain = "ln_" in name and name.endswith("weight")
        count = math.prod(shape)
        i = torch.arange(count)
        values = (1.0 if gain else 0.0) + 0.3 * torch.sin(
            1 + 0.37 * i + 1.7 * t + shift)
        params[name] = values.reshape(shape).requires_grad_()
    return params


def tokens():
    b = torch.arange(B)[:, None]
    p = torch.arange(T + 1)[None, :]
    return (7 * b + 3 * p + p * p) % V


def logits(params, inputs, exact_gelu):
    def norm(x, name):
        return F.layer_norm(x, (C,), params[name + ".weight"],
                            params[name + ".bias"], EPSILON)

    def linear(x, name):
        return F.linear(x, params[name + ".weight"], params[name + ".bias"])

    length = inputs.shape[1]
    x = params["wte.weight"][inputs] + params["wpe.weight"][:length]
    mask = torch.tril(torch.ones(length, length)) == 0
    for l in range(L):
        h = f"h.{l}."
        q, k, v = linear(norm(x, h + "ln_1"), h + "attn.c_attn").split(C, 2)

        def heads(y):
            return y.view(B, length, H, C // H).transpose(1, 2)

        scores = heads(q) @ heads(k).transpose(2, 3) / math.sqrt(C // H)
        weights = scores.masked_fill(mask, -math.inf).softmax(-1)
        attended = (weights @ heads(v)).transpose(1, 2).reshape(B, length, C)
        x = x + linear(attended, h + "attn.c_proj")
        hidden = linear(norm(x, h + "ln_2"), h + "mlp.c_fc")
        if exact_gelu:
            hidden = F.gelu(hidden)
        else:
            hidden = 0.5 * hidden * (1 + torch.tanh(
                math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden ** 3)))
        x = x + linear(hidden, h + "mlp.c_proj")
    return norm(x, "ln_f") @ params.get("lm_head.weight",
                                        params["wte.weight"]).T


def loss_of(params, case, teacher=None):
    text = tokens()
    z = logits(params, text[:, :-1], case["exact_gelu"])
    targets = text[:, 1:]
    if case["last_position"]:
        z, targets = z[:, -1:], targets[:, -1:]
    loss = case["ce"] * F.cross_entropy(z.reshape(-1, V), targets.reshape(-1))
    if teacher is not None:
        with torch.no_grad():
            u = logits(teacher, text[:, :-1], case["exact_gelu"])
        if case["last_position"]:
            u = u[:, -1:]
        t = case["temperature"]
        log_q = F.log_softmax(u / t, -1).reshape(-1, V)
        log_p = F.log_softmax(z / t, -1).reshape(-1, V)
        loss = loss + case["kl"] * t * t * F.kl_div(
            log_p, log_q, reduction="batchmean", log_target=True)
    return loss


def projections(gradient):
    g = gradient.reshape(-1)
    i = torch.arange(g.numel())
    return [g.sum().item(), (g * torch.cos(i.double())).sum().item(),
            (g * torch.sin(0.1 * i * i)).sum().item()]


def gradient_case(case):
    params = parameters(case["tied"])
    teacher = parameters(case["tied"], shift=0.5) if case["kl"] > 0 else None
    loss = loss_of(params, case, teacher)
    loss.backward()
    return dict(case, loss=loss.item(),
                gradients=[projections(p.grad) for p in params.values()])


def training_case():
    case = dict(tied=True, exact_gelu=False, last_position=False, ce=1, kl=0,
                temperature=1)
    params = parameters(True)
    matrices = [p for p in params.values() if p.dim() == 2]
    others = [p for p in params.values() if p.dim() != 2]
    optimizer = torch.optim.AdamW(
        [dict(params=matrices, weight_decay=0.1),
         dict(params=others, weight_decay=0.0)],
        lr=1e-2, betas=(0.9, 0.95), eps=1e-8)
    losses, norms = [], []
    for _ in range(10):
        optimizer.zero_grad()
        loss = loss_of(params, case)
        loss.backward()
        losses.append(loss.item())
        norms.append(
            torch.nn.utils.clip_grad_norm_(params.values(), 0.5).item())
        optimizer.step()
    return dict(losses=losses, norms=norms)


def main():
    base = dict(tied=True, exact_gelu=False, last_position=False, ce=1.0,
                kl=0.0, temperature=1.0)
    cases = [base,
             dict(base, tied=False, exact_gelu=True),
             dict(base, last_position=True),
             dict(base, ce=0.7, kl=0.6, temperature=2.0),
             dict(base, ce=0.0, kl=1.0, last_position=True)]
    goldens = dict(
        made_by="tests/trainer/gpt2/make_gradient_goldens.py, torch "
                + torch.__version__,
        config=dict(n_layer=L, n_head=H, n_embd=C, n_inner=I, n_positions=P,
                    vocab_size=V),
        sequences=B, context=T,
        cases=[gradient_case(case) for case in cases],
        training=training_case())
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                        "gradient_goldens.json")
    with open(path, "w") as f:
        json.dump(goldens, f, indent=1)
        f.write("\n")


main()
