#!/usr/bin/env bash
# Three processes under mpirun: collective calls give what they promise, and one member's end is the end of all.
# Usage: process_group_test.sh PROGRAM MPIRUN; exit code 77 (skipped) without mpirun.
set -euo pipefail
program=$1 mpirun=$2
command -v "$mpirun" > /dev/null || { echo "SKIPPED: there is no mpirun ($mpirun)"; exit 77; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
fail() { echo "$*"; cat "$log"; exit 1; }
# run PROCESSES PART: the exit code is in `code`, what was printed in the log. Whoever waits for ever is ended (124).
run() {
  code=0
  timeout 120 "$mpirun" -n "$1" --oversubscribe --bind-to none "$program" "$2" > "$log" 2>&1 || code=$?
}

run 3 collectives
[ "$code" = 0 ] && grep -q 'all well' "$log" || fail "collective calls: exit code $code"

run 3 abort
[ "$code" = 5 ] && grep -q 'last words' "$log" && ! grep -q 'not ended' "$log" || fail "abort: exit code $code, not 5"

run 3 exception
[ "$code" = 1 ] && grep -q 'left by an exception' "$log" && ! grep -q 'not ended' "$log" ||
  fail "an exception in one member: exit code $code, not 1"

run 1 announced
[ "$code" = 0 ] && grep -q 'a group of 1' "$log" || fail "one process: exit code $code"

# A launcher of another MPI: its processes are not to take themselves for groups of one, each with all of the work.
code=0; PMI_RANK=0 PMI_SIZE=4 timeout 120 "$program" announced > "$log" 2>&1 || code=$?
[ "$code" = 2 ] && grep -q 'announces 4 processes' "$log" || fail "another MPI's launcher: exit code $code, not 2"
echo "the processes of a group go together"
