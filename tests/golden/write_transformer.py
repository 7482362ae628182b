#!/usr/bin/env python3
"""A 2-layer decoder in PyTorch: logits, loss, every gradient and three AdamW steps, in f64 and f32.

RMSNorm, rotary pairs (i, i + d/2), grouped queries, causal attention inside documents, SwiGLU; two
samples of packed documents, some labels ignored. Variants: `untied`, and `tied_qk_norm`, whose head is
the embedding and which normalizes queries and keys. Writes transformer.safetensors: batch.*, weight.PATH,
and per variant and type VARIANT.TYPE.logits, .loss, .losses (mean, before each AdamW step and after the
last) and .grad.PATH. tests/golden/transformer_golden_test.cc reads them.
"""

import torch
import torch.nn.functional as F

from golden_io import integers, normal, save

WIDTH, HEADS, KV_HEADS, MLP, VOCAB, LAYERS = 32, 4, 2, 48, 61, 2
D = WIDTH // HEADS
DOCUMENTS = [[5, 1, 7], [3, 5]]  # Lengths, sample by sample.

n = sum(map(sum, DOCUMENTS))
position = torch.cat([torch.arange(sum(sample)) for sample in DOCUMENTS])
lengths = torch.tensor([length for sample in DOCUMENTS for length in sample])
document = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
causal = (document[:, None] == document[None, :]) & torch.ones(n, n).tril().bool()
tokens, labels = integers(VOCAB, n), integers(VOCAB, n)
labels[lengths.cumsum(0) - 1] = -1  # The last token of a document predicts nothing.
labels[2] = -1

weights = {"embedding.weight": normal(VOCAB, WIDTH, scale=0.5)}
for i in range(LAYERS):
    layer = {
        "mixer_norm.gain": normal(WIDTH, scale=0.2, mean=1),
        "mixer.wq": normal(HEADS * D, WIDTH, scale=0.3),
        "mixer.wk": normal(KV_HEADS * D, WIDTH, scale=0.3),
        "mixer.wv": normal(KV_HEADS * D, WIDTH, scale=0.3),
        "mixer.wo": normal(WIDTH, HEADS * D, scale=0.3),
        "mixer.q_norm.gain": normal(D, scale=0.2, mean=1),
        "mixer.k_norm.gain": normal(D, scale=0.2, mean=1),
        "mlp_norm.gain": normal(WIDTH, scale=0.2, mean=1),
        "mlp.gate": normal(MLP, WIDTH, scale=0.3),
        "mlp.up": normal(MLP, WIDTH, scale=0.3),
        "mlp.down": normal(WIDTH, MLP, scale=0.3),
    }
    weights.update({f"layers.{i}.{name}": value for name, value in layer.items()})
weights["final_norm.gain"] = normal(WIDTH, scale=0.2, mean=1)
weights["head.weight"] = normal(VOCAB, WIDTH, scale=0.3)


def rotary(x):
    rates = 10000.0 ** (-torch.arange(0, D, 2, dtype=torch.float64) / D)
    angles = position.double()[:, None] * rates
    cos, sin = (f.to(x.dtype)[:, None, :] for f in (angles.cos(), angles.sin()))
    a, b = x[..., : D // 2], x[..., D // 2 :]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def logits_of(w, tied, qk_norm):
    norm = lambda x, path: F.rms_norm(x, x.shape[-1:], w[path], 1e-5)
    x = w["embedding.weight"][tokens]
    for i in range(LAYERS):
        at = f"layers.{i}."
        h = norm(x, at + "mixer_norm.gain")
        q = F.linear(h, w[at + "mixer.wq"]).view(n, HEADS, D)
        k = F.linear(h, w[at + "mixer.wk"]).view(n, KV_HEADS, D)
        v = F.linear(h, w[at + "mixer.wv"]).view(n, KV_HEADS, D)
        if qk_norm:
            q, k = norm(q, at + "mixer.q_norm.gain"), norm(k, at + "mixer.k_norm.gain")
        q, k, v = (t.transpose(0, 1)[None] for t in (rotary(q), rotary(k), v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=causal, enable_gqa=True)
        x = x + F.linear(y[0].transpose(0, 1).reshape(n, -1), w[at + "mixer.wo"])
        h = norm(x, at + "mlp_norm.gain")
        x = x + F.linear(F.silu(F.linear(h, w[at + "mlp.gate"])) * F.linear(h, w[at + "mlp.up"]),
                         w[at + "mlp.down"])
    head = w["embedding.weight" if tied else "head.weight"]
    return F.linear(norm(x, "final_norm.gain"), head)


def loss_of(logits):
    return F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")


count = int((labels >= 0).sum())
tensors = {"batch.tokens": tokens, "batch.labels": labels, "batch.position": position}
tensors.update({"weight." + path: value for path, value in weights.items()})
for variant, tied, qk_norm in (("untied", False, False), ("tied_qk_norm", True, True)):
    for dtype, label in ((torch.float64, "f64"), (torch.float32, "f32")):
        at = f"{variant}.{label}."
        w = {path: value.to(dtype).clone().requires_grad_() for path, value in weights.items()
             if (qk_norm or ".q_norm." not in path and ".k_norm." not in path)
             and not (tied and path == "head.weight")}
        gains = [value for path, value in w.items() if path.endswith("gain")]
        others = [value for path, value in w.items() if not path.endswith("gain")]
        optimizer = torch.optim.AdamW([dict(params=others, weight_decay=0.1),
                                       dict(params=gains, weight_decay=0.0)],
                                      lr=1e-2, betas=(0.9, 0.95), eps=1e-8, foreach=False)
        losses = []
        for step in range(4):
            logits = logits_of(w, tied, qk_norm)
            loss = loss_of(logits)
            losses.append(loss.item() / count)
            if step == 3:
                break
            optimizer.zero_grad()
            loss.backward()
            if step == 0:
                tensors[at + "logits"], tensors[at + "loss"] = logits, loss
                tensors.update({f"{at}grad.{path}": value.grad.clone() for path, value in w.items()})
            for value in w.values():
                value.grad /= count
            optimizer.step()
        tensors[at + "losses"] = torch.tensor(losses, dtype=torch.float64)
save("transformer", tensors)
