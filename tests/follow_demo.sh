#!/usr/bin/env bash
# The demo's hybrid over 4 MPI ranks, under sequence=4 and under pipeline=2 tensor=2, against one rank: the losses of
# the first 100 steps in f32 must be within 1e-5 of each other. All take micro-batches of 4 samples: in f32 other
# sums would round otherwise (one rank with micro-batches of 16 is 3e-5 from one rank with 4).
#   tests/follow_demo.sh [PATH=VALUE...]   assignments to the config of the 4 ranks, instead of those two
set -euo pipefail
cd "$(dirname "$0")/.."
text=/usr/share/dictd/gcide.dict.dz
layouts=("mesh.sequence=4" "mesh.sequence=1 mesh.pipeline=2 mesh.tensor=2")
[[ $# -eq 0 ]] || layouts=("$*")

tests/run.sh build trireme
mkdir -p runs/data
[[ -f runs/data/gcide.tokens ]] ||
  build/trireme tokenize --documents entry --output runs/data/gcide.tokens "$text"

run_dir=$(mktemp -d)
trap 'rm -rf "$run_dir"' EXIT
train=(build/trireme train --config examples/configs/demo.textproto --set num_steps=100
  --set evaluation.every=0 --set checkpoint.every=0 --set batch.micro_batch_size=4)
mpirun=(mpirun -q -n 4 --oversubscribe --bind-to none)
[[ $EUID -ne 0 ]] || mpirun+=(--allow-run-as-root)

losses() { grep -o '"loss":[^,]*,"grad_norm"' "$run_dir/$1/metrics.jsonl" | tr -dc '0-9.e\n+-'; }
follows() {  # ASSIGNMENT...
  local sets=()
  for assignment in "$@"; do sets+=(--set "$assignment"); done
  rm -rf "$run_dir/four"
  "${mpirun[@]}" "${train[@]}" "${sets[@]}" --run_dir "$run_dir/four" >"$run_dir/four.log"
  paste -d' ' <(losses one) <(losses four) | awk -v layout="$*" '
    { d = ($1 - $2) / $1; if (d < 0) d = -d; if (d > worst) worst = d }
    END {
      printf "%d steps under %s: losses within %.1e of one rank\n", NR, layout, worst
      exit !(NR == 100 && worst <= 1e-5)
    }'
}

"${train[@]}" --set mesh.sequence=1 --run_dir "$run_dir/one" >"$run_dir/one.log"
for layout in "${layouts[@]}"; do
  # shellcheck disable=SC2086
  follows $layout
done
