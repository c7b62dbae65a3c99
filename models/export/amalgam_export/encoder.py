"""`encoder`: a pretrained encoder with heads becomes one TorchScript base."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from .base import Argument, aliases_of, make_base, tensors_of
from .checkpoint import Checkpoint
from .compare import Agreement, require_same
from .errors import ExportError
from .heads import make_heads
from .ia3 import insert_vectors, is_vector, scaled_by
from .pretrained import IMAGE, Pretrained, example_batches, feature_width, load_pretrained, pooled, require_weights
from .quiet import quiet
from .record import KEY, Original, Record, files_folder, names_file
from .source import Source
from .staging import staged

REST = "rest.safetensors"


@dataclass(frozen=True)
class EncoderOptions:
    heads: dict[str, int]
    pool: str = "mean"  # mean | cls | none
    seed: int = 0
    ia3: bool = False  # with vectors that scale keys, values and feed-forward networks


def export_encoder(source: Source, output: Path, options: EncoderOptions) -> Agreement:
    """Writes base.pt, base.names.json and base.hf/. @throws ExportError, and then nothing is written"""
    pretrained = load_pretrained(source.folder)
    require_weights(source.folder, pretrained.missing)
    checkpoint = Checkpoint(source.folder)
    heads = make_heads(options.heads, feature_width(pretrained), options.seed, torch.float32)
    if options.ia3:
        insert_vectors(pretrained.model)
    base = trace(pretrained, heads, options.pool)
    record = make_record(source, output, options, pretrained, base, checkpoint)
    with staged(output) as folder:
        torch.jit.save(base, str(folder / output.name), _extra_files={KEY: record.to_json()})
        (folder / names_file(output).name).write_text(record.to_json(), encoding="utf-8")
        copy_files(source, record, checkpoint, folder)
        written = torch.jit.load(str(folder / output.name))

        def original(*inputs: torch.Tensor) -> dict[str, torch.Tensor]:
            features = pooled(pretrained.hidden(*inputs), inputs, options.pool)
            return {task: head(features) for task, head in heads.named_children()}

        return require_same(original, written, example_batches(pretrained), str(source.given))


def trace(pretrained: Pretrained, heads: torch.nn.Module, pool: str) -> torch.jit.ScriptModule:
    """The body is traced by itself, so that it can be called by itself: base.body(input_ids, attention_mask)."""
    model = pretrained.model
    plain = type(model).forward
    if pretrained.inputs == IMAGE:
        model.forward = lambda pixel_values: plain(model, pixel_values=pixel_values, return_dict=True).last_hidden_state
    else:
        model.forward = lambda input_ids, attention_mask: plain(
            model, input_ids=input_ids, attention_mask=attention_mask, return_dict=True).last_hidden_state
    try:
        with quiet():  # with gradients enabled: without, some attention takes a fused path where amalgam sees no layer
            body = torch.jit.trace(model, next(example_batches(pretrained)).inputs, check_trace=False)
    except RuntimeError as error:
        raise ExportError(f"{type(model).__name__} cannot be traced: {str(error).strip().splitlines()[-1]}; use `module` with a "
                          "function that returns a model which can") from error
    finally:
        del model.forward
    known = "mean_all" if pool == "mean" and pretrained.inputs == IMAGE else pool
    return make_base(body, heads, [Argument(name) for name in pretrained.inputs], known)


def make_record(source: Source, output: Path, options: EncoderOptions, pretrained: Pretrained, base: torch.jit.ScriptModule,
                checkpoint: Checkpoint) -> Record:
    tensors = tensors_of(base)
    named = map_names(pretrained.model, tensors, checkpoint)
    used = {original.name for original in named.values()}
    return Record(kind="encoder", model=type(pretrained.model).__name__, source=source.given, inputs=list(pretrained.inputs),
                  heads=options.heads, private=["heads.*"], tensors=named, aliases=aliases_of(tensors),
                  model_type=pretrained.model.config.model_type, pool=options.pool, folder=files_folder(output).name,
                  files=[str(file) for file in source.files()], weights=checkpoint.digests(),
                  vectors={name: scaled_by(name) for name in tensors if is_vector(name)},
                  rest=REST if any(name not in used for name in checkpoint.names()) else "")


def map_names(model: torch.nn.Module, tensors: dict[str, torch.Tensor], checkpoint: Checkpoint) -> dict[str, Original]:
    """The TorchScript's names -> the checkpoint's, every one checked by value. Buffers that no checkpoint keeps are left out."""
    parameters = {f"body.{name}" for name, _ in model.named_parameters(remove_duplicate=False)}
    unknown = parameters - tensors.keys()
    if unknown:
        raise ExportError(f"tracing lost {', '.join(sorted(unknown)[:4])}; use `module` with a function of your own")
    aliases = aliases_of(tensors)
    found: dict[str, Original] = {}
    for name, tensor in tensors.items():
        if not name.startswith("body.") or is_vector(name):
            continue
        known = checkpoint.original_name(name.removeprefix("body."), model.base_model_prefix)
        if known is None:
            if name in parameters and name not in aliases and name not in aliases.values():
                raise ExportError(f"{checkpoint.folder}: which tensor of the checkpoint is '{name}' cannot be told; load the model and "
                                  "save it again with save_pretrained, which writes today's names")
            continue
        kept = checkpoint[known]
        if not torch.equal(kept.to(tensor.dtype), tensor):
            raise ExportError(f"{checkpoint.folder}: '{known}' is not what the model has as '{name}'; load the model and save it again "
                              "with save_pretrained, which writes what the model has")
        found[name] = Original(known, str(kept.dtype).removeprefix("torch."), list(kept.shape))
    return found


def copy_files(source: Source, record: Record, checkpoint: Checkpoint, folder: Path) -> None:
    """What the folder of a merged model needs beside the merged tensors."""
    kept = folder / record.folder
    kept.mkdir()
    for file in source.files():
        (kept / file).parent.mkdir(exist_ok=True)
        shutil.copyfile(source.folder / file, kept / file)
    used = {original.name for original in record.tensors.values()}
    rest = {name: checkpoint[name].clone() for name in checkpoint.names() if name not in used}
    if rest:
        save_file(rest, str(kept / record.rest), metadata={"format": "pt"})
