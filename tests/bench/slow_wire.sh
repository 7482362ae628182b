#!/usr/bin/env bash
# Training over a slow wire, which is real: 4 replicas on 4 hosts of cluster.sh, every host's cable limited to the same
# bandwidth. Data parallelism, the quadratic synchronization rule, DiLoCo with 8 bits a number and PowerSGD train
# the perceptron of examples/configs/fashion_mlp.textproto, made wider, for the same steps at the same learning rate, which is tuned
# for none of them. For each: the time of its steps, the bytes that a host sent in them as the transport counts them and
# as its interface does, the loss and the accuracy in the end. What starting and ending a run sends is measured with a
# run of one step, and taken off. The interface counts the headers of its packets too (66 bytes: Ethernet, IP, TCP);
# fails when the counts without them are more than 3 % apart. Not where packets have less than 4 kilobytes on average:
# there MPI's own envelopes, some 200 bytes a message, are a good part of what travels. Bandwidth is limited so, latency is not: nothing here is about
# wide areas.
#   tests/bench/slow_wire.sh [BUILD-FOLDER]
#   BANDWIDTHS="100 1000" (Mbit/s)  STEPS=400  METHODS="data_parallel qsr diloco_int8 powersgd"
# The table goes to standard output, its numbers and the plot to runs/slow_wire/table.txt and wire.svg.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/bench/cluster.sh
build=${1:-build-release}
if [[ $# -eq 0 ]]; then
  cmake --preset release >/dev/null
  cmake --build build-release --parallel "${JOBS:-$(nproc)}" --target trireme
fi
program=$build/trireme
read -ra bandwidths <<<"${BANDWIDTHS:-100 1000}"
steps=${STEPS:-400}
read -ra methods <<<"${METHODS:-data_parallel qsr diloco_int8 powersgd}"
out=runs/slow_wire
hosts=4
[[ -x $program ]] || { echo "slow_wire: build $program first" >&2; exit 1; }

rows() {  # METHOD: its exchanges, as lines of a config
  case $1 in
    data_parallel) ;;
    qsr) echo 'exchanges { point: "parameters" rule { name: "qsr" alpha: 0.1 h_base: 4 } }' ;;
    diloco_int8)
      echo 'exchanges {
        point: "difference" rule { name: "every" period: 20 } codec { name: "int8" } memory: "error_feedback"
        mixer { name: "all_gather" } outer { name: "sgd" learning_rate: 0.7 momentum: 0.9 }
      }'
      ;;
    powersgd)
      echo 'exchanges {
        point: "gradient" pattern: "*weight" codec { name: "powersgd" rank: 4 } memory: "error_feedback"
      }
      exchanges { point: "gradient" pattern: "*bias" }'
      ;;
    *) echo "slow_wire: unknown method $1" >&2; return 1 ;;
  esac
}

# "bandwidth method seconds bytes-counted bytes-on-the-wire loss accuracy packets" of one run. The metrics have what rank 0
# sends; so the wire's bytes are those that leave its host.
run() {  # BANDWIDTH METHOD STEPS
  local config=$cluster_work/$2.textproto run_dir=$cluster_work/$2 before after
  { cat examples/configs/fashion_mlp.textproto; rows "$2"; } >"$config"
  rm -rf "$run_dir"
  before=$(sent 0)
  on_cluster "$program" train --config "$config" --run_dir "$run_dir" --threads 1 --set model.hidden=512,256 --set "num_steps=$3" \
    --set lr_schedule.name=cosine --set evaluation.every=0 --set checkpoint.every=0 \
    --set log_every=1000000 >"$cluster_work/log" 2>&1 || { cat "$cluster_work/log" >&2; return 1; }
  after=$(sent 0)
  awk -v name="$1 $2" -v interface="$before $after $around" '
    function number(key) { return match($0, "\"" key "\":[^,}]*") ? substr($0, RSTART + length(key) + 3) + 0 : 0 }
    /"validation_loss"/ { loss = number("validation_loss"); accuracy = number("accuracy"); next }
    {
      seconds += number("step_seconds")
      sub(/.*"comm_bytes":\{/, "")
      sub(/\}.*/, "")
      for (n = split($0, axes, ","); n > 0; --n) { sub(/.*:/, "", axes[n]); counted += axes[n] }
    }
    END {
      split(interface, count, " ")
      printf "%s %.2f %.0f %.0f %.4f %.4f %.0f\n", name, seconds, counted, count[3] - count[1] - count[5], loss, \
        accuracy, count[4] - count[2] - count[6]
    }' "$run_dir/metrics.jsonl"
}

