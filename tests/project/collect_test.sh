#!/usr/bin/env bash
# Collecting goes on after a kill at any moment, to the same file byte by byte; several processes together come to the same
# statistics to rounding, stop together, go on in another number, and end with the message of the one that failed.
# Usage: collect_test.sh PROGRAM SOURCE_DIR PYTHON
set -euo pipefail
program=$1 source=$2 python=$3
"$python" -c 'import numpy, safetensors' 2> /dev/null || { echo "SKIPPED: no Python with numpy and safetensors"; exit 77; }
place=$(mktemp -d)
child=
trap 'kill -9 $child 2> /dev/null || true; rm -rf "$place"' EXIT
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
"$python" "$source/tests/project/make_collect_case.py" "$place"
run=$place/runs/plain
log=$place/log
arguments=(collect "$place/plain.yaml" --runs "$place/runs" --threads 1)
launcher=(mpirun --oversubscribe --bind-to none)
fail() { echo "$1"; cat "$log"; exit 1; }
forget() { rm -rf "$run/statistics" "$run"/steps/collect-*; }
milliseconds() { date +%s%3N; }

"$program" "${arguments[@]}" > "$log" 2>&1 || fail "the first run failed"
forget
began=$(milliseconds)
"$program" "${arguments[@]}" > "$log" 2>&1 || fail "the undisturbed run failed"
took=$(($(milliseconds) - began))
reference=$place/reference.safetensors
cp "$run/statistics/one.safetensors" "$reference"

# --- killed twenty times, at any moment ---
forget
resumed=0
RANDOM=1
for i in $(seq 20); do
  (exec "$program" "${arguments[@]}") > /dev/null 2> "$log" &
  child=$!
  after=$((RANDOM % (took + 1)))  # anywhere in the time that a whole run takes here and now
  sleep "$(printf '%d.%03d' $((after / 1000)) $((after % 1000)))"
  kill -9 "$child" 2> /dev/null || true
  wait "$child" 2> /dev/null || true
  grep -q 'going on after' "$log" && resumed=$((resumed + 1))
  if [ -e "$run/steps/collect-one.json" ]; then
    cmp "$reference" "$run/statistics/one.safetensors" || fail "another file after $i kills"
    forget
  fi
done
"$program" "${arguments[@]}" > "$log" 2>&1 || fail "the run after the kills failed"
cmp "$reference" "$run/statistics/one.safetensors" || fail "another file after the kills"
[ "$resumed" -gt 0 ] || fail "no run went on from saved progress: kills come too early"
[ "$(ls "$run/statistics")" = one.safetensors ] || fail "files were left in $(ls "$run/statistics")"
echo "killed 20 times, $resumed of the runs went on from saved progress: the same file"

# --- a stop is saved ---
forget
: > "$log"  # here, so that the loop below does not read what the run before has said
(exec "$program" "${arguments[@]}" --set statistics.checkpoint_every=0) > /dev/null 2> "$log" &
child=$!
for _ in $(seq 1200); do grep -q 'the sums of' "$log" && break; sleep 0.05; done
sleep 0.3
kill -TERM "$child"
code=0; wait "$child" || code=$?
[ "$code" = 130 ] || fail "exit code $code after SIGTERM, not 130"
ls "$run"/statistics/one.work-*.unfinished.safetensors > /dev/null || fail "nothing was saved at SIGTERM"
"$program" "${arguments[@]}" --set statistics.checkpoint_every=0 > "$log" 2>&1 || fail "the run after SIGTERM failed"
grep -q 'going on after' "$log" || fail "what was saved at SIGTERM was not used"
cmp "$reference" "$run/statistics/one.safetensors" || fail "another file after SIGTERM"

# --- several passes within a budget ---
forget
"$program" "${arguments[@]}" --memory 100kB > "$log" 2>&1 || fail "collecting in passes failed"
grep -q 'pass 2 of' "$log" || fail "one pass only"
cmp "$reference" "$run/statistics/one.safetensors" || fail "another file in several passes"

# --- several processes ---
command -v mpirun > /dev/null || { echo "SKIPPED: the rest, there is no mpirun"; exit 0; }
for processes in 1 2 3 4; do
  forget
  "${launcher[@]}" -n "$processes" "$program" "${arguments[@]}" > "$log" 2>&1 || fail "$processes processes failed"
  "$program" stats diff "$run/statistics/one.safetensors" "$reference" --tolerance 1e-12 > "$log" 2>&1 ||
    fail "$processes processes come to something else"
done
echo "1, 2, 3 and 4 processes: the same statistics to 1e-12"

forget
: > "$log"
(exec "${launcher[@]}" -n 3 "$program" "${arguments[@]}" --set statistics.checkpoint_every=0) > /dev/null 2> "$log" &
child=$!
for _ in $(seq 1200); do grep -q 'the sums of' "$log" && break; sleep 0.05; done
sleep 0.3
kill -TERM "$child"
wait "$child" || true
stopped=$(ls "$run"/statistics/ | grep -c 'unfinished' || true)
"${launcher[@]}" -n 2 "$program" "${arguments[@]}" --set statistics.checkpoint_every=0 > "$log" 2>&1 || fail "two processes after three failed"
[ "$stopped" = 1 ] || fail "three processes saved nothing when they were stopped"
grep -q 'going on after' "$log" || fail "the saved progress was not used"
"$program" stats diff "$run/statistics/one.safetensors" "$reference" --tolerance 1e-12 > "$log" 2>&1 ||
  fail "another number of processes comes to something else"
echo "three processes stopped, two went on"

"$program" collect "$place/broken.yaml" --runs "$place/runs" --threads 1 > "$log" 2>&1 && fail "broken data went through"
grep -q 'example 2345 of the split' "$log" || fail "the broken example is not named"
ls "$place"/runs/broken/statistics/one.work-*.unfinished.safetensors > /dev/null || fail "what was saved is gone"
"${launcher[@]}" -n 3 "$program" collect "$place/broken.yaml" --runs "$place/runs" --threads 1 > "$log" 2>&1 && fail "broken data went through"
grep -q 'process [0-2] of 3: .*example 2345 of the split' "$log" || fail "the failing process does not say why"
ls "$place"/runs/broken/statistics/one.work-*.unfinished.safetensors > /dev/null || fail "the last saved progress is gone"
echo "a failing process ends all with its message"
