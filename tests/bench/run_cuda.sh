#!/usr/bin/env bash
# Builds device_bench and runs it on the GPU, one GPU, two types;
# `make bench-cuda` calls it.
set -euo pipefail
cd "$(dirname "$0")/../.."
cmake --preset release >/dev/null
cmake --build build-release --parallel "${JOBS:-$(nproc)}" --target device_bench trireme_cuda
command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
for dtype in bf16 f32; do
  build-release/tests/bench/device_bench --device cuda --dtype "$dtype"
done
