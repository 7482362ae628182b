#!/usr/bin/env python3
"""Tokens per second of a training step, Trireme against PyTorch, in turns on one machine.

  cmake --preset release && cmake --build build-release --target step_bench
  python3 tests/bench/compare_torch.py [--bench build-release/tests/bench/step_bench]

For every type and thread count the two programs run alternately, ROUNDS times each, and the best step
of each counts; PyTorch's way of running is the best of --mode (and, in bf16, of both types there).
Prints every run as a JSON line, then a table. Needs a Python that has torch.
"""

import argparse
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TOKENS = 8 * 512


def runs(command):
    """The JSON lines that a program prints."""
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {result.returncode}")
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    print("\n".join(lines), flush=True)
    return [json.loads(line) for line in lines]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default=os.path.join(ROOT, "build-release/tests/bench/step_bench"))
    parser.add_argument("--dtype", nargs="+", default=["f32", "bf16"], choices=["f32", "bf16"])
    parser.add_argument("--threads", nargs="+", default=["1", "2"])
    parser.add_argument("--mode", nargs="+", default=["compile", "compile_fused"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="of ours, a round")
    parser.add_argument("--seconds", type=float, default=15, help="of PyTorch, a round and mode")
    args = parser.parse_args()

    table = []
    for dtype in args.dtype:
        torch_types = ["f32"] if dtype == "f32" else ["bf16_autocast", "bf16_master"]
        for threads in args.threads:
            ours, theirs = [], []
            for _ in range(args.rounds):
                ours += runs([args.bench, "--dtype", dtype, "--threads", threads,
                              "--steps", str(args.steps)])
                theirs += runs([sys.executable, os.path.join(HERE, "step_torch.py"),
                                "--dtype", *torch_types, "--threads", threads, "--mode", *args.mode,
                                "--seconds", str(args.seconds)])
            our_best = min(run["best_step_seconds"] for run in ours)
            best = min(theirs, key=lambda run: run["step_seconds_best"])
            table.append((dtype, threads, TOKENS / our_best, TOKENS / best["step_seconds_best"],
                          best["step_seconds_best"] / our_best, f"{best['dtype']} {best['mode']}"))

    print(f"\n{'type':6}{'threads':>8}{'trireme':>12}{'torch':>12}{'ratio':>8}  torch's best")
    for dtype, threads, our_rate, their_rate, ratio, how in table:
        print(f"{dtype:6}{threads:>8}{our_rate:>12.0f}{their_rate:>12.0f}{ratio:>8.2f}  {how}")


if __name__ == "__main__":
    main()
