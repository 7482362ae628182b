#!/usr/bin/env bash
# Configures, builds and runs. What the Makefile calls:
#   tests/run.sh build TARGET   one target of the release build, in build/
#   tests/run.sh test           all tests, and the suite of thread ranks under ThreadSanitizer
#   tests/run.sh asan           all tests under AddressSanitizer and UndefinedBehaviorSanitizer
#   tests/run.sh tsan           the suites that start threads under ThreadSanitizer
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
  sed -n '/% tests passed/,$p' "$log"
  return "$status"
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
  *)
    sed -n '2,7s/^# //p' "$0" >&2
    exit 2
    ;;
esac
