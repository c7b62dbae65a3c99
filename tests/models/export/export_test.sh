#!/usr/bin/env bash
# The export tool on small random models, its files, its refusals.
# Usage: export_test.sh SOURCE_DIR PYTHON [AMALGAM]; exit code 77 (skipped) without Python or transformers.
set -euo pipefail
source=$1 python=${2:-}
"$python" -c 'import torch, safetensors' 2> /dev/null || { echo "SKIPPED: no Python with torch and safetensors"; exit 77; }
"$python" -c 'import transformers' 2> /dev/null || { echo "SKIPPED: transformers is not installed (scripts/setup --tests)"; exit 77; }
export PYTHONPATH=$source/models/export PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 AMALGAM_COMMAND=${3:-}
# torch.jit calls itself deprecated at every call
exec "$python" -W ignore -m unittest discover -s "$source/tests/models/export" -p '*_test.py'
