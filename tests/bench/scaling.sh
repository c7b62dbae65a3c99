#!/usr/bin/env bash
# What collecting and merging take as encoders grow; prints the table of docs/scaling.md:
#   tests/bench/scaling.sh [WIDTHxDEPTH...]      default: 384x6 768x12 1024x24 1280x32, which takes 12 GB of memory, 80 GB of disk, and hours
set -euo pipefail
cd "$(dirname "$0")/../.."
source .deps/env.sh
export PYTHONPATH=$PWD/models/export OMP_NUM_THREADS=1
[ -n "${AMALGAM:-}" ] || scripts/build release amalgam_command
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
[ $# -gt 0 ] || set -- 384x6 768x12 1024x24 1280x32
"$AMALGAM_PYTHON" -W ignore tests/bench/scaling.py "${AMALGAM:-build/release/amalgam}" "$folder" "$@" | tee "$folder/lines.jsonl" >&2
"$AMALGAM_PYTHON" tests/bench/scaling.py table "$folder/lines.jsonl"
