"""`hf`: merged tensors, as amalgam writes them, become a folder that transformers loads."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .base import tensors_of
from .compare import Agreement, require_same
from .errors import ExportError, suggestion
from .ia3 import fold_vector, is_vector
from .pretrained import example_batches, load_pretrained, pooled
from .record import Record, files_folder, read_record
from .staging import staged

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Merged:
    """Tensors by the checkpoint's names, in the checkpoint's dtypes, and the base with just these values in it."""
    originals: dict[str, torch.Tensor]
    base: torch.jit.ScriptModule
    record: Record


def write_hf(base_path: Path, tensors_path: Path, output: Path, check: bool) -> Agreement | None:
    """@throws ExportError, and then nothing is written"""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ExportError(f"{output}: it is there already; give another place or remove it")
    record = read_record(base_path)
    if record.kind != "encoder":
        raise ExportError(f"{base_path}: it was made of {record.model} by `{record.kind}`, which transformers does not load")
    files = files_folder(base_path)
    absent = [name for name in [*record.files, record.rest] if name and not (files / name).is_file()]
    if absent:
        raise ExportError(f"{files}: it lacks {', '.join(absent)}; put the folder that the export wrote beside {base_path.name}")
    merged = name_tensors(base_path, record, read_tensors(tensors_path), tensors_path)
    with staged(output) as stage:
        folder = stage / output.name
        folder.mkdir()
        write_folder(merged, files, folder)
        return check_folder(merged, folder) if check else None


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Of a safetensors file, or of a model of one task: an expert."""
    if not path.is_file():
        raise ExportError(f"{path}: no such file")
    try:
        if path.suffix == ".pt":
            return tensors_of(_of_one_task(torch.jit.load(str(path), map_location="cpu"), path))
        return load_file(path)
    except (RuntimeError, SafetensorError) as error:
        raise ExportError(f"{path}: neither safetensors nor TorchScript ({str(error).splitlines()[0]})") from error


def _of_one_task(model: torch.jit.ScriptModule, path: Path) -> torch.jit.ScriptModule:
    if [argument.name for argument in model.forward.schema.arguments][1:2] == ["task"]:
        raise ExportError(f"{path}: a merged model of many tasks; give the .safetensors beside it, which has what they share")
    return model


def name_tensors(base_path: Path, record: Record, given: dict[str, torch.Tensor], where: Path) -> Merged:
    base = torch.jit.load(str(base_path), map_location="cpu")
    own = tensors_of(base)
    for name, tensor in given.items():
        if name not in own:
            raise ExportError(f"{where}: the base has no '{name}'{suggestion(name, own)}; give tensors that were merged from this base")
        if tensor.shape != own[name].shape:
            raise ExportError(f"{where}: '{name}' is {list(tensor.shape)}, and the base has {list(own[name].shape)}")
    parameters = {name for name, _ in base.named_parameters(remove_duplicate=False)}
    originals: dict[str, torch.Tensor] = {}
    for name, original in record.tensors.items():
        value = _value_of(name, given, record.aliases)
        if value is None:
            if name in parameters:
                raise ExportError(f"{where}: '{name}' is missing (was it private?); a merged model of many tasks has it once for each: "
                                  "give one task's model as --tensors EXPERT.pt")
            value = own[name]  # a buffer that merging left alone
        kept = value.to(getattr(torch, original.dtype))
        originals[original.name] = (kept.T if original.transposed else kept).clone(memory_format=torch.contiguous_format)
        with torch.no_grad():
            own[name].copy_(kept)
    fold_vectors(own, record, given, originals, where)
    return Merged(originals, base, record)


def fold_vectors(own: dict[str, torch.Tensor], record: Record, given: dict[str, torch.Tensor], originals: dict[str, torch.Tensor],
                 where: Path) -> None:
    """The original has no (IA)³ vectors: its weights take them over, and so do the base's, whose vectors become ones."""
    for name in filter(is_vector, own):
        if name not in given:
            raise ExportError(f"{where}: '{name}' is missing; give the tensors of a merged model whole")
        module = name.rpartition(".")[0]
        parts = {f"{module}.{part}": record.tensors[f"{module}.{part}"].name for part in ("weight", "bias")
                 if f"{module}.{part}" in record.tensors}
        weight, bias = originals[parts[f"{module}.weight"]], originals.get(parts.get(f"{module}.bias", ""))
        fold_vector(name, given[name], weight, bias)
        with torch.no_grad():
            own[name].fill_(1)
            for part, original in parts.items():
                own[part].copy_(originals[original])


def _value_of(name: str, given: dict[str, torch.Tensor], aliases: dict[str, str]) -> torch.Tensor | None:
    """A tied tensor is given under any one of its names."""
    first = aliases.get(name, name)
    for known in (name, first, *(alias for alias, its_first in aliases.items() if its_first == first)):
        if known in given:
            return given[known]
    return None


def write_folder(merged: Merged, files: Path, folder: Path) -> None:
    tensors = dict(merged.originals)
    if merged.record.rest:
        tensors.update(load_file(files / merged.record.rest))
    save_file(dict(sorted(tensors.items())), str(folder / WEIGHTS), metadata={"format": "pt"})
    for name in merged.record.files:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(files / name, folder / name)


def check_folder(merged: Merged, folder: Path) -> Agreement:
    """What transformers loads has the tensors, and gives the hidden states and logits that the TorchScript gives with them."""
    loaded = load_pretrained(folder)
    if loaded.missing:
        raise ExportError(f"{folder}: transformers misses {', '.join(loaded.missing[:4])}; this is an error of this program")
    own = tensors_of(loaded.model)
    for name, original in merged.record.tensors.items():
        inner = name.removeprefix("body.")
        if inner in own and not torch.equal(own[inner], merged.originals[original.name].to(own[inner].dtype)):
            raise ExportError(f"{folder}: transformers reads other values for '{original.name}'; this is an error of this program")
    heads, pool = merged.base.heads, merged.record.pool

    def original(*inputs: torch.Tensor) -> list:
        hidden = loaded.hidden(*inputs)
        features = pooled(hidden, inputs, pool)
        return [hidden, {task: getattr(heads, task)(features) for task in merged.record.heads}]

    def export(*inputs: torch.Tensor) -> list:
        return [merged.base.body(*inputs), merged.base(*inputs)]

    return require_same(original, export, example_batches(loaded), str(folder))
