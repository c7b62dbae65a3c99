#!/usr/bin/env bash
# Merges the experts of a finished run anew, and beside it by mergekit, FusionBench and plain PyTorch, on one thread; prints the table of
# docs/peers.md:
#   tests/bench/peers/peers.sh RUN BASE.pt [ROW...]      RUN as runs/text6, its base as `amalgam_export encoder` wrote it
# The peers get an environment of their own, .deps/peers, which sees the project's for what is large.
set -euo pipefail
run=$(realpath "$1") base=$(realpath "$2")
shift 2
cd "$(dirname "$0")/../../.."
source .deps/env.sh
amalgam=${AMALGAM:-$PWD/build/release/amalgam}
export OMP_NUM_THREADS=1 PYTHONPATH=$PWD/models/export PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1
peers=${PEERS:-$PWD/.deps/peers}
if [ ! -f "$peers/installed" ]; then
  "$AMALGAM_PYTHON" -m venv "$peers"
  "$AMALGAM_PYTHON" -c 'import site; print(site.getsitepackages()[0])' > "$(echo "$peers"/lib/python3*/site-packages)/amalgam.pth"
  "$peers/bin/pip" install -q --disable-pip-version-check -r tests/bench/peers/requirements.txt "torch==$("$AMALGAM_PYTHON" -c 'import torch; print(torch.__version__.split("+")[0])')"
  touch "$peers/installed"
fi
folder=$(mktemp -d -p "${TMPDIR:-/tmp}")
trap 'rm -rf "$folder"' EXIT

# What peers read.
export_hf() { "$AMALGAM_PYTHON" -W ignore -m amalgam_export hf --base "$base" --tensors "$1" --output "$folder/models/$2" > /dev/null; }
mkdir "$folder/models"
export_hf "$base" base
for expert in "$run"/experts/*.pt; do export_hf "$expert" "$(basename "$expert" .pt)"; done

# Merging again, by the experts and statistics that are there. Links are followed: what is written must be a copy, and never the run itself.
again=$folder/runs/$(basename "$run")
mkdir -p "$again/steps"
cp -rL "$run"/{experts,tensors,recipe.resolved.yaml} "$again"
for file in "$run"/base.pt; do [ ! -f "$file" ] || cp -L "$file" "$again"; done
for file in "$run"/steps/*.json; do [[ $(basename "$file") = merge-* ]] || cp -L "$file" "$again/steps"; done
statistics=() methods=()
for file in "$run"/statistics/*.safetensors; do [ ! -f "$file" ] || statistics+=(--set "tasks.$(basename "$file" .safetensors).statistics=$file"); done
for row in "$@"; do methods+=("--method=$row"); done
[ $# -gt 0 ] || methods=("")
for method in "${methods[@]}"; do
  "$amalgam" merge "$again/recipe.resolved.yaml" --runs "$folder/runs" --threads 1 --quiet "${statistics[@]}" ${method:+"$method"} > /dev/null
done
"$peers/bin/python" -W ignore tests/bench/peers/peers.py "$again" "$run/statistics" "$base" "$folder/models"
