#!/usr/bin/env bash
# Steps of two replicas that are joined by a slow link, beside steps without the exchange: overlap_bench in two
# network namespaces with a virtual cable between them, whose rate is chosen so that the gradients take a bit less
# than half of backward's time. Needs root. The cable and the namespaces are removed at the end.
#   tests/bench/slow_link.sh [BUILD-FOLDER [STEPS]]
set -euo pipefail
cd "$(dirname "$0")/../.."
program=${1:-build-release}/bench/overlap_bench
steps=${2:-5}
[[ -x $program ]] || { echo "slow_link: build $program first" >&2; exit 1; }
[[ $EUID -eq 0 ]] || { echo "slow_link: network namespaces need root; left out" >&2; exit 0; }
cmake/install_debian_packages.sh iproute2

first=trireme-$$-0 second=trireme-$$-1
work=$(mktemp -d)
clean_up() {
  ip netns del "$first" 2>/dev/null || true
  ip netns del "$second" 2>/dev/null || true
  rm -rf "$work"
}
trap clean_up EXIT
ip netns add "$first" 2>/dev/null || { echo "slow_link: no network namespaces here; left out" >&2; exit 0; }
ip netns add "$second"
ip link add name end netns "$first" type veth peer name end netns "$second"
address=10.77.0.1
for space in "$first" "$second"; do
  ip -n "$space" addr add "$address/24" dev end
  ip -n "$space" link set lo up
  ip -n "$space" link set end up
  address=10.77.0.2
done

# What mpirun calls in place of ssh: AGENT HOST COMMAND. The host gets a name of its own too, by which Open MPI
# tells it from this one.
cat >"$work/agent" <<AGENT
#!/bin/sh
shift
exec ip netns exec $second unshare --uts sh -c "hostname $second; \$*"
AGENT
chmod +x "$work/agent"

on_both() {
  timeout 600 ip netns exec "$first" mpirun -q --allow-run-as-root --bind-to none -n 2 \
    --host 10.77.0.1:1,10.77.0.2:1 --mca plm_rsh_agent "$work/agent" --mca oob_tcp_if_include end \
    --mca pml ob1 --mca btl tcp,self --mca btl_tcp_if_include end "$program" "$@"
}

rate=$(on_both --rate)
for space in "$first" "$second"; do
  tc -n "$space" qdisc add dev end root tbf rate "${rate}bit" burst 128kb latency 100ms
done
echo "link: $((rate / 1000000)) Mbit/s"
on_both "$steps"