make_cluster $hosts
mkdir -p $out
around="0 0"
run 0 data_parallel 1 >"$cluster_work/one"
around=$(awk '{ print $5 - $4, $8 }' "$cluster_work/one")
for bandwidth in "${bandwidths[@]}"; do
  set_bandwidth "$bandwidth"
  for method in "${methods[@]}"; do
    run "$bandwidth" "$method" "$steps"
  done
done >$out/table.txt

echo "$hosts replicas, one a host, $(nproc) cores in all; $steps steps of examples/configs/fashion_mlp.textproto"
awk '
  BEGIN {
    printf "%-8s  %-14s  %8s  %9s  %13s  %13s  %12s  %6s  %8s  %8s\n", "Mbit/s", "method", "seconds", "speed-up", \
      "bytes counted", "on the wire", "its headers", "apart", "loss", "accuracy"
  }
  {
    if (!($1 in first)) first[$1] = $3
    headers = 66 * $8
    apart = ($5 - headers - $4) / ($5 - headers)
    small = $5 < 4096 * $8
    printf "%-8s  %-14s  %8.2f  %8.2fx  %13d  %13d  %12d  %5.1f%%  %8.4f  %7.2f%%%s\n", $1, $2, $3, first[$1] / $3, $4, \
      $5, headers, 100 * apart, $6, 100 * $7, small ? "  (small packets)" : ""
    if (apart < 0) apart = -apart
    if (apart > 0.03 && !small) wrong = 1
  }
  END {
    if (wrong) print "slow_wire: counts that are more than 3 % apart" >"/dev/stderr"
    exit wrong
  }' $out/table.txt || failed=1

# Bars of the time, grouped by bandwidth, each with its bytes and its loss.
awk '
  {
    if (!($1 in seen)) { seen[$1] = 1; groups[++num_groups] = $1 }
    row[NR] = $0
    if ($3 > most) most = $3
  }
  END {
    split("#3366cc #dc7633 #27ae60 #8e44ad #7f8c8d", color, " ")
    bar = 22; left = 250; width = 640; top = 30
    height = top + NR * bar + num_groups * 30 + 20
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"11\">\n", \
      width + 260, height
    printf "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
    printf "<text x=\"10\" y=\"18\">seconds of all steps; megabytes that a host sent; final validation loss</text>\n"
    y = top
    for (g = 1; g <= num_groups; ++g) {
      printf "<text x=\"10\" y=\"%d\" font-weight=\"bold\">%s Mbit/s</text>\n", y + 16, groups[g]
      y += 24
      place = 0
      for (i = 1; i <= NR; ++i) {
        split(row[i], cell, " ")
        if (cell[1] != groups[g]) continue
        long = (width - left) * cell[3] / most
        printf "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", left - 8, y + 14, cell[2]
        printf "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", left, y + 2, long, bar - 6, \
          color[1 + place++ % 5]
        printf "<text x=\"%.1f\" y=\"%d\">%.1f s, %.1f MB, loss %.3f</text>\n", left + long + 6, y + 14, cell[3], \
          cell[5] / 1e6, cell[6]
        y += bar
      }
      y += 6
    }
    print "</svg>"
  }' $out/table.txt >$out/wire.svg
echo "numbers: $out/table.txt  plot: $out/wire.svg"
exit ${failed:-0}
