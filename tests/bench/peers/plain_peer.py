"""Methods as published, written plainly in PyTorch: an oracle for what peers do otherwise. Changes from the base are float32, as they are
stored, and all that is made of them is float64. Of equal values the first ones rank higher."""

import torch
from result import Result, timed
from run_folder import Inputs, Row, Statistics, Tensors


def mean(experts: list[Tensors], name: str) -> torch.Tensor:
    return torch.stack([expert[name].double() for expert in experts]).mean(0)


def regmean(row: Row, base: Tensors, experts: list[Tensors], statistics: list[Statistics]) -> Tensors:
    """W = W_0 + Σ (W_m − W_0) A_m (Σ A_m + ridge tr(Σ A_m)/n I)⁻¹ of [weight | bias]; everything else is averaged. The ridge draws the
    change towards zero, not the weights."""
    merged = {name: mean(experts, name) for name in experts[0]}
    for layer, about in statistics[0].layers.items():
        weight, bias = f"{layer}.weight", f"{layer}.bias" if about["bias"] else None
        if weight not in merged:
            continue  # a private head
        start = matrix(base, weight, bias)
        total, product = 0, 0
        for expert, task in zip(experts, statistics):
            gram = task.input_gram(layer, bias is not None)
            gram = gram * row.options["off_diagonal"] + (1 - row.options["off_diagonal"]) * gram.diag().diag()
            total, product = total + gram, product + (matrix(expert, weight, bias) - start) @ gram
        total = total + row.options["ridge"] * total.trace() / len(total) * torch.eye(len(total), dtype=total.dtype)
        solved = start + torch.linalg.solve(total, product.T).T
        merged[weight] = solved if bias is None else solved[:, :-1]
        if bias is not None:
            merged[bias] = solved[:, -1]
    return merged


def matrix(tensors: Tensors, weight: str, bias: str | None) -> torch.Tensor:
    """[weight | bias]"""
    return tensors[weight].double() if bias is None else torch.cat([tensors[weight], tensors[bias].unsqueeze(1)], 1).double()


def fisher(row: Row, base: Tensors, experts: list[Tensors], statistics: list[Statistics]) -> Tensors:
    """Σ F_m θ_m / Σ F_m, each F_m at least `floor` times its mean over the parameter; averaged where no task has any."""
    merged = {}
    for name in experts[0]:
        information = [task.squared_gradient(name) for task in statistics]
        if any(part is None for part in information) or not sum(part.sum() for part in information) > 0:
            merged[name] = mean(experts, name)
            continue
        information = [part.double().clamp(min=row.options["floor"] * part.double().mean().item()) for part in information]
        total = sum(part * expert[name].double() for part, expert in zip(information, experts))
        merged[name] = total / sum(information)
    return merged


def changes_of(base: Tensors, experts: list[Tensors], name: str) -> torch.Tensor:
    """[experts, elements]"""
    return torch.stack([(expert[name] - base[name]).flatten() for expert in experts])


def largest(values: torch.Tensor, count: int) -> torch.Tensor:
    """Marks as many of the elements of a vector."""
    return torch.zeros(len(values), dtype=torch.bool).index_fill_(0, values.sort(descending=True, stable=True).indices[:count], True)


def mean_of_agreeing(changes: torch.Tensor, weights: torch.Tensor, sign: torch.Tensor) -> torch.Tensor:
    """Of each element over the experts whose change has the elected sign; 0 where none has."""
    weighted = weights.unsqueeze(1) * (changes.sign() == sign).double()
    total = weighted.sum(0)
    return torch.where(total > 0, (weighted * changes).sum(0) / total, 0)


def add(base: Tensors, name: str, change: torch.Tensor) -> torch.Tensor:
    return base[name].double() + change.view(base[name].shape)


def breadcrumbs(row: Row, base: Tensors, experts: list[Tensors], statistics: list[Statistics]) -> Tensors:
    """λ Σ of each expert's changes that are neither among the share `outliers` of the largest of a tensor nor below the next `density`."""
    merged = {}
    for name in experts[0]:
        total = 0
        for change in changes_of(base, experts, name):
            outliers = int(row.options["outliers"] * len(change))
            kept = min(max(1, int(row.options["density"] * len(change))), len(change) - outliers)
            size = change.abs()
            total = total + (largest(size, outliers + kept) & ~largest(size, outliers)) * change.double()
        merged[name] = add(base, name, row.options["scale"] * total)
    return merged


def sce(row: Row, base: Tensors, experts: list[Tensors], statistics: list[Statistics]) -> Tensors:
    """The elements of the largest variance over the experts; the mean of those that have the sign of the sum (plus, where that is zero), by
    ‖change‖² of what is kept."""
    merged = {}
    for name in experts[0]:
        changes = changes_of(base, experts, name).double()
        if row.options["density"] < 1:
            variance = changes.var(0, correction=0)
            changes = changes * largest(variance, max(1, int(row.options["density"] * variance.count_nonzero())))
        shares = changes.square().sum(1)
        sign = torch.where(changes.sum(0) >= 0, 1, -1)
        merged[name] = add(base, name, mean_of_agreeing(changes, shares / shares.sum(), sign))
    return merged


def ties(row: Row, base: Tensors, experts: list[Tensors], statistics: list[Statistics]) -> Tensors:
    """The largest changes of all tensors together, or of each; λ times the mean of those that have the sign of the sum."""
    names = list(experts[0])
    sizes = [base[name].numel() for name in names]
    changes = torch.cat([changes_of(base, experts, name) for name in names], 1)
    parts = [changes] if row.options["trim"] == "model" else changes.split(sizes, 1)
    trimmed = []
    for part in parts:
        least = part.abs().kthvalue(part.shape[1] - max(1, int(row.options["density"] * part.shape[1])) + 1, 1).values
        trimmed.append(torch.where(part.abs() >= least.unsqueeze(1), part, 0))
    changes = torch.cat(trimmed, 1)
    sign = changes.double().sum(0).sign()
    sign = torch.where(sign == 0, sign.sum().sign(), sign)
    change = mean_of_agreeing(changes, torch.ones(len(experts), dtype=torch.float64), sign)
    return {name: add(base, name, row.options["scale"] * part) for name, part in zip(names, change.split(sizes))}


FUNCTIONS = {"regmean": regmean, "fisher": fisher, "breadcrumbs": breadcrumbs, "sce": sce, "ties": ties}


def merge(row: Row, inputs: Inputs) -> Result | None:
    function = FUNCTIONS.get(row.method)
    if function is None or len(set(row.weights.values())) > 1 or row.options.get("weights", "uniform") != "uniform":
        return None

    def run() -> Tensors:
        base, experts = inputs.tensors(row.weights)
        needed = row.weights if row.method in ("regmean", "fisher") else ()
        merged = function(row, base, experts, [Statistics(inputs.statistics[task]) for task in needed])
        return {name: tensor.to(experts[0][name].dtype) for name, tensor in merged.items()}

    run()
    tensors, merging = timed(run)
    return Result(tensors, merging, None, why="of regmean: the residual of a solve, times the system's condition")
