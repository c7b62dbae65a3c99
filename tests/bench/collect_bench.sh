#!/usr/bin/env bash
# Times collecting against the model's own passes and against the naive way, and prints one table:
#   tests/bench/collect_bench.sh [FILTER for the benchmarks]
# The repetitions of all benchmarks are mixed, so that a busy moment of the machine falls on all of them.
set -euo pipefail
cd "$(dirname "$0")/../.."
source .deps/env.sh
scripts/build release collect_bench
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
build/release/tests/bench/collect_bench --write="$folder"
build/release/tests/bench/collect_bench --benchmark_filter="${1:-.}" --benchmark_min_time=0.2 --benchmark_repetitions=3 \
  --benchmark_enable_random_interleaving=true --benchmark_out="$folder/bench.json" --benchmark_out_format=json > /dev/null
"$AMALGAM_PYTHON" tests/bench/naive_collect.py "$folder" "$folder/naive.json"
"$AMALGAM_PYTHON" tests/bench/collect_table.py "$folder/bench.json" "$folder/naive.json"
