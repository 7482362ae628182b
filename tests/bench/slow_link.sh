#!/usr/bin/env bash
# Steps of two replicas that are joined by a slow link, beside steps without the exchange: overlap_bench on two hosts
# of cluster.sh, at a bandwidth that is chosen so that the gradients take a bit less than half of backward's time.
# Left out without root.
#   tests/bench/slow_link.sh [BUILD-FOLDER [STEPS]]
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/bench/cluster.sh
program=${1:-build-release}/bench/overlap_bench
steps=${2:-5}
[[ -x $program ]] || { echo "slow_link: build $program first" >&2; exit 1; }
make_cluster 2 || exit 0

on_cluster "$program" --rate >"$cluster_work/rate"
rate=$(($(<"$cluster_work/rate") / 1000000))
set_bandwidth "$rate"
echo "link: $rate Mbit/s"
on_cluster "$program" "$steps"
