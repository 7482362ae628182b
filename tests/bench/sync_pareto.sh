#!/usr/bin/env bash
# How much may replicas be silent? 16 replicas (threads) train a small perceptron on 5000 pictures of Fashion-MNIST
# with plain SGD under each rule of synchronization; accuracy and loss on the test files against the bytes that a
# replica sent. The learning rate of each rule, data parallelism's too, is chosen on 5000 held-out training pictures.
# The coefficients of the power rules are chosen so that they and the constant period of 32 send about the same.
#   tests/bench/sync_pareto.sh [BUILD-FOLDER]
#   SEEDS=10 STEPS=5700 TUNING_SEEDS=2 RATES="0.1 0.2 0.4 0.8"
# Runs are kept in runs/sync_pareto/runs.txt: stopped, it goes on where it was. Table on standard output, the plot in
# runs/sync_pareto/pareto.svg. About an hour and a half on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build-release}
if [[ $# -eq 0 ]]; then
  cmake --preset release >/dev/null
  cmake --build build-release --parallel "${JOBS:-$(nproc)}" --target sync_bench
fi
program=$build/tests/bench/sync_bench
seeds=${SEEDS:-10} steps=${STEPS:-5700} tuning_seeds=${TUNING_SEEDS:-2}
read -ra rates <<<"${RATES:-0.1 0.2 0.4 0.8}"
rules=(data_parallel every_4 every_32 linear qsr cubic post_local)
out=runs/sync_pareto
data=/usr/share/datasets/fashion-mnist
[[ -x $program ]] || { echo "sync_pareto: build $program first" >&2; exit 1; }
mkdir -p $out
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
touch $out/runs.txt

times() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.9g", a * b }'; }
rule() {  # RULE RATE
  case $1 in
    data_parallel) return ;;
    every_*) echo "name: \"every\" period: ${1#every_}" ;;
    linear) echo "name: \"linear\" alpha: $(times 17 "$2") h_base: 4" ;;
    qsr) echo "name: \"qsr\" alpha: $(times 4 "$2") h_base: 4" ;;
    cubic) echo "name: \"cubic\" alpha: $(times 2.3 "$2") h_base: 4" ;;
    post_local) echo "name: \"post_local\" switch_step: $((steps / 2)) period: 16" ;;
  esac
}

