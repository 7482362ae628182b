#!/usr/bin/env python3
"""The training step of tests/bench/step_bench.cc in PyTorch, with PyTorch's best settings on a CPU.

A decoder-only transformer (width 512, 8 heads, 8 key-value heads, SwiGLU 1408, 6 layers, vocabulary
8192, untied head), 8 sequences of 512 tokens, AdamW. Every combination of type, thread count and way
of running is timed in a process of its own; a JSON line each goes to standard output.

  python3 tests/bench/step_torch.py                     # everything
  python3 tests/bench/step_torch.py --dtype f32 --threads 1 --mode compile --seconds 20

Ways of running (--mode): eager, compile (torch.compile, inductor), compile_autotune (with its GEMM
templates); with _fused behind, q|k|v and gate|up lie side by side in one weight. bf16 comes in two
types: bf16_autocast (f32 weights, cast by autocast) and bf16_master (bf16 weights and activations, f32
master weights for AdamW). f32 products are full f32 (no bf16 or TF32 inside).
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time

WIDTH, HEADS, MLP, LAYERS, VOCAB = 512, 8, 1408, 6, 8192
LENGTH, BATCH = 512, 8
HEAD_DIM = WIDTH // HEADS

# PyTorch returns large blocks to the system after every use unless glibc is told to keep them: every
# activation would be paged in anew in every step.
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(32 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "OMP_PROC_BIND": "true",
}


def model_flops():
    """Per step, backward included: six per weight and token, and half the attention square."""
    weights = LAYERS * (4 * WIDTH * WIDTH + 3 * WIDTH * MLP) + VOCAB * WIDTH
    attention = LAYERS * 3 * 2 * 2 * LENGTH * LENGTH * WIDTH // 2
    return 6 * weights * BATCH * LENGTH + attention * BATCH


def build(torch, fused):
    nn, functional = torch.nn, torch.nn.functional

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.mixer_norm = nn.RMSNorm(WIDTH, eps=1e-5)
            self.mlp_norm = nn.RMSNorm(WIDTH, eps=1e-5)
            linear = lambda rows, columns: nn.Linear(columns, rows, bias=False)
            if fused:
                self.wqkv = linear(3 * WIDTH, WIDTH)
                self.gate_up = linear(2 * MLP, WIDTH)
            else:
                self.wq, self.wk, self.wv = (linear(WIDTH, WIDTH) for _ in range(3))
                self.gate, self.up = linear(MLP, WIDTH), linear(MLP, WIDTH)
            self.wo = linear(WIDTH, WIDTH)
            self.down = linear(WIDTH, MLP)

        def heads(self, x):
            return x.view(BATCH, LENGTH, HEADS, HEAD_DIM).transpose(1, 2)

        def forward(self, x, cos, sin):
            h = self.mixer_norm(x)
            if fused:
                q, k, v = self.wqkv(h).split(WIDTH, dim=-1)
            else:
                q, k, v = self.wq(h), self.wk(h), self.wv(h)
            q, k = rotary(self.heads(q), cos, sin), rotary(self.heads(k), cos, sin)
            mixed = functional.scaled_dot_product_attention(q, k, self.heads(v), is_causal=True)
            x = x + self.wo(mixed.transpose(1, 2).reshape(BATCH, LENGTH, WIDTH))
            h = self.mlp_norm(x)
            gate, up = (self.gate_up(h).split(MLP, dim=-1) if fused else (self.gate(h), self.up(h)))
            return x + self.down(functional.silu(gate) * up)

    def rotary(x, cos, sin):
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(VOCAB, WIDTH)
            nn.init.normal_(self.embedding.weight, std=0.02)
            self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
            self.final_norm = nn.RMSNorm(WIDTH, eps=1e-5)
            self.head = nn.Linear(WIDTH, VOCAB, bias=False)
            rates = 10000.0 ** (-torch.arange(0, HEAD_DIM, 2).double() / HEAD_DIM)
            angles = torch.arange(LENGTH).double()[:, None] * rates
            self.register_buffer("cos", angles.cos().float())
            self.register_buffer("sin", angles.sin().float())

        def forward(self, tokens, labels):
            x = self.embedding(tokens)
            cos, sin = self.cos, self.sin
            for layer in self.layers:
                x = layer(x, cos, sin)
            logits = self.head(self.final_norm(x)).view(BATCH * LENGTH, VOCAB)
            return functional.cross_entropy(logits.float(), labels.view(-1))

    return Model()


def measure(args):
    import torch

    torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision("highest")
    torch.set_flush_denormal(True)
    torch.manual_seed(1)
    if "autotune" in args.mode:
        import torch._inductor.config as inductor

        inductor.max_autotune = True

    model = build(torch, args.mode.endswith("_fused"))
    master = None
    weights = list(model.parameters())
    if args.dtype == "bf16_master":
        model.to(torch.bfloat16)
        weights = list(model.parameters())
        master = [w.detach().float().requires_grad_() for w in weights]
        for m in master:
            m.grad = torch.zeros_like(m)
    optimizer = torch.optim.AdamW(master or weights, lr=3e-4, betas=(0.9, 0.95), eps=1e-8,
                                  weight_decay=0.1, fused=True)
    forward = model if args.mode.startswith("eager") else torch.compile(model)

    def step(tokens, labels):
        with torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "bf16_autocast"):
            loss = forward(tokens, labels)
        loss.backward()
        if master:
            torch._foreach_copy_([m.grad for m in master], [w.grad for w in weights])
        optimizer.step()
        if master:
            with torch.no_grad():
                torch._foreach_copy_(weights, master)
        for w in weights:
            w.grad = None
        return loss

    times, cpu_times, losses = [], [], []
    warm_up = 2
    begin = time.monotonic()
    while len(times) < warm_up + 3 or time.monotonic() - begin < args.seconds:
        tokens = torch.randint(0, VOCAB, (BATCH, LENGTH + 1))
        start, cpu_start = time.perf_counter(), time.process_time()
        losses.append(float(step(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()).detach()))
        times.append(time.perf_counter() - start)
        cpu_times.append(time.process_time() - cpu_start)
        if len(times) == warm_up:
            begin = time.monotonic()
    assert all(0 < loss < 20 for loss in losses), losses
    times = times[warm_up:]
    print(json.dumps({
        "program": "torch " + torch.__version__,
        "dtype": args.dtype,
        "threads": args.threads,
        "mode": args.mode,
        "steps": len(times),
        "step_seconds_best": round(min(times), 4),
        "step_seconds_median": round(statistics.median(times), 4),
        "step_cpu_seconds_best": round(min(cpu_times[warm_up:]), 4),
        "tokens_per_second": round(BATCH * LENGTH / min(times), 1),
        "model_gflops": round(model_flops() / min(times) / 1e9, 1),
        "loss": round(losses[-1], 4),
    }), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", nargs="+", default=["f32", "bf16_autocast", "bf16_master"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--mode", nargs="+", default=["eager", "compile", "compile_fused"],
                        choices=[mode + fused for fused in ("", "_fused")
                                 for mode in ("eager", "compile", "compile_autotune")])
    parser.add_argument("--seconds", type=float, default=15, help="timed seconds per setting")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        args.dtype, args.threads, args.mode = args.dtype[0], args.threads[0], args.mode[0]
        measure(args)
        return 0
    failed = 0
    for dtype, threads, mode in itertools.product(args.dtype, args.threads, args.mode):
        command = [sys.executable, __file__, "--one", "--dtype", dtype, "--threads", str(threads),
                   "--mode", mode, "--seconds", str(args.seconds)]
        environment = {**os.environ, **ENVIRONMENT, "OMP_NUM_THREADS": str(threads)}
        failed += subprocess.run(command, env=environment).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
