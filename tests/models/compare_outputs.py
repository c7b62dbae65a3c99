"""compare_outputs.py FOLDER: every FOLDER/<model>.pt gives the outputs that FOLDER/<model>.safetensors says.

The file holds "input" and "output", or for a model of many tasks "output.<task>" each.
"""

import pathlib
import sys

import torch
from safetensors.numpy import load_file

torch.set_num_threads(1)
paths = sorted(pathlib.Path(sys.argv[1]).glob("*.pt"))
assert paths, "no model"
for path in paths:
    model = torch.jit.load(str(path)).eval()
    arrays = load_file(str(path.with_suffix(".safetensors")))
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    for name, expected in tensors.items():
        if name == "input":
            continue
        output = model(*name.split(".")[1:], tensors["input"])
        error = (output - expected).abs().max().item()
        assert error <= 16 * torch.finfo(torch.float32).eps * expected.abs().max().item(), (path, name, error)
    output.sum().backward()
    assert any(p.grad is not None for p in model.parameters()), f"{path}: cannot be trained on"
