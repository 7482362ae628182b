#!/usr/bin/env bash
# Builds the benchmarks and runs them, some minutes on two cores; `make bench` calls it. The step's
# JSON lines go to standard output, where its time goes by kernel to standard error.
set -euo pipefail
cd "$(dirname "$0")/../.."
cmake --preset release >/dev/null
cmake --build build-release --parallel "${JOBS:-$(nproc)}" --target benchmarks
build=build-release
root=()
[[ $(id -u) -ne 0 ]] || root=(--allow-run-as-root)
on_ranks() {
  local ranks=$1
  shift
  mpirun -q "${root[@]}" --oversubscribe --bind-to none -n "$ranks" "$@"
}

lscpu | sed -n 's/^Model name: */processor: /p'
echo "== kernels_bench"
"$build/tests/bench/kernels_bench" --benchmark_min_time="${MIN_TIME:-0.05}"
echo "== recurrence_bench"
"$build/tests/bench/recurrence_bench" --benchmark_min_time="${MIN_TIME:-0.05}"
echo "== comm_bench"
on_ranks 2 "$build/bench/comm_bench" 16
echo "== exchange_bench"
on_ranks 4 "$build/bench/exchange_bench"
echo "== sequence_bench"
"$build/tests/bench/sequence_bench" 4 1024 "${STEPS:-3}"
echo "== codec_bench"
"$build/tests/bench/codec_bench" --benchmark_min_time="${MIN_TIME:-0.05}"
echo "== coding_bench"
"$build/tests/bench/coding_bench" "${STEPS:-3}"
echo "== executor_bench"
"$build/tests/bench/executor_bench" --benchmark_min_time="${MIN_TIME:-0.05}"
echo "== overlap_bench"
tests/bench/slow_link.sh "$build"
echo "== startup_bench"
for ranks in 1 2; do
  on_ranks "$ranks" "$build/bench/startup_bench"
done
echo "== step_bench"
for threads in 1 2; do
  for dtype in f32 bf16; do
    "$build/tests/bench/step_bench" --dtype "$dtype" --threads "$threads" --steps "${STEPS:-3}" --kernels
  done
done
