"""One linear head a task, on features that a body makes."""

import hashlib
import keyword
import re

import torch

from .errors import ExportError

STD = 0.02  # as transformers initialises a classifier (initializer_range)


def parse_heads(given: list[str]) -> dict[str, int]:
    """["sst2=2", "trec6=6"] -> classes by task."""
    heads: dict[str, int] = {}
    for text in given:
        task, equals, classes = text.partition("=")
        if not equals or not classes.isascii() or not classes.isdigit() or int(classes) == 0:
            raise ExportError(f"--head {text}: expected is TASK=CLASSES, as in --head sst2=2")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", task) or keyword.iskeyword(task):
            raise ExportError(f"--head {text}: '{task}' cannot name a task: a name is a letter, then letters, digits and underscores, "
                              "and no word of Python's")
        if hasattr(torch.nn.Module, task) or task == "training":
            raise ExportError(f"--head {text}: '{task}' cannot name a task: every module has an attribute of that name")
        if task in heads:
            raise ExportError(f"--head {text}: '{task}' has a head already")
        heads[task] = int(classes)
    return heads


class Head(torch.nn.Module):
    """torch.nn.Linear without its constants, which TorchScript writes in an order that changes from process to process."""

    def __init__(self, width: int, classes: int, dtype: torch.dtype):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(classes, width, dtype=dtype))
        self.bias = torch.nn.Parameter(torch.zeros(classes, dtype=dtype))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(features, self.weight, self.bias)


def make_heads(classes: dict[str, int], width: int, seed: int, dtype: torch.dtype) -> torch.nn.Module:
    """Weights from N(0, STD²), biases 0. A head depends on the seed and its task's name alone, not on other heads."""
    heads = torch.nn.Module()
    for task, count in classes.items():
        head = Head(width, count, dtype)
        digest = hashlib.sha256(f"{seed}/{task}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        with torch.no_grad():
            head.weight.copy_(torch.randn(count, width, generator=generator, dtype=torch.float64) * STD)
        heads.add_module(task, head)
    return heads
