#!/usr/bin/env python3
"""Values and gradients of single ops, by PyTorch in f64: ops.safetensors.

Case `name` has inputs name.x, ..., the result name.y, a gradient name.dy that reaches it and the
gradients name.dx, ... that leave it. tests/golden/ops_golden_test.cc reads them.
"""

import torch
import torch.nn.functional as F

from golden_io import integers, normal, save

tensors = {}


def case(name, fn, **inputs):
    leaves = {key: value.clone().requires_grad_(value.is_floating_point())
              for key, value in inputs.items()}
    y = fn(*leaves.values())
    dy = normal(*y.shape)
    (y * dy).sum().backward()
    for key, leaf in leaves.items():
        tensors[f"{name}.{key}"] = inputs[key]
        if leaf.grad is not None:
            tensors[f"{name}.d{key}"] = leaf.grad
    tensors[f"{name}.y"] = y
    tensors[f"{name}.dy"] = dy


def attention(lengths, window):
    """q, k, v as [n, heads, d]; documents of these lengths, packed."""
    n = sum(lengths)
    document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    query, key = torch.arange(n)[:, None], torch.arange(n)[None, :]
    mask = (document[:, None] == document[None, :]) & (key <= query)
    if window:
        mask &= key > query - window

    def fn(q, k, v):
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        return y[0].transpose(0, 1)

    return fn


# The tails of erf and of the exponentials are reached.
wide = torch.cat((normal(25, scale=2), torch.tensor([0.0, -6, 6, -12, 12], dtype=torch.float64)))
case("gelu", F.gelu, x=wide)
case("silu", F.silu, x=wide)
case("swiglu", lambda gate, up: F.silu(gate) * up, gate=normal(5, 9, scale=2), up=normal(5, 9))
case("pow", lambda x: x.pow(2.5), x=normal(4, 6).abs() + 0.1)
case("where", lambda condition, a, b: torch.where(condition.bool(), a, b),
     condition=integers(2, 3, 1, 5).to(torch.uint8), a=normal(2, 5), b=normal(3, 2, 1))
case("clamp", lambda x: x.clamp(-0.7, 0.4), x=normal(6, 5))
case("layer_norm", lambda x, gain, bias: F.layer_norm(x, (12,), gain, bias, 1e-5),
     x=normal(5, 12, scale=3, mean=1), gain=normal(12, mean=1), bias=normal(12))
case("rms_norm", lambda x, gain: F.rms_norm(x, (12,), gain, 1e-5),
     x=normal(5, 12, scale=0.01), gain=normal(12, mean=1))
case("softmax", lambda x: F.softmax(x, -1), x=normal(4, 9, scale=5))
case("softmax_middle", lambda x: F.softmax(x, 1), x=normal(3, 5, 4, scale=5))
case("log_softmax", lambda x: F.log_softmax(x, -1), x=normal(4, 9, scale=20))
labels = integers(11, 9)
labels[[0, 4, 8]] = -1
case("cross_entropy", lambda x, labels: F.cross_entropy(x, labels, ignore_index=-1, reduction="sum"),
     x=normal(9, 11, scale=4), labels=labels)
case("linear_cross_entropy", lambda x, weight, labels:
     F.cross_entropy(F.linear(x, weight), labels, ignore_index=-1, reduction="sum"),
     x=normal(9, 6), weight=normal(11, 6), labels=labels)
case("embedding", F.embedding, input=torch.tensor([3, 0, 3, 6, 3, 1]), weight=normal(7, 5))
case("linear", F.linear, input=normal(2, 3, 5), weight=normal(4, 5), bias=normal(4))
case("matmul", torch.matmul, input=normal(3, 1, 4, 5), other=normal(2, 5, 3))
case("gather", lambda x, index: x.gather(1, index), x=normal(4, 5, 2), index=integers(5, 3, 6, 2))
case("scatter_add", lambda x, index, src: x.scatter_add(0, index, src),
     x=normal(4, 5), index=integers(4, 7, 3), src=normal(7, 3))
heads = dict(q=normal(18, 4, 8), k=normal(18, 2, 8), v=normal(18, 2, 6))
case("attention", attention([5, 1, 9, 3], 0), **heads)
case("attention_window", attention([5, 1, 9, 3], 4), **heads)
save("ops", tensors)
