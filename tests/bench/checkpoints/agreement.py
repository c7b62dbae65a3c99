"""Compares what two programs made of the same checkpoints, tensor by tensor."""

from dataclasses import dataclass
from pathlib import Path

import torch
from definitions import Difference
from safetensors import safe_open

ROUNDING = 16 * torch.finfo(torch.float32).eps  # of a tensor's largest value: what sums in another order make


class Checkpoint:
    """The tensors of a folder, each read when it is asked for."""

    def __init__(self, folder: Path):
        self.files = [safe_open(path, "pt") for path in sorted(folder.glob("*.safetensors"))]
        self.file_of = {name: file for file in self.files for name in file.keys()}

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.file_of[name].get_tensor(name)


@dataclass
class Agreement:
    tensors: int = 0
    different: int = 0  # tensors with an element beyond rounding
    elements: int = 0
    beyond: int = 0  # elements beyond rounding
    unexplained: int = 0  # of them those that neither a tie nor a known difference accounts for


def beyond_rounding(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """By more than one place of their dtype, and more than the rounding of float32 in sums of numbers of the tensor's size."""
    size = torch.maximum(a.abs(), b.abs()).float()
    place = torch.finfo(a.dtype).eps * torch.exp2(torch.floor(torch.log2(size.clamp(min=torch.finfo(torch.float32).tiny))))
    return (a.float() - b.float()).abs() > place + ROUNDING * size.max()


def ranked(values: torch.Tensor, rank: int) -> torch.Tensor:
    """The value of this rank, 1 the largest."""
    return values.flatten().kthvalue(values.numel() - min(max(rank, 1), values.numel()) + 1).values


def at_ties(choice: str, base: torch.Tensor, experts: list[torch.Tensor]) -> torch.Tensor:
    """Elements whose rank is that of others too where the method draws a line: neither program is wrong about them."""
    kind, *shares = choice.split()
    changes = [expert.float() - base.float() for expert in experts]
    found = torch.zeros_like(base, dtype=torch.bool)
    for change in (change.abs() for change in changes):
        count = change.numel()
        outliers = int(float(shares[0]) * count) if kind == "between" else 0
        lines = [ranked(change, outliers + int(float(shares[-1]) * count))]
        if outliers:
            lines += [ranked(change, outliers)]
        for line in lines:
            found |= change == line
    return found


def accounted(a: torch.Tensor, b: torch.Tensor, base: torch.Tensor, experts: list[torch.Tensor], known: Difference) -> torch.Tensor:
    """Elements of which each program made what it is known to make: both are computed anew."""
    start, models = base.float(), [expert.float() for expert in experts]
    differs = beyond_rounding(a, known.ours(start, models).to(a.dtype)) | beyond_rounding(b, known.theirs(start, models).to(b.dtype))
    return ~differs


def compare(ours: Path, theirs: Path, base: Path, experts: list[Path], choice: str, known: Difference | None) -> Agreement:
    a, b, start, models = Checkpoint(ours), Checkpoint(theirs), Checkpoint(base), [Checkpoint(expert) for expert in experts]
    if set(a.file_of) != set(b.file_of):
        raise SystemExit(f"other tensors: {sorted(set(a.file_of) ^ set(b.file_of))[:5]}")
    found = Agreement(tensors=len(a.file_of))
    for name in a.file_of:
        beyond = beyond_rounding(a[name], b[name])
        count = beyond.sum().item()
        found.elements += beyond.numel()
        found.beyond += count
        found.different += count > 0
        if count and choice:
            beyond &= ~at_ties(choice, start[name], [model[name] for model in models])
        if known and beyond.any():
            beyond &= ~accounted(a[name], b[name], start[name], [model[name] for model in models], known)
        found.unexplained += beyond.sum().item()
    return found


def change_norm(folder: Path, base: Path) -> float:
    """‖θ − θ0‖ over all tensors."""
    a, start = Checkpoint(folder), Checkpoint(base)
    return sum((a[name].double() - start[name].double()).square().sum().item() for name in a.file_of) ** 0.5
