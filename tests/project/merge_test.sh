#!/usr/bin/env bash
# Several processes merge to the same bytes as one, searches and all; one that fails ends all with its message.
# Usage: merge_test.sh PROGRAM SOURCE_DIR PYTHON; exit code 77 (skipped) without mpirun or Python.
set -euo pipefail
program=$1 source=$2 python=$3
command -v mpirun > /dev/null || { echo "SKIPPED: there is no mpirun"; exit 77; }
"$python" -c 'import numpy, safetensors' 2> /dev/null || { echo "SKIPPED: no Python with numpy and safetensors"; exit 77; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
case=("$python" "$source/tests/project/merge_case.py")
"${case[@]}" make "$place"
run=$place/runs/shared
log=$place/log
fail() { echo "$1"; cat "$log"; exit 1; }
# together PROCESSES COMMAND RECIPE [ARGUMENT...]: ends whoever waits for ever
together() {
  local count=$1 command=$2 recipe=$3
  shift 3
  timeout 300 mpirun --oversubscribe --bind-to none -n "$count" "$program" "$command" "$place/$recipe.yaml" \
    --runs "$place/runs" --threads 1 "$@" > "$log" 2>&1
}

"$program" merge "$place/shared.yaml" --runs "$place/runs" --threads 1 > "$log" 2>&1 || fail "one process failed"
mv "$run/merged" "$place/alone"
for processes in 1 2 3; do
  rm -rf "$run/merged" "$run"/steps/merge-*
  together "$processes" merge shared || fail "$processes processes failed"
  for file in "$place"/alone/*.safetensors; do
    cmp "$file" "$run/merged/$(basename "$file")" || fail "$processes processes merge to something else"
  done
  "${case[@]}" compare "$place/alone" "$run/merged" > "$log" || fail "$processes processes report something else"
done
echo "1, 2 and 3 processes merge to the same bytes"

together 3 merge shared || fail "merging again failed"
[ "$(grep -c 'finished before, unchanged' "$log")" -ge 5 ] || fail "three processes do finished work again"
together 2 run shared || fail "two processes cannot run it all"
[ -s "$run/report.html" ] && [ "$(grep -c '^report: ' "$log")" = 1 ] || fail "two processes make no report, or two"
echo "two processes do a whole run"

others=0
for sum in 0 1 2 3 4 5; do
  "${case[@]}" break "$place" "$sum"
  together 3 merge broken && fail "broken statistics went through"
  grep -q "process [0-2] of 3: statistics of task 'one', layer '.*not finite" "$log" || fail "the failing process does not say why"
  grep -q 'process [12] of 3' "$log" && others=1 && break
done
[ "$others" = 1 ] || fail "only the root merged"
echo "a failing process ends all with its message"
