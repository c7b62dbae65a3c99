"""Rows of amalgam by mergekit. Its tool for checkpoints of any architecture (mergekit-pytorch) is used: the planner of mergekit 0.1.5
for known architectures fails on BERT's list of aliases (TypeError in MergePlanner.plan_tensor)."""

import logging
import tempfile
from dataclasses import dataclass, field

import torch
from mergekit.graph import Executor
from mergekit.io.tasks import SaveTensor
from mergekit.options import MergeOptions
from mergekit.scripts.merge_raw_pytorch import RawPyTorchMergeConfig, plan_flat_merge
from result import Result, timed
from run_folder import Inputs, Row

logging.disable(logging.WARNING)


@dataclass(frozen=True)
class Recipe:
    method: str
    parameters: dict = field(default_factory=dict)  # of all experts
    base: str | None = "base"  # "base", "first": the first expert, None
    random: bool = False
    why: str = ""


def recipe_of(row: Row) -> Recipe | None:
    """What mergekit calls the row's method and options; None where it has nothing like it."""
    o = row.options
    small = "mergekit takes a cosine or angle in float32, amalgam in float64"
    match row.method:
        case "average":
            return Recipe("linear", base=None)
        case "linear":
            if isinstance(o["weights"], (dict, list)) or o.get("by_layer"):
                return None
            return Recipe("linear", {"normalize": o["normalise"]}, base=None)
        case "task_arithmetic":
            return Recipe("task_arithmetic", {"lambda": o["scale"]})
        case "ties":
            return Recipe("ties", {"density": o["density"], "lambda": o["scale"]}, why="" if o["trim"] == "tensor" else
                          "mergekit trims each tensor by itself, amalgam as published all together (trim: tensor is mergekit's)")
        case "dare":
            inner = o["inner"] if isinstance(o["inner"], dict) else {"method": o["inner"]}
            kind = {"task_arithmetic": "dare_linear", "ties": "dare_ties"}.get(inner["method"])
            default = {"task_arithmetic": 0.3, "ties": 1.0}.get(inner["method"])
            return kind and Recipe(kind, {"density": 1 - o["drop"], "lambda": inner.get("scale", default)}, random=True, why=(
                "mergekit scales what is left to the L1 norm that it had, amalgam as published by 1 / (1 − p)"))
        case "della":
            return Recipe("della", {"density": 1 - o["drop"], "epsilon": o["window"] / 2, "lambda": o["scale"]}, random=True, why=(
                "mergekit scales what is left to the L1 norm that it had, amalgam as published each element by its own probability"))
        case "breadcrumbs":
            return Recipe("breadcrumbs", {"density": o["density"], "gamma": o["outliers"], "lambda": o["scale"]}, why=(
                "mergekit takes others of the changes of equal size at a threshold"))
        case "sce":
            return Recipe("sce", {"select_topk": o["density"]}, why=(
                "mergekit weighs experts alike where the sum of their mean squared changes is below 1e-6"))
        case "model_stock":
            return Recipe("model_stock", why="amalgam clamps t to 0 … 1; mergekit divides by norms of 1e-6 at least: " + small)
        case "karcher":
            return Recipe("karcher", {"max_iter": o["iterations"], "tol": o["tolerance"]}, base=None, why=small)
        case "slerp":
            return Recipe("slerp", {"t": o["t"]}, base="first", why=small)
    return None


def configuration(row: Row, recipe: Recipe, inputs: Inputs) -> RawPyTorchMergeConfig:
    def file(folder: object) -> str:
        return f"{folder}/model.safetensors"

    models = [{"model": file(inputs.experts[task]), "parameters": {"weight": weight}} for task, weight in row.weights.items()]
    base = {"base": file(inputs.base), "first": models[0]["model"], None: None}[recipe.base]
    return RawPyTorchMergeConfig(merge_method=recipe.method, models=models, parameters=recipe.parameters, base_model=base, dtype="float32")


def merge(row: Row, inputs: Inputs) -> Result | None:
    recipe = recipe_of(row)
    if recipe is None:
        return None
    torch.manual_seed(0)

    def run(write: bool) -> dict[str, torch.Tensor]:
        tasks = plan_flat_merge(configuration(row, recipe, inputs), folder, False, False, MergeOptions(quiet=True))
        wanted = tasks if write else [task.tensor_task for task in tasks if isinstance(task, SaveTensor)]
        found = {}
        for task, value in Executor(wanted, math_device="cpu", storage_device="cpu").run(quiet=True):
            if not write:
                found[task.output_weight.name] = value
        return found

    with tempfile.TemporaryDirectory() as folder:
        run(False)  # the files come into the cache, as amalgam's are
        tensors, merging = timed(run, False)
        _, whole = timed(run, True)
    return Result(tensors, merging, whole, recipe.random, recipe.why)
