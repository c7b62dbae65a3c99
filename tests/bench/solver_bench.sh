#!/usr/bin/env bash
# Solves the layers of a finished run (its experts and statistics) in every way, and by SciPy beside it; prints the tables of
# docs/solvers.md:
#   tests/bench/solver_bench.sh RUN [LAYERS of each shape, 1] [SHAPES, all]
set -euo pipefail
run=$(realpath "$1")
cd "$(dirname "$0")/../.."
source .deps/env.sh
"$AMALGAM_PYTHON" -c 'import scipy' || { echo "this needs SciPy: $AMALGAM_PYTHON -m pip install scipy"; exit 1; }
scripts/build release solver_bench
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
build/release/tests/bench/solver_bench "$run" "${2:-1}" "$folder/systems.safetensors" 0 cpu "${3:-0}" > "$folder/here.jsonl"
"$AMALGAM_PYTHON" tests/bench/scipy_cg.py "$folder/systems.safetensors" > "$folder/scipy.jsonl"
"$AMALGAM_PYTHON" tests/bench/solver_table.py "$folder/here.jsonl" "$folder/scipy.jsonl"
