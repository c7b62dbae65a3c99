"""`module`: any torch.nn.Module becomes a base."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .base import Argument, aliases_of, make_base, tensors_of
from .compare import Agreement, Batch, require_same
from .errors import ExportError, suggestion
from .heads import make_heads
from .quiet import quiet
from .record import KEY, Original, Record, names_file
from .staging import staged


@dataclass(frozen=True)
class ModuleOptions:
    factory: str  # "package.module:function"
    arguments: dict[str, object] = field(default_factory=dict)
    heads: dict[str, int] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class Made:
    """What the factory returned: a module in evaluation mode, and inputs of one call, by name where it gave names."""
    module: torch.nn.Module
    inputs: tuple[torch.Tensor, ...]
    names: tuple[str, ...] = ()


def parse_arguments(given: list[str]) -> dict[str, object]:
    """["depth=4", "name=small"] -> {"depth": 4, "name": "small"}: JSON where it is JSON, else text."""
    arguments: dict[str, object] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise ExportError(f"--argument {text}: expected is KEY=VALUE, as in --argument depth=4")
        try:
            arguments[key] = json.loads(value)
        except ValueError:
            arguments[key] = value
    return arguments


def find_factory(text: str) -> Callable:
    package, colon, name = text.partition(":")
    if not colon or not name:
        raise ExportError(f"--factory {text}: expected is PACKAGE.MODULE:FUNCTION")
    sys.path.insert(0, "")  # modules of the current folder, as `python -m` finds them
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        raise ExportError(f"--factory {text}: {package} cannot be imported ({error}); put its folder on PYTHONPATH") from error
    finally:
        sys.path.remove("")
    if not callable(getattr(module, name, None)):
        raise ExportError(f"--factory {text}: {package} has no function '{name}'{suggestion(name, vars(module))}")
    return getattr(module, name)


def call_factory(options: ModuleOptions) -> Made:
    torch.manual_seed(options.seed)  # a module that the factory does not load from a file is the same each time
    made = find_factory(options.factory)(**options.arguments)
    where = f"--factory {options.factory}"
    if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[0], torch.nn.Module):
        raise ExportError(f"{where}: it must return (module, inputs): a torch.nn.Module, and a tensor, a tuple of tensors or a dict of "
                          "tensors by the names of forward's arguments")
    module, inputs = made
    names = tuple(inputs) if isinstance(inputs, dict) else ()
    values = tuple(inputs.values()) if isinstance(inputs, dict) else (inputs,) if isinstance(inputs, torch.Tensor) else inputs
    if not isinstance(values, (tuple, list)) or not values or not all(isinstance(value, torch.Tensor) for value in values):
        raise ExportError(f"{where}: the inputs that it returns must be a tensor, a tuple of tensors, or a dict of tensors")
    if any(value.dim() == 0 or len(value) != len(values[0]) or len(value) < 2 for value in values):
        raise ExportError(f"{where}: the first axis of each input is the example, and there must be two of them at least")
    return Made(module.eval(), tuple(values), names)


def to_torchscript(made: Made) -> tuple[torch.jit.ScriptModule, str]:
    """Scripted, which keeps what depends on the input; traced where that fails. And which of the two."""
    if isinstance(made.module, torch.jit.ScriptModule):
        return made.module, "as it is"
    with quiet():
        try:
            return torch.jit.script(made.module), "scripted"
        except Exception as error:  # of many classes: the compiler's, the module's own
            why = str(error).strip().splitlines()
        try:
            inputs = {"example_kwarg_inputs": dict(zip(made.names, made.inputs))} if made.names else {"example_inputs": made.inputs}
            return torch.jit.trace(made.module, **inputs, check_trace=False, strict=False), "traced"
        except Exception as error:
            raise ExportError(f"{type(made.module).__name__} can neither be scripted ({why[0] if why else 'no reason given'}) nor traced "
                              f"({(str(error).strip().splitlines() or ['no reason given'])[-1]})") from error


def arguments_of(script: torch.jit.ScriptModule, made: Made, where: str) -> list[Argument]:
    """Of forward, those that the inputs are for, in the inputs' order."""
    known = {argument.name: Argument(argument.name, argument.type.annotation_str) for argument in script.forward.schema.arguments[1:]}
    names = made.names or tuple(known)[:len(made.inputs)]
    unknown = [name for name in names if name not in known]
    if unknown or len(names) < len(made.inputs):
        raise ExportError(f"{where}: forward takes ({', '.join(known)}), and the inputs are {', '.join(made.names) or len(made.inputs)}")
    if list(names) != list(known)[:len(names)]:
        raise ExportError(f"{where}: the inputs must be forward's first arguments in their order ({', '.join(known)})")
    return [known[name] for name in names]


def example_batches(made: Made) -> Iterator[Batch]:
    """The examples in other numbers and orders."""
    count = len(made.inputs[0])
    for size in sorted({1, 2, 3, count, 2 * count + 1}):
        rows = (torch.arange(size) * 7 + size) % count
        yield Batch(f"{size} examples", tuple(value[rows] for value in made.inputs))


def with_heads(made: Made, body: torch.jit.ScriptModule, options: ModuleOptions,
               where: str) -> tuple[torch.jit.ScriptModule, torch.nn.Module]:
    with torch.no_grad():
        features = made.module(*made.inputs)
    if not isinstance(features, torch.Tensor) or features.dim() < 2 or not features.is_floating_point():
        raise ExportError(f"{where}: heads stand on features, one tensor [N, D] or [N, T, D], and the module returns "
                          f"{list(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__}")
    heads = make_heads(options.heads, features.shape[-1], options.seed, features.dtype)
    return make_base(body, heads, arguments_of(body, made, where), "none"), heads


def export_module(output: Path, options: ModuleOptions) -> tuple[Agreement, str]:
    """Writes base.pt and base.names.json. @throws ExportError, and then nothing is written"""
    where = f"--factory {options.factory}"
    made = call_factory(options)
    body, how = to_torchscript(made)
    inputs = [argument.name for argument in arguments_of(body, made, where)]
    base, heads = with_heads(made, body, options, where) if options.heads else (body, None)
    record = make_record(options, inputs, made.module, base)

    def original(*values: torch.Tensor) -> object:
        returned = made.module(*values)
        return returned if heads is None else {task: head(returned) for task, head in heads.named_children()}

    with staged(output) as folder:
        torch.jit.save(base, str(folder / output.name), _extra_files={KEY: record.to_json()})
        (folder / names_file(output).name).write_text(record.to_json(), encoding="utf-8")
        written = torch.jit.load(str(folder / output.name))
        return require_same(original, written, example_batches(made), where), how


def make_record(options: ModuleOptions, inputs: list[str], module: torch.nn.Module, base: torch.jit.ScriptModule) -> Record:
    tensors, own = tensors_of(base), module.state_dict()
    if not list(base.named_parameters()):
        raise ExportError(f"--factory {options.factory}: the module has no parameters; if it was frozen, return it unfrozen")
    prefix = "body." if options.heads else ""
    named = {prefix + name: Original(name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)) for name, tensor in own.items()
             if prefix + name in tensors}
    return Record(kind="module", model=type(module).__name__, source=options.factory, inputs=inputs, heads=options.heads,
                  private=["heads.*"] if options.heads else [], tensors=named, aliases=aliases_of(tensors))
