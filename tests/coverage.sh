#!/usr/bin/env bash
# Line coverage of the files that parse input from outside, by the replayed fuzz corpora and the unit tests.
# Fails when one of them is below MINIMUM (90) percent.
set -euo pipefail
cd "$(dirname "$0")/.."
minimum=${MINIMUM:-90}
jobs=${JOBS:-$(nproc)}
parsers=(
  core/io/json.cc
  core/io/safetensors.cc
  core/io/stored_box.cc
  data/documents.cc
  data/idx.cc
  data/input_file.cc
  data/token_shard.cc
  launch/checkpoint/checkpoint_reader.cc
  launch/checkpoint/manifest.cc
  launch/config_reader.cc
)
tests=(core_io_test data_test launch_checkpoint_test launch_test)

launcher=()
! command -v ccache >/dev/null || launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
mkdir -p build-coverage
cmake -S . -B build-coverage -G Ninja "${launcher[@]}" -DCMAKE_EXE_LINKER_FLAGS=--coverage \
  "-DTRIREME_COVERAGE=$(IFS=";" && echo "${parsers[*]}")" -DTRIREME_INSTALL=OFF \
  >build-coverage/configure.log || { cat build-coverage/configure.log; exit 1; }
cmake --build build-coverage --parallel "$jobs" --target fuzz_targets "${tests[@]}"
find build-coverage -name '*.gcda' -delete
for test in "${tests[@]}"; do
  build-coverage/tests/"$test" --gtest_brief=1 2>build-coverage/"$test".log ||
    { cat build-coverage/"$test".log; exit 1; }
done
for corpus in tests/fuzz/corpus/*; do
  build-coverage/tests/fuzz/"$(basename "$corpus")"_fuzz "$corpus"
done

status=0
for parser in "${parsers[@]}"; do
  counts=$(find build-coverage/"$(dirname "$parser")" -name "$(basename "$parser").gcda")
  percent=$(gcov --no-output "$counts" 2>/dev/null |
    awk -v file="$parser'" '/^File / { found = index($0, file) } /^Lines executed/ && found {
      split($2, parts, /[:%]/); print parts[2]; found = 0 }')
  printf '%7s %% of the lines of %s\n' "${percent:-none}" "$parser"
  awk -v percent="${percent:-0}" -v minimum="$minimum" 'BEGIN { exit percent < minimum }' || status=1
done
[[ $status -eq 0 ]] || echo "coverage: below $minimum %" >&2
exit "$status"
