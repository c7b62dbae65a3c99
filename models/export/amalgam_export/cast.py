"""`cast`: a model in another precision."""

from pathlib import Path

import torch

from .errors import ExportError
from .record import KEY
from .staging import staged


def cast(model: Path, output: Path, dtype: str) -> int:
    """Floating parameters and buffers, each rounded to `dtype`. What the model's code itself makes keeps its precision. -> how many"""
    if not model.is_file():
        raise ExportError(f"{model}: no such file; expected is a TorchScript model")
    extra = {KEY: ""}
    try:
        module = torch.jit.load(str(model), map_location="cpu", _extra_files=extra)
    except RuntimeError as error:
        raise ExportError(f"{model}: not a TorchScript file ({str(error).splitlines()[0]})") from error
    module.to(getattr(torch, dtype))
    with staged(output) as folder:
        torch.jit.save(module, str(folder / output.name), _extra_files={KEY: extra[KEY]} if extra[KEY] else {})
    return sum(tensor.is_floating_point() for tensor in module.state_dict().values())
