"""Data and a recipe for collect_test.sh: python make_collect_case.py FOLDER"""
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

folder = Path(sys.argv[1])
draw = np.random.default_rng(0)


def images(count):
    target = draw.integers(0, 3, count)
    input_ = draw.random((count, 1, 6, 6), dtype=np.float32)
    input_[np.arange(count), 0, target, :] += 0.5
    return {"input.0": input_, "target": target}


def write(name, splits):
    (folder / name).mkdir(parents=True)
    for split, tensors in splits.items():
        save_file(tensors, folder / name / f"{split}.safetensors")


plain = {"train": images(12001), "val": images(60), "test": images(60)}
write("plain", plain)
broken = {name: tensor.copy() for name, tensor in plain["train"].items()}
broken["input.0"][2345] = np.nan
write("broken", {**plain, "train": broken})

RECIPE = """name: {name}
device: cpu
base: {base}
tasks:
  - name: one
    data: {{format: tensors, root: {folder}/{data}}}
    expert: {expert}
statistics: {{kinds: [kronecker, squared_gradient], examples: 12001, batch: 8, checkpoint_every: 400, labels: sampled}}
merge: [average]
"""
TRAIN = "{{architecture: vision_transformer, options: {{width: 32, depth: 2, patch: 3}}, data: {{format: tensors, root: {folder}/plain}}, steps: 20}}"
(folder / "plain.yaml").write_text(
    RECIPE.format(name="plain", data="plain", folder=folder, expert="{train: {steps: 10}}",
                  base="{train: " + TRAIN.format(folder=folder).replace("{{", "{").replace("}}", "}") + "}"))
(folder / "broken.yaml").write_text(
    RECIPE.format(name="broken", data="broken", folder=folder, base=f"{{model: {folder}/runs/plain/base.pt}}",
                  expert=f"{{model: {folder}/runs/plain/experts/one.pt}}"))
