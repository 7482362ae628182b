#!/bin/sh
# nvcc_report.sh nvcc ... -o OBJECT ...: runs it and keeps what ptxas says of each kernel in OBJECT.ptxas,
# for tests/cuda_objects.cmake; the rest goes to stderr as always.
previous=
object=
for argument; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
[ -n "$object" ] || exec "$@"
"$@" 2> "$object.stderr"
status=$?
grep -E '^ptxas info|bytes stack frame' "$object.stderr" > "$object.ptxas"
grep -vE '^ptxas info|bytes stack frame' "$object.stderr" >&2
rm -f "$object.stderr"
exit $status
