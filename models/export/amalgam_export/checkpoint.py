"""The tensors of a pretrained model as its files name them."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open

from .errors import ExportError

# transformers renames these when it reads an old checkpoint (PreTrainedModel._fix_state_dict_key_on_load, 4.57).
LEGACY = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))


class Checkpoint:
    """The weights in a folder: safetensors or pytorch_model.bin, whole or in shards."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.files = _weight_files(folder)
        self._tensors: dict[str, torch.Tensor] = {}
        for file in self.files:
            self._tensors.update(_read(file))

    def names(self) -> list[str]:
        return sorted(self._tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[name]

    def original_name(self, name: str, prefix: str) -> str | None:
        """What the checkpoint calls a tensor of the loaded model; None where it has none of that name.

        @param prefix  base_model_prefix of the class: a checkpoint of a model with a head has it before every name
        """
        for candidate in _candidates(name, prefix):
            if candidate in self._tensors:
                return candidate
        return None

    def digests(self) -> dict[str, str]:
        """SHA-256 of each file of weights."""
        result = {}
        for file in self.files:
            with file.open("rb") as stream:
                result[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
        return result


def _candidates(name: str, prefix: str) -> Iterator[str]:
    for known in (name, f"{prefix}.{name}"):
        yield known
        for now, then in LEGACY:
            if known.endswith(now):
                yield known.removesuffix(now) + then


def _weight_files(folder: Path) -> list[Path]:
    """In the order of preference of from_pretrained."""
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        whole = folder / f"{stem}.{suffix}"
        if whole.is_file():
            return [whole]
        index = folder / f"{stem}.{suffix}.index.json"
        if index.is_file():
            files = sorted({folder / name for name in json.loads(index.read_text())["weight_map"].values()})
            missing = [file.name for file in files if not file.is_file()]
            if missing:
                raise ExportError(f"{index} names shards that are not there: {', '.join(missing)}; copy the whole folder")
            return files
    raise ExportError(f"{folder}: there are no weights (model.safetensors or pytorch_model.bin, whole or in shards)")


def _read(file: Path) -> dict[str, torch.Tensor]:
    if file.suffix == ".bin":
        return torch.load(file, map_location="cpu", weights_only=True)
    with safe_open(file, framework="pt") as tensors:
        return {name: tensors.get_tensor(name) for name in tensors.keys()}
