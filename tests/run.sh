#!/usr/bin/env bash
# Configures, builds and runs. What the Makefile calls:
#   tests/run.sh build TARGET   one target of the release build, in build/
#   tests/run.sh test           all tests, and the suite of thread ranks under ThreadSanitizer
#   tests/run.sh asan           all tests under AddressSanitizer and UndefinedBehaviorSanitizer
#   tests/run.sh tsan           the suites that start threads under ThreadSanitizer
#   tests/run.sh cuda-emulated  what runs on GPUs, on the emulated one, under orders of the streams from three seeds
#   tests/run.sh cuda           the same on the GPUs of this machine
#   tests/run.sh verify         every layout of 8 ranks against one rank
# The exit code is the verdict; ctest's closing count is the last line of a run that passes.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${JOBS:-$(nproc)}
began=$SECONDS

configure() {  # FOLDER [OPTION...]
  local folder=$1
  shift
  # A build folder keeps the generator it was made with.
  [[ -f $folder/CMakeCache.txt ]] || set -- -G Ninja "$@"
  ! command -v ccache >/dev/null || set -- -DCMAKE_CXX_COMPILER_LAUNCHER=ccache "$@"
  mkdir -p "$folder"
  cmake -S . -B "$folder" -DTRIREME_WERROR="${WERROR:-OFF}" "$@" >"$folder/configure.log" ||
    { cat "$folder/configure.log"; return 1; }
}

build() {  # FOLDER TARGET...
  local folder=$1
  shift
  cmake --build "$folder" --parallel "$jobs" --target "$@"
}

run_tests() {  # FOLDER [CTEST OPTION...]
  local folder=$1 built=$((SECONDS - began)) status=0
  local log=$folder/test.log
  shift
  ctest --test-dir "$folder" --parallel "$jobs" --output-on-failure --no-tests=error \
    --no-label-summary "$@" 2>&1 |
    tee "$log" | sed -e '/% tests passed/,$d' -e '/^ *Start  *[0-9]*:/d' || status=$?
  echo "The ten slowest tests, in seconds:"
  awk '/ Test +#[0-9]+:/ { print $(NF - 1), $4 }' "$log" | sort -rn | sed -n '1,10s/^/  /p'
  echo "Wall time: $((SECONDS - began)) s, $built s of it before the first test"
  ! grep -q 'cuda_emulated .*Passed' "$log" ||
    echo "On the emulated GPU: $(grep -c 'cuda_emulated .*Passed' "$log") tests passed"
  sed -n '/% tests passed/,$p' "$log"
  return "$status"
}

verify() {  # CONFIG [FLAG...]
  local config=$1
  shift
  echo "== $config $*"
  build/trireme verify layouts --config "examples/configs/$config.textproto" --ranks 8 "$@"
}

# 64 images of 5 x 5 pixels in IDX, from the digits of the first numbers.
write_images() {  # FOLDER
  mkdir -p "$1"
  {
    printf '\0\0\10\3\0\0\0\100\0\0\0\5\0\0\0\5'
    printf '%04d' $(seq 400)
  } >"$1/images.idx"
  {
    printf '\0\0\10\1\0\0\0\100'
    printf '%02d' $(seq 32) | tr '0-9' '\000-\011'
  } >"$1/labels.idx"
}

case ${1:-} in
  build)
    configure build
    build build "$2"
    ;;
  test)
    configure build -DTRIREME_BUILD_TESTS=ON
    configure build-tsan --preset tsan
    build build all header_check
    build build-tsan thread_tests_quick
    run_tests build-tsan --label-regex '^threads_quick$'
    run_tests build
    ;;
  asan)
    configure build-asan --preset asan
    build build-asan all
    run_tests build-asan
    ;;
  tsan)
    configure build-tsan --preset tsan
    build build-tsan thread_tests
    run_tests build-tsan --label-regex '^threads'
    ;;
  cuda-emulated)
    configure build -DTRIREME_BUILD_TESTS=ON
    build build all
    for seed in 1 2 3; do
      echo "== seed $seed"
      TRIREME_EMULATION_SEED=$seed run_tests build --label-regex '^cuda_emulated'
    done
    ;;
  cuda)
    configure build -DTRIREME_BUILD_TESTS=ON
    build build all
    run_tests build --label-regex '^cuda$'
    ;;
  verify)
    configure build
    build build trireme
    write_images build/verify
    verify verify
    verify verify --set model.tied_head=true
    verify verify_hybrid --pairwise
    verify verify_mlp
    echo "Wall time: $((SECONDS - began)) s"
    ;;
  *)
    sed -n '2,10s/^# //p' "$0" >&2
    exit 2
    ;;
esac
