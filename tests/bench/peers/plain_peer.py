"""RegMean and Fisher merging as published, written plainly in PyTorch, in float64: an oracle for what peers do otherwise."""

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


def merge(row: Row, inputs: Inputs) -> Result | None:
    function = {"regmean": regmean, "fisher": fisher}.get(row.method)
    if function is None or len(set(row.weights.values())) > 1 or row.options.get("weights", "uniform") != "uniform":
        return None

    def run() -> Tensors:
        base, experts = inputs.tensors(row.weights)
        merged = function(row, base, experts, [Statistics(inputs.statistics[task]) for task in row.weights])
        return {name: tensor.to(experts[0][name].dtype) for name, tensor in merged.items()}

    run()
    tensors, merging = timed(run)
    return Result(tensors, merging, None, why="the residual of a solve, times the system's condition")
