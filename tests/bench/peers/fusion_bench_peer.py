"""Rows of amalgam by FusionBench: its functions on tensors. Its own programs take models that they know from the hub (CLIP, GPT-2, …)
with data sets of theirs, which cannot be had offline; where a method needs statistics they are amalgam's."""

import contextlib
import io

import torch
from fusion_bench.method.dare.utils import module_random_drop_
from fusion_bench.method.fisher_merging.fisher_merging import merging_with_fisher_weights
from fusion_bench.method.model_stock.model_stock import compute_angle, compute_ratio
from fusion_bench.method.regmean.regmean import merging_with_regmean_weights
from fusion_bench.method.simple_average import simple_average
from fusion_bench.method.slerp.slerp import slerp_on_state_dicts
from fusion_bench.method.ties_merging.ties_merging_utils import state_dict_to_vector, ties_merging, vector_to_state_dict
from fusion_bench.utils.state_dict_arithmetic import state_dict_add, state_dict_mul, state_dict_sub, state_dict_sum
from result import Result, timed
from run_folder import Inputs, Row, Statistics, Tensors

TINY = 1e-30  # least Fisher information, absolute: as good as none


def add_scaled(base: Tensors, changes: list[Tensors], scale: float) -> Tensors:
    return state_dict_add(base, state_dict_mul(state_dict_sum(changes), scale))


def ties(row: Row, base: Tensors, experts: list[Tensors]) -> Tensors:
    flat = state_dict_to_vector(base)
    changes = torch.vstack([state_dict_to_vector(expert) for expert in experts]) - flat
    merged = ties_merging(changes, reset_thresh=row.options["density"], merge_func="mean")
    return vector_to_state_dict(flat + row.options["scale"] * merged, base)


def dare(row: Row, base: Tensors, experts: list[Tensors]) -> Tensors:
    torch.manual_seed(0)
    changes = [state_dict_sub(expert, base) for expert in experts]
    for change in changes:
        module_random_drop_(change, row.options["drop"], row.options["rescale"])
    inner = row.options["inner"]
    return add_scaled(base, changes, inner.get("scale", 0.3) if isinstance(inner, dict) else 0.3)


def model_stock(row: Row, base: Tensors, experts: list[Tensors]) -> Tensors:
    pairs = [compute_angle(a, b, base, ignore_keys=[]) for i, a in enumerate(experts) for b in experts[i + 1:]]
    ratio = compute_ratio({name: sum(pair[name] for pair in pairs) / len(pairs) for name in pairs[0]}, k=len(experts))
    mean = simple_average(experts)
    return {name: mean[name] * ratio[name] + base[name] * (1 - ratio[name]) for name in base}


def lists_of(experts: list[Tensors], names: list[str]) -> dict[str, list[torch.Tensor]]:
    return {name: [expert[name] for expert in experts] for name in names}


def fisher(row: Row, experts: list[Tensors], statistics: list[Statistics]) -> Tensors:
    names = [name for name in experts[0] if all(task.squared_gradient(name) is not None for task in statistics)]
    information = [{name: task.squared_gradient(name).float() for name in names} for task in statistics]
    return merging_with_fisher_weights(lists_of(experts, names), information, torch.tensor(list(row.weights.values())), False, TINY)


def regmean(row: Row, experts: list[Tensors], statistics: list[Statistics]) -> Tensors:
    layers = [layer for layer in statistics[0].layers if f"{layer}.weight" in experts[0]]
    grams = [{layer: task.input_gram(layer, False).float() for layer in layers} for task in statistics]
    return merging_with_regmean_weights(lists_of(experts, list(experts[0])), grams, row.options["off_diagonal"])


WITH_STATISTICS = {
    "fisher": (fisher, "FusionBench adds an absolute least information, amalgam (floor) one relative to the parameter's mean; float32 there"),
    "regmean": (regmean, "FusionBench leaves biases to the average, amalgam solves for weight and bias together, with a ridge; float32 inverse there"),
}
PLAIN = {
    "average": (lambda row, base, experts: simple_average(experts), ""),
    "task_arithmetic": (lambda row, base, experts: add_scaled(base, [state_dict_sub(expert, base) for expert in experts],
                                                              row.options["scale"]), ""),
    "ties": (ties, "FusionBench keeps one element more (kthvalue); it looks at all tensors together, as amalgam's trim: model"),
    "dare": (dare, "other draws"),
    "model_stock": (model_stock, "FusionBench takes the mean of the pairs' angles, amalgam of their cosines, and clamps t to 0 … 1"),
    "slerp": (lambda row, base, experts: slerp_on_state_dicts(row.options["t"], *experts), "an angle in float32, amalgam's in float64"),
}


def merge(row: Row, inputs: Inputs) -> Result | None:
    known = PLAIN.get(row.method) or WITH_STATISTICS.get(row.method)
    inner = row.options.get("inner", "task_arithmetic")
    if known is None or (inner if isinstance(inner, str) else inner["method"]) != "task_arithmetic":
        return None
    if len(set(row.weights.values())) > 1:
        return None  # it knows no weights of experts
    function, why = known

    def run() -> Tensors:
        base, experts = inputs.tensors(row.weights)
        # What a checkpoint holds beside the model (a pooler that is not used) has no part in what is counted over all tensors.
        base, *experts = ({name: tensors[name] for name in tensors if name in row.tensors} for tensors in (base, *experts))
        if row.method in PLAIN:
            return function(row, base, experts)
        return function(row, experts, [Statistics(inputs.statistics[task]) for task in row.weights])

    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        run()
        tensors, merging = timed(run)
    return Result(dict(tensors), merging, None, row.method == "dare", why)
