"""compare_tasks.py MODEL.pt OUTPUTS.safetensors: the model of many tasks gives each task's output, in any order, also
after it was moved, saved and loaded again.

The file of outputs holds "input" and "output.<task>" each.
"""

import io
import sys

import torch
from safetensors.numpy import load_file

torch.set_num_threads(1)
arrays = load_file(sys.argv[2])
tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
tasks = [name.split(".")[1] for name in tensors if name.startswith("output.")]


def check(model, order):
    for task in order:
        expected = tensors[f"output.{task}"]
        with torch.no_grad():
            output = model(task, tensors["input"])
        error = (output - expected).abs().max().item()
        assert error <= 16 * torch.finfo(torch.float32).eps * expected.abs().max().item(), (task, error)


model = torch.jit.load(sys.argv[1]).eval()
check(model, tasks + tasks[::-1] + tasks)
check(model.to("cpu"), tasks)
kept = io.BytesIO()
torch.jit.save(model, kept)
kept.seek(0)
check(torch.jit.load(kept), tasks[::-1] + tasks)
with torch.autocast("cpu"):
    model(tasks[0], tensors["input"])
check(model, tasks[:1])  # tensors that were built under autocast are as exact
