#!/usr/bin/env python3
"""Layers of linear attention against public implementations: outputs and every gradient, in f64.

Wants flash-linear-attention 0.6 and transformers 5 beside torch. Their layers and token-by-token functions are called
with the weights of ours, document by document; where neither has a layer on the CPU, its forward pass is written out
here from the paper around their recurrence. They round to f32 inside; here they are told not to. Writes
attention.safetensors: x, dy, and for each case CASE.weight.NAME, CASE.grad.NAME, CASE.y and CASE.dx.
tests/golden/attention_golden_test.cc reads them.
"""

import math
import sys
import warnings

import torch
import torch.nn.functional as F
from torch.func import functional_call

from golden_io import normal, save

warnings.filterwarnings("ignore")
torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double

sys.modules["fla"] = None  # transformers would take its kernels, which want a GPU.
from transformers.models.mamba2 import modeling_mamba2 as hf_mamba2
from transformers.models.minimax import modeling_minimax as hf_minimax
from transformers.models.qwen3_next import modeling_qwen3_next as hf_qwen

del sys.modules["fla"]
import fla.modules.feature_map as feature_map
import fla.ops.delta_rule.naive as fla_delta
import fla.ops.generalized_delta_rule.dplr.naive as fla_dplr
import fla.ops.gla.naive as fla_gla
import fla.ops.kda.naive as fla_kda
import fla.ops.linear_attn.naive as fla_linear
import fla.ops.retention.naive as fla_retention


class Wide:
    """torch, but for what rounds to f32."""

    float = float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


for module in (fla_delta, fla_dplr, fla_gla, fla_kda, fla_linear, fla_retention, hf_mamba2, hf_minimax, hf_qwen):
    module.torch = Wide()

WIDTH, HEADS, EPSILON, LAYER, LAYERS = 16, 2, 1e-5, 1, 4
DOCUMENTS = [5, 1, 20, 3, 5]  # Of two samples; longer than a block of 16 tokens, and one token.

n = sum(DOCUMENTS)
x_all, dy_all = normal(n, WIDTH), normal(n, WIDTH)


def weight(*shape, mean=0.0):
    return normal(*shape, scale=0.4, mean=mean)


def heads(x, width):
    """[t, h * width] as [1, t, h, width]."""
    return x.view(1, x.shape[0], -1, width)


def rms(x, gain):
    return F.rms_norm(x, gain.shape, gain, EPSILON)


def l2(x):
    return x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt()


def short_conv(x, w, bias=None):
    y = F.conv1d(F.pad(x.T, (w.shape[1] - 1, 0))[None], w[:, None], bias, groups=w.shape[0])
    return F.silu(y[0].T)


