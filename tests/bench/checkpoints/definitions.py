"""Merges of one tensor that the two programs are known to make in different ways, both ways of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

Merge = Callable[[torch.Tensor, list[torch.Tensor]], torch.Tensor]  # of the base and the experts, in float32
Select = Callable[[list[torch.Tensor], float], torch.Tensor]  # of the changes and a share: the places of what is kept


@dataclass(frozen=True)
class Difference:
    """Two merges that are the same but for what the programs are known to differ in."""

    ours: Merge
    theirs: Merge


def exact_norm(change: torch.Tensor) -> float:
    return change.double().norm().item()


def float32_norm(change: torch.Tensor) -> float:
    """PyTorch adds squares one after another on a CPU, in as many sums as a register holds: millions of them come out too small."""
    return torch.norm(change).item()


def model_stock(norm: Callable[[torch.Tensor], float]) -> Merge:
    def merge(base: torch.Tensor, experts: list[torch.Tensor]) -> torch.Tensor:
        changes, count = [(expert - base).flatten() for expert in experts], len(experts)
        norms = [norm(change) for change in changes]
        cosines = [changes[i].double().dot(changes[j].double()).item() / (norms[i] * norms[j]) for i in range(count) for j in range(i)]
        cosine = sum(cosines) / len(cosines)
        ratio = count * cosine / (1 + (count - 1) * cosine)
        return base.lerp(sum(experts) / count, ratio)

    return merge


def earlier_of_equal(changes: list[torch.Tensor], density: float) -> torch.Tensor:
    """As amalgam: variances by a running mean, of equal ones the earlier."""
    mean, variance = changes[0].clone(), torch.zeros_like(changes[0])
    for count, change in enumerate(changes[1:], 2):
        before = change - mean
        mean.add_(before, alpha=1 / count)
        variance.add_(before.mul_(change - mean))
    variance = variance.div_(len(changes)).flatten()
    return variance.argsort(descending=True, stable=True)[: int(density * variance.count_nonzero().item())]


def any_of_equal(changes: list[torch.Tensor], density: float) -> torch.Tensor:
    """As mergekit: those that PyTorch puts first, which another version of it may not."""
    variance = torch.var(torch.stack(changes), dim=0, correction=0).flatten()
    return variance.topk(int(density * variance.count_nonzero().item())).indices


def sce(density: float, select: Select, least: float) -> Merge:
    """Experts count alike where the means of their squares sum to less than `least`."""

    def merge(base: torch.Tensor, experts: list[torch.Tensor]) -> torch.Tensor:
        changes = [expert - base for expert in experts]
        kept = torch.zeros_like(base).flatten().index_fill_(0, select(changes, density), 1).view_as(base)
        changes = [change.mul_(kept) for change in changes]
        squares = [change.double().square_().mean().item() for change in changes]
        weights = squares if sum(squares) >= least else [1.0] * len(changes)
        sign = torch.where(sum(changes) >= 0, 1.0, -1.0)
        agreeing = [(change.sign() == sign) * (weight / sum(weights)) for change, weight in zip(changes, weights)]
        return base + sum(change * share for change, share in zip(changes, agreeing)) / sum(agreeing).clamp(min=1e-6)

    return merge


NORMS = Difference(model_stock(exact_norm), model_stock(float32_norm))
TIES_AND_SMALL_CHANGES = Difference(sce(0.1, earlier_of_equal, least=0), sce(0.1, any_of_equal, least=1e-6))
