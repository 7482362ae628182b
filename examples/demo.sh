#!/usr/bin/env bash
# Trains a small transformer on a dictionary, over 4 MPI ranks, in about two minutes. `make demo` runs it.
#   examples/demo.sh [FLAG...]   flags go to `trireme train`, for example --resume never
set -euo pipefail
cd "$(dirname "$0")/.."
text=/usr/share/dictd/gcide.dict.dz

tests/run.sh build trireme

mkdir -p runs/data
echo "== the text: $text"
build/trireme tokenize --documents entry --output runs/data/gcide.tokens "$text"

echo "== 4 ranks"
[[ ! -d runs/demo ]] || echo "runs/demo is there, and goes on; delete it for a new run"
# More ranks than cores are welcome here; as root, mpirun wants to be told twice.
mpirun=(mpirun -q -n 4 --oversubscribe --bind-to none)
[[ $EUID -ne 0 ]] || mpirun+=(--allow-run-as-root)
"${mpirun[@]}" build/trireme train --config examples/configs/demo.textproto "$@"
