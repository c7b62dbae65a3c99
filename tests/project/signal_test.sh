#!/usr/bin/env bash
# SIGINT and SIGTERM stop the command within seconds with exit code 130; finished steps are kept, and the next call goes on.
# Usage: signal_test.sh PROGRAM SOURCE_DIR; exit code 77 (skipped) without the images.
set -euo pipefail
program=$1 source=$2
[ -d /usr/share/datasets/fashion-mnist ] || { echo "SKIPPED: dataset-fashion-mnist is not installed"; exit 77; }
place=$(mktemp -d)
child=
trap 'kill -9 $child 2> /dev/null || true; rm -rf "$place" "$place.log"' EXIT
arguments=(finetune "$source/configs/quickstart.yaml" --runs "$place" --task left --threads 1 --set base.train.steps=5)
for signal in INT TERM; do
  rm -rf "${place:?}"/*
  # `exec`, so that the signal reaches the program and not a shell around it.
  (exec "$program" "${arguments[@]}" --set tasks.left.expert.train.steps=100000) > /dev/null 2> "$place.log" &
  child=$!
  for _ in $(seq 300); do [ -e "$place/quickstart/steps/open-base.json" ] && break; sleep 0.2; done
  [ -e "$place/quickstart/base.pt" ] || { echo "the base was not made"; cat "$place.log"; exit 1; }
  sleep 1  # into the expert's training
  kill -"$signal" "$child"
  for _ in $(seq 100); do kill -0 "$child" 2> /dev/null || break; sleep 0.2; done
  if kill -0 "$child" 2> /dev/null; then echo "still running 20 s after SIG$signal"; exit 1; fi
  code=0; wait "$child" || code=$?
  [ "$code" = 130 ] || { echo "exit code $code after SIG$signal"; cat "$place.log"; exit 1; }
  [ -e "$place/quickstart/base.pt" ] || { echo "the base is gone"; exit 1; }
  [ ! -e "$place/quickstart/experts/left.pt" ] || { echo "the expert was made in spite of SIG$signal"; exit 1; }
  [ -z "$(find "$place" -name '*.??????' -path '*experts*')" ] || { echo "a temporary file was left"; exit 1; }
  "$program" "${arguments[@]}" --set tasks.left.expert.train.steps=2 > "$place.log" 2>&1
  grep -q 'train base: finished before' "$place.log" || { echo "the base was made again"; cat "$place.log"; exit 1; }
  [ -e "$place/quickstart/experts/left.pt" ]
done
echo "stopped cleanly"