# Adds "SPLIT RULE RATE SEED STEPS accuracy loss bytes seconds" to the runs, unless it is there. A run whose loss does
# not stay finite has accuracy 0 and loss inf.
run() {  # SPLIT RULE RATE SEED
  local key="$1 $2 $3 $4 $steps" flag=() row numbers
  ! grep -q "^$key " $out/runs.txt || return 0
  [[ $1 == held_out ]] || flag=(--test)
  row=$(rule "$2" "$3")
  cat >"$work/config" <<CONFIG
model { name: "mlp" hidden: "256,128" }
data {
  dataset {
    name: "idx_images"
    images: "$data/train-images-idx3-ubyte.gz"
    labels: "$data/train-labels-idx1-ubyte.gz"
    validation_images: "$data/t10k-images-idx3-ubyte.gz"
    validation_labels: "$data/t10k-labels-idx1-ubyte.gz"
  }
}
mesh { replica: 16 }
batch { global_batch_size: 256 }
seed: $4
num_steps: $steps
optimizer { name: "sgd" momentum: 0 weight_decay: 0 }
clip_norm: 0
learning_rate: $3
lr_schedule { name: "cosine" warmup_steps: $((steps / 60)) final_factor: 1e-5 }
${row:+exchanges { point: \"parameters\" rule { $row \} \}}
CONFIG
  if ! numbers=$("$program" "$work/config" "${flag[@]}" 2>"$work/error"); then
    grep -q 'the loss is' "$work/error" || { cat "$work/error" >&2; exit 1; }
    numbers="0 inf 0 0"
  fi
  echo "$key $numbers" >>$out/runs.txt
}

# The rate with the best mean accuracy on the held-out pictures.
best_rate() {  # RULE
  awk -v rule="$1" -v steps="$steps" -v n="$tuning_seeds" '
    $1 == "held_out" && $2 == rule && $5 == steps && $4 > 1000 && $4 <= 1000 + n { sum[$3] += $6 }
    END { for (rate in sum) if (best == "" || sum[rate] > sum[best]) best = rate; print best }' $out/runs.txt
}

for rule in "${rules[@]}"; do
  for rate in "${rates[@]}"; do
    for ((seed = 1; seed <= tuning_seeds; ++seed)); do run held_out "$rule" "$rate" $((1000 + seed)); done
  done
done
for rule in "${rules[@]}"; do
  rate=$(best_rate "$rule")
  for ((seed = 1; seed <= seeds; ++seed)); do
    run test "$rule" "$rate" $seed
    grep "^test $rule $rate $seed $steps " $out/runs.txt
  done
done >"$work/chosen"

# Means, deviations, and differences to data parallelism and to qsr over the same seeds: RULE RATE and 12 numbers.
awk '
  # Two-sided 5 % of Student for n pairs.
  function critical(n) { return n < 2 ? 1e9 : n <= 10 ? quantile[n - 1] : 2.26 }
  function compare(rule, other, of,    s, sum, squares, d, mean, error) {
    sum = squares = 0
    for (s = 1; s <= seeds; ++s) { d = of[rule, s] - of[other, s]; sum += d; squares += d * d }
    mean = sum / seeds
    error = seeds < 2 ? 0 : sqrt((squares - seeds * mean * mean) / (seeds - 1) / seeds)
    # Equal to the last bit is not apart.
    return sprintf("%.6g %.6g %d", mean, error, error > 0 && (mean > 0 ? mean : -mean) > critical(seeds) * error)
  }
  BEGIN { split("12.71 4.30 3.18 2.78 2.57 2.45 2.36 2.31 2.26", quantile, " ") }
  {
    if (!($2 in rate)) { order[++num_rules] = $2; rate[$2] = $3 }
    if ($4 > seeds) seeds = $4
    accuracy[$2, $4] = 100 * $6; loss[$2, $4] = $7; bytes[$2] += $8
  }
  END {
    for (r = 1; r <= num_rules; ++r) {
      rule = order[r]
      a = aa = l = ll = 0
      for (s = 1; s <= seeds; ++s) {
        a += accuracy[rule, s]; aa += accuracy[rule, s] ^ 2; l += loss[rule, s]; ll += loss[rule, s] ^ 2
      }
      a /= seeds; l /= seeds
      n = seeds > 1 ? seeds - 1 : 1
      va = (aa - seeds * a * a) / n; vl = (ll - seeds * l * l) / n
      printf "%s %s %.0f %.6g %.6g %.6g %.6g %s %s\n", rule, rate[rule], bytes[rule] / seeds, a, \
        sqrt(va > 0 ? va : 0), l, sqrt(vl > 0 ? vl : 0), compare(rule, "data_parallel", accuracy), \
        compare(rule, "qsr", accuracy)
    }
  }' "$work/chosen" >$out/table.txt

echo "16 replicas, $steps steps, $seeds seeds; mean and deviation; differences of accuracy with their standard error,"
echo "* where they are apart at 5 % (two-sided, not corrected for the number of comparisons)"
awk '
  BEGIN {
    printf "%-14s %5s %14s %7s  %-14s  %-16s  %-18s %-18s\n", "rule", "rate", "bytes/replica", "of it", \
      "accuracy %", "loss", "to data parallel", "to qsr"
  }
  {
    if (NR == 1) whole = $3
    printf "%-14s %5s %14d %6.2f%%  %5.2f +- %-5.2f  %.4f +- %-6.4f  %+.2f +- %.2f %-2s   %+.2f +- %.2f %s\n", $1, $2, \
      $3, 100 * $3 / whole, $4, $5, $6, $7, $8, $9, $10 ? "*" : "", $11, $12, $13 ? "*" : ""
  }' $out/table.txt

# Two panels over the logarithm of the bytes, each with the front of what nothing beats in both.
awk '
  function x(panel, value) { return 60 + panel * 420 + 320 * (log(value) - low) / (high - low) }
  function y(value) { return 300 - 260 * (value - bottom) / (top - bottom) }
  function text(at_x, at_y, anchor, what) {
    printf "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", at_x, at_y, anchor, what
  }
  function line(x1, y1, x2, y2, color) {
    printf "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n", x1, y1, x2, y2, color
  }
  function draw(panel, title, value, spread, better,    i, j, beaten, n, front, t) {
    bottom = 1e30; top = -1e30
    for (i = 1; i <= NR; ++i) {
      if (value[i] - spread[i] < bottom) bottom = value[i] - spread[i]
      if (value[i] + spread[i] > top) top = value[i] + spread[i]
    }
    t = (top - bottom) / 10 + 1e-9; bottom -= t; top += t
    text(60 + panel * 420, 20, "start", title)
    line(x(panel, exp(low)), 300, x(panel, exp(high)), 300, "#999")
    line(x(panel, exp(low)), 300, x(panel, exp(low)), 40, "#999")
    for (i = 0; i <= 4; ++i) {
      t = bottom + (top - bottom) * i / 4
      text(x(panel, exp(low)) - 4, y(t) + 4, "end", sprintf("%.4g", t))
      t = exp(low + (high - low) * i / 4)
      text(x(panel, t), 316, "middle", sprintf("%.4g", t / 1e6))
    }
    text(x(panel, exp((low + high) / 2)), 334, "middle", "megabytes that a replica sent")
    n = 0
    for (i = 1; i <= NR; ++i) {
      beaten = 0
      for (j = 1; j <= NR; ++j) {
        if (bytes[j] <= bytes[i] && better * (value[j] - value[i]) >= 0 && \
            (bytes[j] < bytes[i] || value[j] != value[i])) beaten = 1
      }
      if (!beaten) front[++n] = i
    }
    for (i = 2; i <= n; ++i) {
      for (j = i; j > 1 && bytes[front[j]] < bytes[front[j - 1]]; --j) {
        t = front[j]; front[j] = front[j - 1]; front[j - 1] = t
      }
    }
    for (i = 2; i <= n; ++i) {
      line(x(panel, bytes[front[i - 1]]), y(value[front[i - 1]]), x(panel, bytes[front[i]]), y(value[front[i]]), "#c9d8f0")
    }
    for (i = 1; i <= NR; ++i) {
      line(x(panel, bytes[i]), y(value[i] - spread[i]), x(panel, bytes[i]), y(value[i] + spread[i]), color[i])
      printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n", x(panel, bytes[i]), y(value[i]), color[i]
      printf "<text x=\"%.1f\" y=\"%.1f\" fill=\"%s\">%s</text>\n", x(panel, bytes[i]) + 6, y(value[i]) + (i % 2 ? -5 : 13), color[i], name[i]
    }
  }
  BEGIN { split("#333333 #3366cc #8e44ad #dc7633 #c0392b #27ae60 #7f8c8d", color, " ") }
  {
    name[NR] = $1; bytes[NR] = $3; accuracy[NR] = $4; accuracy_spread[NR] = $5; loss[NR] = $6; loss_spread[NR] = $7
    if (NR == 1 || log($3) < low) low = log($3)
    if (NR == 1 || log($3) > high) high = log($3)
  }
  END {
    low -= 0.2; high += 0.4
    print "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 345\" font-family=\"sans-serif\" font-size=\"11\">"
    print "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    draw(0, "test accuracy in %, deviation over seeds", accuracy, accuracy_spread, 1)
    draw(1, "test loss, deviation over seeds", loss, loss_spread, -1)
    print "</svg>"
  }' $out/table.txt >$out/pareto.svg
echo "runs: $out/runs.txt  plot: $out/pareto.svg"
