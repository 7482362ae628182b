#!/usr/bin/env bash
# Builds the benchmarks and runs them; `make bench` calls it. JSON lines of the step go to standard output.
set -euo pipefail
cd "$(dirname "$0")/../.."
cmake --preset release >/dev/null
cmake --build build-release --parallel "${JOBS:-$(nproc)}" --target benchmarks
bench=build-release/tests/bench

lscpu | sed -n 's/^Model name: */processor: /p'
for program in "$bench"/*_bench; do
  [[ $program != */step_bench ]] || continue
  echo "== ${program##*/}"
  "$program"
done
echo "== step_bench"
for dtype in f32 bf16; do
  for threads in 1 2; do
    "$bench/step_bench" --dtype "$dtype" --threads "$threads"
  done
done
