#!/usr/bin/env bash
# What `amalgam checkpoints` takes, on models that are generated in FOLDER: tests/bench/checkpoints/bench.sh FOLDER [OPTIONS]; bench.py says which.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
source "$here/../../../.deps/env.sh"
exec "$AMALGAM_PYTHON" "$here/bench.py" "${AMALGAM:-$here/../../../build/release/amalgam}" "$@"
