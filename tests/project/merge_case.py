"""What merge_test.sh needs of Python.

merge_case.py make FOLDER             data and recipes
merge_case.py break FOLDER N          the statistics of task one with a NaN in their N-th input Gram matrix
merge_case.py compare FOLDER FOLDER   fails unless the records of two sets of merges say the same, but for the seconds
"""
import json
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

RECIPE = """name: {name}
device: cpu
base: {base}
private: ["head.*"]
tasks:
  - name: one
    data: {{format: tensors, root: {folder}/one}}
    expert: {experts[0]}
{statistics}  - name: two
    data: {{format: tensors, root: {folder}/two}}
    expert: {experts[1]}
statistics: {{examples: 60, kinds: [kronecker, squared_gradient]}}
merge: {merge}
evaluate: {{splits: [val], batch: 60}}
"""
ROWS = """
  - average
  - fisher
  - {method: task_arithmetic, search: {scale: [0.1, 0.5]}}
  - {method: regmean, search: {off_diagonal: [0.1, 0.9, 1.0]}}
  - {method: mats, except: ["*.bias"]}
  - {method: ties, search: {density: [0.2, 0.6]}}
  - {method: dare, inner: ties}
  - {method: regmean, name: chain, then: {method: ties, then: {method: task_arithmetic, search: {scale: [0.2, 0.4]}}}}
  - pcb"""


def make(folder):
    draw = np.random.default_rng(0)

    def images(count, bright):
        target = draw.integers(0, 3, count)
        input_ = draw.random((count, 1, 6, 6), dtype=np.float32)
        input_[np.arange(count), 0, target, :] += bright
        return {"input.0": input_, "target": target}

    for name, bright in (("plain", 0.5), ("one", 1.0), ("two", 0.2)):
        (folder / name).mkdir(parents=True)
        for split, count in (("train", 200), ("val", 60), ("test", 60)):
            save_file(images(count, bright), folder / name / f"{split}.safetensors")
    architecture = "architecture: vision_transformer, options: {width: 32, depth: 2, patch: 3}"
    base = f"{{train: {{{architecture}, data: {{format: tensors, root: {folder}/plain}}, steps: 10}}}}"
    (folder / "shared.yaml").write_text(RECIPE.format(
        name="shared", folder=folder, base=base, experts=["{train: {steps: 5}}"] * 2, statistics="", merge=ROWS))
    models = folder / "runs" / "shared"
    (folder / "broken.yaml").write_text(RECIPE.format(
        name="broken", folder=folder, base=f"{{model: {models}/base.pt}}",
        experts=[f"{{model: {models}/experts/{task}.pt}}" for task in ("one", "two")],
        statistics=f"    statistics: {folder}/broken.safetensors\n", merge="[regmean]"))


def break_sum(folder, number):
    with safe_open(folder / "runs/shared/statistics/one.safetensors", "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        metadata = file.metadata()
    names = sorted(name for name in tensors if name.endswith("/input_gram") and not name.startswith("head"))
    tensors[names[number % len(names)]][0, 0] = np.nan
    save_file(tensors, folder / "broken.safetensors", metadata)


def compare(one, other):
    for path in sorted(one.glob("*.merge.json")):
        records = [json.loads((folder / path.name).read_text()) for folder in (one, other)]
        for record in records:
            del record["report"]["seconds"]
        assert records[0] == records[1], path.name


if sys.argv[1] == "make":
    make(Path(sys.argv[2]))
elif sys.argv[1] == "break":
    break_sum(Path(sys.argv[2]), int(sys.argv[3]))
else:
    compare(Path(sys.argv[2]), Path(sys.argv[3]))
