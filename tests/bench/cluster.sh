# A cluster on one machine, for scripts that source this: N hosts are network namespaces, joined by virtual cables to
# a switch that is one too, so that nothing of the machine's own network is touched. Needs root.
#   make_cluster N          1, with one line on standard error, where that is not possible
#   set_bandwidth MBIT      of each host's cable, in either direction; bandwidth is limited so, latency is not
#   on_cluster COMMAND...   one process on each host, under mpirun
#   sent HOST               "bytes packets" that left the host's interface so far, headers and all (hosts from 0)
# Everything is removed when the script ends, however it ends.
cluster=trireme-$$
cluster_hosts=0
cluster_work=

remove_cluster() {
  trap - EXIT INT TERM HUP
  local space pids
  for space in $(ip netns list | awk -v of="$cluster-" 'index($1, of) == 1 { print $1 }'); do
    pids=$(ip netns pids "$space" 2>/dev/null || true)
    # shellcheck disable=SC2086
    [[ -z $pids ]] || kill -KILL $pids 2>/dev/null || true
    ip netns del "$space" || true
  done
  [[ -z $cluster_work ]] || rm -rf "$cluster_work"
}

make_cluster() {
  local host
  [[ $EUID -eq 0 ]] || { echo "$(basename "$0"): network namespaces need root" >&2; return 1; }
  cmake/install_debian_packages.sh iproute2
  trap remove_cluster EXIT
  trap 'exit 130' INT TERM HUP
  cluster_work=$(mktemp -d)
  ip netns add "$cluster-switch" 2>"$cluster_work/why" &&
    ip -n "$cluster-switch" link add bridge mtu 9000 type bridge 2>>"$cluster_work/why" ||
    { echo "$(basename "$0"): no network namespaces here: $(head -n1 "$cluster_work/why")" >&2; return 1; }
  ip -n "$cluster-switch" link set bridge up
  for ((host = 0; host < $1; ++host)); do
    ip netns add "$cluster-$host"
    ip link add wire mtu 9000 netns "$cluster-$host" type veth peer name "port$host" mtu 9000 \
      netns "$cluster-switch"
    ip -n "$cluster-switch" link set "port$host" master bridge up
    ip -n "$cluster-$host" addr add "10.77.0.$((host + 1))/24" dev wire
    ip -n "$cluster-$host" link set lo up
    ip -n "$cluster-$host" link set wire up
    # On a wire without latency, TCP's probes for a lost tail come at every pause, and send it twice.
    ip netns exec "$cluster-$host" sysctl -q -w net.ipv4.tcp_early_retrans=0
  done
  cluster_hosts=$1
  # What mpirun calls in place of ssh: AGENT ADDRESS COMMAND. The host gets a name of its own too, by which Open MPI
  # tells it from the others.
  cat >"$cluster_work/agent" <<AGENT
#!/bin/sh
host=$cluster-\$((\${1##*.} - 1))
shift
exec ip netns exec \$host unshare --uts sh -c "hostname \$host; \$*"
AGENT
  chmod +x "$cluster_work/agent"
}

# The queue holds a tenth of a second.
set_bandwidth() {
  local host limit=(root tbf rate "${1}mbit" burst 128kb latency 100ms)
  for ((host = 0; host < cluster_hosts; ++host)); do
    tc -n "$cluster-$host" qdisc replace dev wire "${limit[@]}"
    tc -n "$cluster-switch" qdisc replace dev "port$host" "${limit[@]}"
  done
}

# Not within $(...), which would put a signal off until the command ends.
on_cluster() {
  local host hosts=
  for ((host = 0; host < cluster_hosts; ++host)); do hosts+=,10.77.0.$((host + 1)):1; done
  timeout "${CLUSTER_TIMEOUT:-600}" ip netns exec "$cluster-0" mpirun -q --allow-run-as-root --bind-to none \
    -n "$cluster_hosts" --host "${hosts#,}" --mca plm_rsh_agent "$cluster_work/agent" \
    --mca plm_rsh_no_tree_spawn 1 --mca oob_tcp_if_include wire --mca pml ob1 --mca btl tcp,self \
    --mca btl_tcp_if_include wire "$@" &
  wait $!
}

sent() {
  ip netns exec "$cluster-$1" sh -c 'cd /sys/class/net/wire/statistics; echo "$(cat tx_bytes) $(cat tx_packets)"'
}
