#!/usr/bin/env bash
# Plants faults in a copy of the tree, one after the other, in shipped kernels and calls of CUDA, and
# expects the suites of the emulated GPU to fail on each. The exit code is the verdict.
#   tests/cuda_emulation/plant_faults.sh [FOLDER [PATTERN]]
# The copy is made and built in FOLDER (build-faults); only faults whose name has PATTERN are planted.
set -euo pipefail
cd "$(dirname "$0")/../.."
pattern=${2:-}
folder=$(mkdir -p "${1:-build-faults}" && cd "${1:-build-faults}" && pwd)
jobs=${JOBS:-$(nproc)}
source=$folder/source
build=$folder/build
unset TRIREME_EMULATION_SEED

rm -rf "$source" && mkdir -p "$source"
tar --exclude='./build*' --exclude=./.git -cf - . | tar -xf - -C "$source"
# What an earlier run patched is newer in its objects than here.
[[ ! -f $folder/patched ]] || (cd "$source" && xargs touch <"$folder/patched")
launcher=()
! command -v ccache >/dev/null || launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
CCACHE_BASEDIR=$source cmake -S "$source" -B "$build" -G Ninja "${launcher[@]}" >"$folder/configure.log"

ops=(core_ops_test --device=cuda_emulated '--gtest_filter=*OpSuite.*:*DeviceKernels*')
verbs=(parallel_comm_test --device=cuda_emulated '--gtest_filter=*VerbsTest*local2*:*VerbsTest*local3*')
codes=(cuda_return_codes_test '--gtest_filter=*OfADevice')

compile() {
  CCACHE_BASEDIR=$source cmake --build "$build" --parallel "$jobs" --target "$@" >"$folder/build.log" 2>&1 ||
    { tail -20 "$folder/build.log"; exit 1; }
}
suite() {  # PROGRAM ARGUMENT...
  (cd "$build/tests" && timeout 600 "./$1" "${@:2}") >"$folder/suite.log" 2>&1
}

compile core_ops_test parallel_comm_test cuda_return_codes_test trireme_cuda_emulated
for name in ops verbs codes; do
  declare -n arguments=$name
  suite "${arguments[@]}" || { tail -20 "$folder/suite.log"; echo "${arguments[0]} fails without a fault"; exit 1; }
done

planted=0 survivors=0
plant() {  # NAME FILE SED-SCRIPT SUITE
  [[ $1 == *"$pattern"* ]] || return 0
  planted=$((planted + 1))
  local file=$source/$2
  echo "$2" >>"$folder/patched"
  cp "$file" "$folder/original"
  sed -i -E "$3" "$file"
  ! cmp -s "$file" "$folder/original" || { echo "$1: nothing in $2 is as the script of the fault expects"; exit 1; }
  compile trireme_cuda_emulated
  declare -n arguments=$4
  if suite "${arguments[@]}"; then
    echo "SURVIVED  $1 ($2)"
    survivors=$((survivors + 1))
  else
    echo "found     $1 ($2) by ${arguments[0]}: $(grep -m1 -E '^emulated device:|Failure$|INVALID|INTERNAL' "$folder/suite.log" | cut -c1-200)"
  fi
  cp "$folder/original" "$file"
}

plant "an index one too far" core/ops/cuda/strided_loop.cuh \
  's/step < nest\.steps;/step <= nest.steps;/' ops
plant "a missing barrier" core/ops/cuda/block_reduce.cuh \
  '/shared\[threadIdx\.x \/ kWarp\] = value;/{n;d}' ops
plant "a missing wait for an event" parallel/comm/nccl/nccl_lane.cc \
  '/cudaStreamWaitEvent\(stream\(\), before->event\(\), 0\)/d' verbs
plant "a dropped return code" core/device/cuda/cuda_device.cc \
  's/CUDA_OR_THROW\((cudaMemcpyAsync\(.*\))\);/static_cast<void>(\1);/' codes
plant "a mismatched collective" parallel/comm/nccl/nccl_communicator.cc \
  's/NcclType\(tensor\.dtype\(\)\), root, lane->comm\(\)/NcclType(tensor.dtype()), rank() % 2, lane->comm()/' verbs
plant "a block of the pool used after its end" core/ops/cuda/sums.cuh \
  '/"row sums"/,/^}/{s/const Workspace partial\((.*)\);/A* const partial = Workspace(\1).template as<A>();/; s/partial\.as<A>\(\)/partial/}' ops
plant "a kernel that reads what nobody wrote" core/ops/cuda/sums.cuh \
  '/run\(SumTarget<A, A>\{partial\.as<A>\(\), A\(1\), false\}\);/d' ops
echo "$survivors of $planted planted faults survived"
exit $((survivors > 0))
