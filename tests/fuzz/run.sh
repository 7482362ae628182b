#!/usr/bin/env bash
# Builds the fuzz targets with clang and libFuzzer, under AddressSanitizer and UndefinedBehaviorSanitizer, and runs
# each for FUZZ_SECONDS (30), from the committed corpus on:
#   tests/fuzz/run.sh [TARGET...]
# What a run finds stays in build-fuzz/corpus; an input that crashes is named, and the exit code is not 0.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${FUZZ_SECONDS:-30}
jobs=${JOBS:-$(nproc)}
targets=("$@")
[[ $# -gt 0 ]] || targets=($(ls tests/fuzz/corpus))

if ! command -v clang++ >/dev/null; then
  echo "fuzz: clang++ is missing: apt-get install clang libclang-rt-dev" >&2
  exit 1
fi
launcher=()
! command -v ccache >/dev/null || launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
mkdir -p build-fuzz
cmake -S . -B build-fuzz -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ "${launcher[@]}" \
  -DTRIREME_SANITIZE=address,undefined,fuzzer-no-link >build-fuzz/configure.log ||
  { cat build-fuzz/configure.log; exit 1; }
cmake --build build-fuzz --parallel "$jobs" --target "${targets[@]/%/_fuzz}"

failed=()
for target in "${targets[@]}"; do
  mkdir -p "build-fuzz/corpus/$target"
  log=build-fuzz/$target.log
  if build-fuzz/tests/fuzz/"${target}_fuzz" -max_total_time="$seconds" -max_len=4096 -timeout=10 \
    -rss_limit_mb=2048 -artifact_prefix="build-fuzz/$target-" -print_final_stats=1 \
    "build-fuzz/corpus/$target" "tests/fuzz/corpus/$target" >"$log" 2>&1; then
    sed -n 's/^stat::number_of_executed_units: */executed /p' "$log" | sed "s/^/$target: /; s/$/ inputs in $seconds s/"
  else
    tail -n 40 "$log"
    failed+=("$target")
  fi
done
if [[ ${#failed[@]} -gt 0 ]]; then
  echo "fuzz: failed: ${failed[*]}; the inputs are build-fuzz/TARGET-*, the logs build-fuzz/TARGET.log" >&2
  exit 1
fi