def rotary(x):
    d = x.shape[-1]
    angles = torch.arange(x.shape[1])[:, None] * 10000.0 ** (-torch.arange(0, d, 2) / d)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    a, b = x[..., : d // 2], x[..., d // 2 :]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


CASES = {}


def case(**weights):
    """The function's name is the case's; weights as they are declared."""

    def register(layer):
        CASES[layer.__name__] = (weights, layer)
        return layer

    return register


QKV = dict(wq=weight(16, WIDTH), wk=weight(16, WIDTH), wv=weight(16, WIDTH))


def linear_layer(w, x, phi_q, phi_k, normalize):
    q, k, v = (heads(x @ w[name].T, 8) for name in ("wq", "wk", "wv"))
    o, _ = fla_linear.naive_recurrent_linear_attn(phi_q(q), phi_k(k), v, normalize=normalize)
    return o.flatten(2)[0]


@case(**QKV, wo=weight(WIDTH, 16))
def linear(w, x):
    phi = lambda x: F.elu(x) + 1
    return linear_layer(w, x, phi, phi, True) @ w["wo"].T


@case(**QKV, wo=weight(WIDTH, 16), **{"o_norm.gain": weight(8, mean=1)})
def linear_relu(w, x):
    o = linear_layer(w, x, torch.relu, torch.relu, False)
    return rms(heads(o, 8), w["o_norm.gain"]).flatten(2)[0] @ w["wo"].T


@case(**QKV, wo=weight(WIDTH, 16))
def linear_taylor(w, x):
    phi = feature_map.TaylorFeatureMap(8)
    return linear_layer(w, x, phi, phi, True) @ w["wo"].T


@case(**QKV, wo=weight(WIDTH, 16))
def linear_dpfp(w, x):
    phi = feature_map.DPFPFeatureMap(8, nu=4)
    return linear_layer(w, x, phi, phi, False) @ w["wo"].T


# Hedgehog as its authors have it since LoLCATs (Zhang et al. 2024): a map for each head, two softmaxes. fla shares one
# map, and takes one softmax of both halves, times two.
@case(**QKV, wo=weight(WIDTH, 16), q_map=weight(16, 8), k_map=weight(16, 8))
def linear_hedgehog(w, x):
    def phi(name):
        def apply(x):
            y = torch.einsum("bthd,hed->bthe", x, w[name].view(2, 8, 8))
            return torch.cat((y.softmax(-1), (-y).softmax(-1)), -1)
        return apply
    return linear_layer(w, x, phi("q_map"), phi("k_map"), True) @ w["wo"].T


@case(**QKV, wg=weight(16, WIDTH), wo=weight(WIDTH, 16), **{"o_norm.gain": weight(16, mean=1)})
def lightning(w, x):
    config = hf_minimax.MiniMaxConfig(hidden_size=WIDTH, num_attention_heads=HEADS, head_dim=8, hidden_act="silu",
                                      num_hidden_layers=LAYERS, block_size=16)
    layer = hf_minimax.MiniMaxLightningAttention(config, LAYER)
    layer.norm.variance_epsilon = EPSILON
    # Rows of q, k and v alternate by heads.
    qkv = torch.cat([w[name].view(HEADS, 8, WIDTH) for name in ("wq", "wk", "wv")], 1).view(-1, WIDTH)
    state = {"qkv_proj.weight": qkv, "output_gate.weight": w["wg"], "out_proj.weight": w["wo"],
             "norm.weight": w["o_norm.gain"]}
    return functional_call(layer, state, (x[None], None, None))[0][0]


@case(wq=weight(16, WIDTH), wk=weight(16, WIDTH), wv=weight(32, WIDTH), wg=weight(32, WIDTH), wo=weight(WIDTH, 32),
      **{"o_norm.gain": weight(16, mean=1)})
def retention(w, x):
    q, k = (rotary(heads(x @ w[name].T, 8)) for name in ("wq", "wk"))
    v = heads(x @ w["wv"].T, 16)
    o = fla_retention.naive_retention(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2)
    return (rms(o, w["o_norm.gain"]).flatten(2)[0] * F.silu(x @ w["wg"].T)) @ w["wo"].T


@case(wq=weight(8, WIDTH), wk=weight(8, WIDTH), wv=weight(16, WIDTH), wg=weight(16, WIDTH), gate_down=weight(3, WIDTH),
      gate_up=weight(8, 3), gate_bias=weight(8), wo=weight(WIDTH, 16), **{"o_norm.gain": weight(8, mean=1)})
def gla(w, x):
    q, k = (heads(x @ w[name].T, 4) for name in ("wq", "wk"))
    g = F.logsigmoid(x @ w["gate_down"].T @ w["gate_up"].T + w["gate_bias"]) / 16
    o, _ = fla_gla.naive_recurrent_gla(q, k, heads(x @ w["wv"].T, 8), heads(g, 4))
    return (rms(o, w["o_norm.gain"]).flatten(2)[0] * F.silu(x @ w["wg"].T)) @ w["wo"].T


@case(wq=weight(16, WIDTH), wf=weight(16, WIDTH), wv=weight(16, WIDTH), wo=weight(WIDTH, 16),
      **{"o_norm.gain": weight(16, mean=1)})
def hgrn2(w, x):
    bound = torch.tensor(LAYER / LAYERS)
    g = F.logsigmoid(x @ w["wf"].T)
    g = torch.logaddexp(bound.log(), torch.log1p(-bound) + g)
    q, k, v, g = (heads(t, 8) for t in (F.silu(x @ w["wq"].T), 1 - g.exp(), x @ w["wv"].T, g))
    o, _ = fla_gla.naive_recurrent_gla(q, k, v, g)
    return rms(o.flatten(2)[0], w["o_norm.gain"]) @ w["wo"].T


def mamba2_layer(w, x, groups):
    config = hf_mamba2.Mamba2Config(hidden_size=WIDTH, num_heads=4, head_dim=8, expand=2, state_size=5, conv_kernel=4,
                                    n_groups=groups, chunk_size=8, layer_norm_epsilon=EPSILON, num_hidden_layers=1,
                                    use_bias=False)
    layer = hf_mamba2.Mamba2Mixer(config, 0).eval()
    conv = torch.cat([w[name] for name in ("x_conv", "b_conv", "c_conv")])
    state = {"in_proj.weight": torch.cat([w[name] for name in ("wz", "wx", "wb", "wc", "wdt")]),
             "conv1d.weight": conv[:, None],
             "conv1d.bias": torch.cat([w[name] for name in ("x_conv_bias", "b_conv_bias", "c_conv_bias")]),
             "dt_bias": w["dt_bias"], "A_log": w["a_log"], "D": w["d"], "norm.weight": w["o_norm.gain"],
             "out_proj.weight": w["wo"]}
    return functional_call(layer, state, (x[None],))[0]


def mamba2_weights(groups):
    g = 5 * groups
    return dict(wz=weight(32, WIDTH), wx=weight(32, WIDTH), wb=weight(g, WIDTH), wc=weight(g, WIDTH),
                wdt=weight(4, WIDTH), x_conv=weight(32, 4), x_conv_bias=weight(32), b_conv=weight(g, 4),
                b_conv_bias=weight(g), c_conv=weight(g, 4), c_conv_bias=weight(g), a_log=weight(4), dt_bias=weight(4),
                d=weight(4), wo=weight(WIDTH, 32), **{"o_norm.gain": weight(32, mean=1)})


@case(**mamba2_weights(1))
def mamba2(w, x):
    return mamba2_layer(w, x, 1)


@case(**mamba2_weights(2))
def mamba2_groups(w, x):
    return mamba2_layer(w, x, 2)


DELTA = dict(wq=weight(16, WIDTH), wk=weight(16, WIDTH), wv=weight(16, WIDTH), wb=weight(2, WIDTH),
             q_conv=weight(16, 4), k_conv=weight(16, 4), v_conv=weight(16, 4), wo=weight(WIDTH, 16),
             **{"o_norm.gain": weight(8, mean=1)})


def delta_qkv(w, x, width):
    q, k = (l2(heads(short_conv(x @ w[f"w{p}"].T, w[f"{p}_conv"]), width)) for p in "qk")
    return q, k, short_conv(x @ w["wv"].T, w["v_conv"])


def deltanet_layer(w, x, beta_scale):
    q, k, v = delta_qkv(w, x, 8)
    beta = beta_scale * (x @ w["wb"].T).sigmoid()[None]
    o, _ = fla_delta.delta_rule_recurrence(*(t.transpose(1, 2) for t in (q, k, heads(v, 8), beta)))
    return rms(o.transpose(1, 2), w["o_norm.gain"]).flatten(2)[0] @ w["wo"].T


@case(**DELTA)
def deltanet(w, x):
    return deltanet_layer(w, x, 1)


@case(**DELTA)
def deltanet_negative(w, x):
    return deltanet_layer(w, x, 2)


@case(wq=weight(8, WIDTH), wk=weight(8, WIDTH), wv=weight(24, WIDTH), wb=weight(4, WIDTH), q_conv=weight(8, 4),
      k_conv=weight(8, 4), v_conv=weight(24, 4), wa=weight(4, WIDTH), wg=weight(24, WIDTH), a_log=weight(4),
      dt_bias=weight(4), wo=weight(WIDTH, 24), **{"o_norm.gain": weight(6, mean=1)})
def gated_deltanet(w, x):
    config = hf_qwen.Qwen3NextConfig(hidden_size=WIDTH, linear_num_value_heads=4, linear_num_key_heads=2,
                                     linear_key_head_dim=4, linear_value_head_dim=6, linear_conv_kernel_dim=4,
                                     hidden_act="silu", rms_norm_eps=EPSILON, num_hidden_layers=1)
    layer = hf_qwen.Qwen3NextGatedDeltaNet(config, 0)
    by_key_head = lambda names: torch.cat([w[name].view(2, -1, WIDTH) for name in names], 1).reshape(-1, WIDTH)
    state = {"in_proj_qkvz.weight": by_key_head(("wq", "wk", "wv", "wg")), "in_proj_ba.weight": by_key_head(("wb", "wa")),
             "conv1d.weight": torch.cat([w[name] for name in ("q_conv", "k_conv", "v_conv")])[:, None],
             "dt_bias": w["dt_bias"], "A_log": w["a_log"], "norm.weight": w["o_norm.gain"], "out_proj.weight": w["wo"]}
    return functional_call(layer, state, (x[None],))[0]


KDA = dict(wq=weight(16, WIDTH), wk=weight(16, WIDTH), wv=weight(24, WIDTH), wb=weight(4, WIDTH), q_conv=weight(16, 4),
           k_conv=weight(16, 4), v_conv=weight(24, 4), f_down=weight(6, WIDTH), f_up=weight(32, 6), a_log=weight(4),
           dt_bias=weight(32), g_down=weight(6, WIDTH), g_up=weight(24, 6), g_bias=weight(24), wo=weight(WIDTH, 24),
           **{"o_norm.gain": weight(6, mean=1)})


def kda_layer(w, x, log_decay):
    q, k, v = delta_qkv(w, x, 8)
    f = heads(x @ w["f_down"].T @ w["f_up"].T + w["dt_bias"], 8)
    beta = (x @ w["wb"].T).sigmoid()[None]
    o, _ = fla_kda.naive_recurrent_kda(q, k, heads(v, 6), log_decay(f, w["a_log"].exp()[:, None]), beta)
    g = x @ w["g_down"].T @ w["g_up"].T + w["g_bias"]
    return (rms(o, w["o_norm.gain"]).flatten(2)[0] * g.sigmoid()) @ w["wo"].T


@case(**KDA)
def kda(w, x):
    return kda_layer(w, x, lambda f, a: -a * F.softplus(f))


@case(**KDA)
def kda_bounded(w, x):
    return kda_layer(w, x, lambda f, a: -5 * (a * f).sigmoid())


# fla's MoM lets convolutions run over the tokens of a memory, whose neighbours then hang on the router, and in training
# from one memory to the next; here they run over the tokens of the document. Each memory sees its own tokens alone.
@case(wq=weight(8, WIDTH), wg=weight(12, WIDTH), router=weight(3, WIDTH), q_conv=weight(8, 4), k_conv=weight(8, 4),
      v_conv=weight(12, 4), a_log=weight(2), dt_bias=weight(2), wo=weight(WIDTH, 12),
      **{f"w{p}_{e}": weight(rows, WIDTH) for e in (0, 1, 2, "shared")
         for p, rows in (("k", 8), ("v", 12), ("b", 2), ("a", 2))}, **{"o_norm.gain": weight(6, mean=1)})
def mom(w, x):
    q = heads(short_conv(x @ w["wq"].T, w["q_conv"]), 4)
    p = (x @ w["router"].T).softmax(-1)
    picked, memories = p.topk(2, -1)
    picked = picked / picked.sum(-1, keepdim=True)
    o = torch.zeros(x.shape[0], 2, 6)
    for e in (0, 1, 2, "shared"):
        rows, place = (torch.arange(x.shape[0]), None) if e == "shared" else (memories == e).nonzero(as_tuple=True)
        if len(rows) == 0:
            continue
        k = heads(short_conv(x @ w[f"wk_{e}"].T, w["k_conv"]), 4)
        v = heads(short_conv(x @ w[f"wv_{e}"].T, w["v_conv"]), 6)
        beta = (x @ w[f"wb_{e}"].T).sigmoid()[None]
        g = -w["a_log"].exp() * F.softplus(x @ w[f"wa_{e}"].T + w["dt_bias"])[None]
        own, _ = hf_qwen.torch_recurrent_gated_delta_rule(*(t[:, rows] for t in (q, k, v, g, beta)),
                                                          use_qk_l2norm_in_kernel=True)
        own = own[0] if place is None else own[0] * picked[rows, place][:, None, None]
        o = o.index_add(0, rows, own)
    return (rms(o, w["o_norm.gain"]).flatten(1) * F.silu(x @ w["wg"].T)) @ w["wo"].T


# fla says of its RWKV-7 layer that it may be wrong; this is the authors' layer of the first block (BlinkDL/RWKV-LM,
# RWKV-v7), around fla's recurrence, which divides by sqrt(d).
@case(**{f"x_{p}": weight(WIDTH) for p in "rwkvag"}, wr=weight(16, WIDTH), wk=weight(16, WIDTH), wv=weight(16, WIDTH),
      decay_down=weight(3, WIDTH), decay_up=weight(16, 3), decay_bias=weight(16), rate_down=weight(2, WIDTH),
      rate_up=weight(16, 2), rate_bias=weight(16), gate_down=weight(3, WIDTH), gate_up=weight(16, 3),
      k_k=weight(16, mean=1), k_a=weight(16), r_k=weight(16), wo=weight(WIDTH, 16),
      **{"o_norm.gain": weight(16, mean=1), "o_norm.bias": weight(16)})
def rwkv7(w, x):
    step = F.pad(x, (0, 0, 1, -1)) - x
    xr, xw, xk, xv, xa, xg = (x + step * w[f"x_{p}"] for p in "rwkvag")
    r, k, v = xr @ w["wr"].T, xk @ w["wk"].T, xv @ w["wv"].T
    log_decay = -math.exp(-0.5) * ((xw @ w["decay_down"].T).tanh() @ w["decay_up"].T + w["decay_bias"]).sigmoid()
    eta = (xa @ w["rate_down"].T @ w["rate_up"].T + w["rate_bias"]).sigmoid()
    g = (xg @ w["gate_down"].T).sigmoid() @ w["gate_up"].T
    kappa = l2(heads(k * w["k_k"], 8)).flatten(2)[0]
    k = k * (1 + (eta - 1) * w["k_a"])
    rows = [heads(t, 8).transpose(1, 2) for t in (r * math.sqrt(8), k, v, -kappa, kappa * eta, log_decay)]
    o = fla_dplr.dplr_recurrence(*rows)[0].transpose(1, 2).flatten(2)[0]
    o = F.group_norm(o, HEADS, w["o_norm.gain"], w["o_norm.bias"], eps=8 * EPSILON)
    own = (heads(r * k * w["r_k"], 8).sum(-1, keepdim=True) * heads(v, 8)).flatten(2)[0]
    return ((o + own) * g) @ w["wo"].T


tensors = {"x": x_all, "dy": dy_all}
for name, (weights, layer) in CASES.items():
    w = {key: value.clone().requires_grad_() for key, value in weights.items()}
    x = x_all.clone().requires_grad_()
    y = torch.cat([layer(w, rows) for rows in x.split(DOCUMENTS)])
    (y * dy_all).sum().backward()
    assert y.dtype == torch.float64 and y.shape == x.shape, name
    tensors.update({f"{name}.y": y, f"{name}.dx": x.grad})
    tensors.update({f"{name}.weight.{key}": value for key, value in w.items()})
    tensors.update({f"{name}.grad.{key}": value.grad for key, value in w.items()})
save("attention", tensors)
