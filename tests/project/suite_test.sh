#!/usr/bin/env bash
# The suite text6 in a small form: the pretrained encoder, sixty texts a task, a few steps, two methods; and the way back to transformers.
# Usage: suite_test.sh PROGRAM SOURCE_DIR PYTHON; exit code 77 (skipped) without the data or the encoder.
set -euo pipefail
program=$1 source=$2 python=${3:-}
data=$source/../shared/data/text
[ -d "$data" ] || { echo "SKIPPED: $data is not there"; exit 77; }
export PYTHONPATH=$source/models/export PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1
"$python" -c 'from amalgam_export.source import find_source; find_source("minilm")' 2> /dev/null ||
  { echo "SKIPPED: all-MiniLM-L6-v2 is not installed (scripts/setup --tests)"; exit 77; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
tasks=(sst2 subj trec6 agnews clinc150 offensive)
heads=() settings=()
for task in "${tasks[@]}"; do
  mkdir -p "few/$task"
  cp "$data/$task/classes.txt" "few/$task/"
  for split in train val test; do sed -n '1,61p' "$data/$task/$split.tsv" > "few/$task/$split.tsv"; done
  "$python" -m amalgam_export text "few/$task" --tokenizer minilm --length 48 --output suites/text6/data > log 2>&1 || { cat log; exit 1; }
  heads+=(--head "$task=$(grep -c . "$data/$task/classes.txt")")
  settings+=(--set "tasks.$task.expert.train={heads: {steps: 4, rate: 1e-2}, steps: 2, batch: 8}")
done
"$python" -m amalgam_export encoder minilm "${heads[@]}" --output suites/text6/base.pt > log 2>&1 || { cat log; exit 1; }
run=("$source/configs/text6.yaml" --runs runs "${settings[@]}" --set statistics.examples=16 --set evaluate.examples=20 --set 'merge=[average, regmean]' --set 'donors=[]')
"$program" run "${run[@]}" > table 2> log || { cat log; exit 1; }
for row in base expert average regmean; do grep -q "^$row " table || { echo "no row $row"; cat table; exit 1; }; done
[ "$(wc -l < runs/text6/scores.jsonl)" = 24 ] || { echo "not 4 rows of 6 tasks"; exit 1; }
grep -q 'trec6' runs/text6/report.html
"$program" merge "${run[@]}" --method regmean --write-hf merged > log 2>&1 || { cat log; exit 1; }
"$python" -c 'import transformers; transformers.AutoModel.from_pretrained("merged")' > log 2>&1 || { cat log; exit 1; }
echo "text6 ran"
