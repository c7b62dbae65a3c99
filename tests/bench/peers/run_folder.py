"""What a finished run of amalgam holds, by the names of the original checkpoint."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from amalgam_export.record import read_record
from safetensors import safe_open
from safetensors.torch import load_file

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Row:
    name: str
    method: str
    options: dict
    weights: dict[str, float]  # by task, in the recipe's order
    merging: float  # seconds, reading included
    whole: float  # seconds, with what the models are written as
    tensors: Tensors  # of the checkpoint: buffers that only the TorchScript has are left out


def read_options(text: str) -> dict:
    """Numbers as amalgam writes them: to Python's YAML "1e-08" is a text."""
    def number(value: object) -> object:
        try:
            return float(value) if isinstance(value, str) else value
        except ValueError:
            return value
    return {key: number(value) for key, value in (yaml.safe_load(text) or {}).items()}


def read_rows(run: Path, base: Path) -> list[Row]:
    original = {name: tensor.name for name, tensor in read_record(base).tensors.items()}
    rows = []
    for path in sorted(run.glob("merged/*.merge.json")):
        about = json.loads(path.read_text())
        name = path.name.removesuffix(".merge.json")
        merged = load_file(path.with_name(f"{name}.safetensors"))
        step = json.loads((run / f"steps/merge-{name}.json").read_text())
        rows.append(Row(about["row"], about["method"], read_options(about["options"]),
                        {expert["task"]: expert["weight"] for expert in about["experts"]}, about["report"]["seconds"], step["seconds"],
                        {original[key]: tensor for key, tensor in merged.items() if key in original}))
    return rows


@dataclass(frozen=True)
class Inputs:
    """What peers read: folders as transformers knows them, and the statistics of amalgam."""
    base: Path
    experts: dict[str, Path]  # by task
    statistics: dict[str, Path]

    def tensors(self, tasks: dict[str, float]) -> tuple[Tensors, list[Tensors]]:
        """Without integers (BERT's position_ids), which FusionBench's arithmetic does not take."""
        read = [{name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if tensor.is_floating_point()}
                for folder in (self.base, *(self.experts[task] for task in tasks))]
        return read[0], read[1:]


class Statistics:
    """Of one task; names are the checkpoint's (`prefix` is what the TorchScript has before them)."""

    def __init__(self, path: Path, prefix: str = "body."):
        self.file = safe_open(path, "pt")
        self.header = {key: json.loads(value) for key, value in self.file.metadata().items()}
        self.prefix = prefix
        self.layers = {layer["name"].removeprefix(prefix): layer for layer in self.header["layers"]["layers"] if layer["kind"] == "linear"}
        self.keys = set(self.file.keys())

    def squared_gradient(self, name: str) -> torch.Tensor | None:
        key = f"{self.prefix}{name}/squared_gradient"
        return self.file.get_tensor(key) / self.header["examples"] if key in self.keys else None

    def input_gram(self, layer: str, bias: bool) -> torch.Tensor:
        """A [n, n] in float64; with `bias` [n + 1, n + 1], the input 1 last."""
        own = self.layers[layer]
        same = [key for key in own if key in ("input_of", "kind", "in", "groups", "kernel", "stride", "padding", "dilation")]
        owner = next(other["name"] for other in self.layers.values() if all(other[key] == own[key] for key in same))
        gram, total, rows = (self.file.get_tensor(f"{owner}/{part}").double() for part in ("input_gram", "input_sum", "rows"))
        if not bias:
            return gram / rows
        return torch.cat([torch.cat([gram, total.unsqueeze(1)], 1), torch.cat([total, rows.view(1)]).unsqueeze(0)]) / rows
